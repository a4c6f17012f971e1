"""The section `ingest` of params.yaml."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.ingest.patients import PatientIds
from pipelines.records import SPLITS, BurnedInPolicy, Sides
from pipelines.sources import MAX_PIXELS
from pipelines.storage import RawCache, Root, check_root, root_of


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One data set.

    Attributes:
        adapter: Plug-in of the kind `sources`.
        root: Its folder or archive, relative to the folder of params.yaml, or a URL of one (`pipelines.storage`).
        limit: Largest number of images, in all or per published split; null takes everything. The choice goes by a
            hash of the file's name, so that it depends neither on the order of the files nor on the other splits.
        options: The adapter's own settings.
        licence: Under which terms it may be used; the report and the dataset card show it.
        patient_ids: confidential ids are hashed with the key in `IngestConfig.keys`; public ones, of published sets,
            without.
        sides: Whose left and right the texts and labels mean, the patient's or the image's; null: as the adapter
            declares, else training reports vote beside masks (`pipelines.split.sides`).
        annotated_pixels: In which pixels boxes and masks of a picture with an EXIF orientation are given: shown, as
            viewers and labelling tools turn it, or stored, as libraries that ignore the orientation read it. A mask
            with an orientation of its own is turned by that one.
        burned_in: What becomes of images with text in their pixels (`pipelines.ingest.burned_in`); null: nobody looks.
    """

    adapter: str
    root: str
    limit: int | dict[str, int] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    patient_ids: PatientIds = "confidential"
    sides: Sides | None = None
    annotated_pixels: Literal["shown", "stored"] = "shown"
    burned_in: BurnedInPolicy | None = None

    def __post_init__(self) -> None:
        check_root(self.root)
        limits = self.limit if isinstance(self.limit, dict) else {} if self.limit is None else {"": self.limit}
        if wrong := limits.keys() - {*SPLITS, ""}:
            raise ValueError(f"limit: {sorted(wrong)} is no split: choose from {', '.join(SPLITS)}")
        if any(count < 0 for count in limits.values()):
            raise ValueError("limit: a number of images cannot be negative")


@dataclass(frozen=True, kw_only=True)
class IngestConfig:
    """All data sets.

    Attributes:
        sources: Settings of each, by the name that the tables give it.
        max_pixels: An image of more is rejected before it is decoded.
        max_failed_fraction: Largest fraction (0 to 1) of a source's rows that may fail before the stage stops.
        keys: Folder of the key that confidential patient ids are hashed with (`pipelines.keys`).
        raw_cache: Where copies of files lie whose source's root is a URL.
    """

    sources: dict[str, SourceConfig]
    max_pixels: int
    max_failed_fraction: float
    keys: str = "keys"
    raw_cache: RawCache = field(default_factory=RawCache)

    def __post_init__(self) -> None:
        for name in self.sources:
            if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
                raise ValueError(f"source {name!r}: a name is made of a-z, 0-9, _ and -, for it names folders")
        if not 1 <= self.max_pixels <= MAX_PIXELS:
            raise ValueError(f"max_pixels lies between 1 and {MAX_PIXELS}, which the later stages read at most")
        if not 0 <= self.max_failed_fraction <= 1:
            raise ValueError("max_failed_fraction lies between 0 and 1")

    def roots(self) -> dict[str, Root]:
        """Folder or archive of each source."""
        return {name: root_of(source.root, self.raw_cache) for name, source in self.sources.items()}

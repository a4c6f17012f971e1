"""Images of a source as their rows come in, and where they wait: on the disk, with some numbers of each in memory."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from pipelines.cuts import Axis
from pipelines.images import PixelBox, is_near_uniform
from pipelines.ingest.annotations import DecodedRegion, RowAnnotations
from pipelines.ingest.key_index import KeyIndex, hash_of
from pipelines.ingest.mask_files import DecodedMask
from pipelines.ingest.record import SourceRecord
from pipelines.records import AnnotationRow, BurnedIn, ImageRow, Modality, Sides, Split, View
from pipelines.spill import Spill

PROTECTION = ("test", "validation", "train", None)  # splits, the most protected first


def most_protected(splits: Iterable[str | None]) -> str | None:
    """The split that an image listed in all of these belongs to."""
    return min(splits, key=PROTECTION.index)


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """What a file and its pixels say; the fields are columns of the table of images."""

    image_id: str
    path: str
    member: str | None
    frame: int | None
    axis: Axis | None
    volume: int | None
    sha256: str
    burned_in: BurnedIn | None
    hidden: tuple[PixelBox, ...]
    pixel_sha256: str
    perceptual_hash: str
    thumbnail: bytes
    width: int
    height: int

    def key(self) -> str:
        """What two rows of one image share: its pixels, or its file where those say nothing."""
        return self.image_id if is_near_uniform(self.thumbnail) else self.pixel_sha256


@dataclass(kw_only=True)
class MergedImage:
    """One image as its rows come in; the first of them gives file and modality.

    Attributes:
        key: What its rows share (`ImageFile.key`).
        patient: Hash that a row or its file's header gives.
        study: Hash of the header's study, or what stands for its volume.
    """

    key: str
    file: ImageFile
    modality: str
    rows: int = 0
    split: str | None = None
    split_conflict: bool = False
    view: str | None = None
    patient: str | None = None
    study: str | None = None
    reports: list[str] = field(default_factory=list)
    labels: tuple[str, ...] | None = None
    mask: DecodedMask | None = None
    regions: tuple[DecodedRegion, ...] = ()
    look_alikes: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)

    def add(self, record: SourceRecord, patient: str | None, study: str | None, annotations: RowAnnotations) -> None:
        self.rows += 1
        self.split_conflict |= None not in (self.split, record.split) and self.split != record.split
        self.split = most_protected((self.split, record.split))
        self.view = record.view if self.view is None else self.view
        self.patient = patient if self.patient is None else self.patient
        self.study = study if self.study is None else self.study
        if record.report is not None and record.report.strip() and record.report not in self.reports:
            self.reports.append(record.report)
        self.mask = annotations.mask if self.mask is None else self.mask
        self.regions = self.regions or annotations.regions
        self.look_alikes = self.look_alikes or annotations.look_alikes
        self.attributes = {**record.attributes, **self.attributes}
        if annotations.labels is not None:
            self.labels = self.labels or annotations.labels

    def is_of(self, file: ImageFile, patient: str | None) -> bool:
        """Whether a row of this file's name, and of this patient or of none, adds to the image."""
        return file.path == self.file.path and (patient == self.patient or None in (patient, self.patient))

    def annotated(self) -> tuple[DecodedRegion, ...]:
        """Its annotations: its regions, or where it has none its mask, unless that is empty."""
        if self.regions or self.mask is None or self.mask.is_empty:
            return self.regions
        return (DecodedRegion(label=None, adjective=None, phrase=None, box=None, mask=self.mask),)

    def counts(self) -> dict[str, int]:
        """What the image adds to figures of the summary."""
        annotations = len(self.annotated())
        return {
            "annotations": annotations,
            "look_alikes": len(self.look_alikes),
            "with_attributes": int(bool(self.attributes)),
            # Anatomy, or a contradiction.
            "no_finding_with_annotations": int(self.labels == () and annotations > 0),
            "several_reports": int(len(self.reports) > 1),
        }

    def image_row(self, source: str, patient: str | None, study: str | None, sides: Sides | None) -> ImageRow:
        """Its row of the table of images; patient and study as they are known when all rows were added."""
        return ImageRow(
            **vars(self.file),
            source=source,
            modality=cast(Modality, self.modality),  # the row checks the words
            view=cast(View | None, self.view),
            patient=patient,
            study=study,
            split=cast(Split | None, self.split),
            split_conflict=self.split_conflict,
            report=next(iter(self.reports), None),
            other_reports=tuple(self.reports[1:]),
            labels=self.labels,
            attributes=dict(sorted(self.attributes.items())),
            look_alikes=self.look_alikes,
            mask_path=None if self.mask is None else self.mask.path,
            mask_sha256=None if self.mask is None else self.mask.sha256,
            sides=sides,
            rows=self.rows,
        )

    def annotation_rows(self, source: str) -> Iterator[AnnotationRow]:
        """Its rows of the table of annotations, in their order."""
        for n, region in enumerate(self.annotated()):
            x0, y0, x1, y1 = region.box or (None, None, None, None)
            yield AnnotationRow(
                image_id=self.file.image_id,
                source=source,
                n=n,
                label=region.label,
                adjective=region.adjective,
                phrase=region.phrase,
                x0=x0,
                y0=y0,
                x1=x1,
                y1=y1,
                mask=None if region.mask is None else region.mask.rle,
                mask_path=None if region.mask is None else region.mask.path,
                mask_value=None if region.mask is None else region.mask.value,
                mask_sha256=None if region.mask is None else region.mask.sha256,
            )


class MergedImages:
    """The images of a source by their keys.

    Args:
        folder: Where they lie while they are needed.
    """

    def __init__(self, folder: Path) -> None:
        self._stored: Spill[MergedImage] = Spill(folder)
        self._index = KeyIndex()
        self._places = array("Q")  # image -> where it lies, as it is now
        self._ids = array("Q")  # image -> image_id
        # The last one is put away when another comes, for the rows of an image mostly stand together.
        self._last: tuple[int, MergedImage] | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, key: str) -> MergedImage | None:
        """The image of a key; it may be changed until another one is got or added."""
        if self._last is not None and self._last[1].key == key:
            return self._last[1]
        self._put_away()
        for number in self._index.find(hash_of(key)):
            image = self._stored[self._places[number]]
            if image.key == key:
                self._last = number, image
                return image
        return None

    def add(self, image: MergedImage) -> None:
        """Take in an image whose key is new; it may be changed until another one is got or added."""
        self._put_away()
        number = len(self._ids)
        self._index.add(hash_of(image.key), number)
        self._ids.append(int(image.file.image_id, 16))
        self._places.append(0)
        self._last = number, image

    def __iter__(self) -> Iterator[MergedImage]:
        """All images, in the order in which they came."""
        self._put_away()
        return map(self._stored.__getitem__, self._places)

    def by_image_id(self) -> Iterator[MergedImage]:
        self._put_away()
        return (self._stored[self._places[number]] for number in np.argsort(np.array(self._ids), kind="stable"))

    def _put_away(self) -> None:
        if self._last is not None:
            number, image = self._last
            self._places[number] = self._stored.add(image)
            self._last = None

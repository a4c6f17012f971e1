"""What a captioner is, and what passes between it and the stage.

A captioner sees the evidence that `pipelines.captions.evidence` allows and nothing else: annotations of validation and
test images never reach it, except for items that are marked `oracle`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pipelines.captions.answer import ImageAnswer, RegionAnswer
from pipelines.captions.config import Modality
from pipelines.captions.geometry import Geometry

Kind = Literal["image", "region"]
Basis = Literal["report", "labels", "annotation", "proposal"]


@dataclass(frozen=True, kw_only=True)
class RegionItem:
    """A region to describe.

    Attributes:
        region_id: Its id.
        image: Row of `SPLIT_IMAGES`.
        modality: How such an image is spoken of.
        patient_side: Positions name the patient's left and right.
        box: x0, y0, x1, y1 in pixels.
        label: What the source calls it; None: nobody named it, and no captioner may.
        adjective: The source's own; None: nobody said.
        geometry: What was measured.
        basis: What the region comes from.
        oracle: It comes from annotations of a validation or test image.
    """

    region_id: str
    image: dict[str, Any]
    modality: Modality
    patient_side: bool
    box: tuple[float, float, float, float]
    label: str | None
    adjective: str | None
    geometry: Geometry
    basis: Basis
    oracle: bool
    kind: Literal["region"] = "region"


@dataclass(frozen=True, kw_only=True)
class ImageItem:
    """An image to describe.

    Attributes:
        image: Row of `SPLIT_IMAGES` with its report and labels.
        modality: How such an image is spoken of.
        patient_side: Positions name the patient's left and right.
        regions: Annotated regions that may be spoken of, in the order of `n`.
        basis: The strongest of what is known.
        oracle: As `CAPTIONS` has it.
    """

    image: dict[str, Any]
    modality: Modality
    patient_side: bool
    regions: tuple[RegionItem, ...]
    basis: Basis
    oracle: bool
    kind: Literal["image"] = "image"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An item without an answer: rejected for good, or failed and worth another run."""

    status: Literal["rejected", "failed"]
    reason: str


Item = ImageItem | RegionItem
Answer = ImageAnswer | RegionAnswer | Refusal


class Captioner(Protocol):
    """Evidence -> the paper's annotation. It is built with the prompts' folder and the seed."""

    def describe(self, items: Iterable[Item]) -> Iterator[Answer]:
        """One answer an item, in the order of the items; an `ImageAnswer` for an `ImageItem` and so on.

        Items come as a stream, so that a captioner behind a network may work on several at a time.
        """
        ...

    def prompt_sha256(self, kind: Kind) -> str:
        """Digest of the prompt files that decide the answers of one kind."""
        ...

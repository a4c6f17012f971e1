"""What a captioner is, and what passes between it and the stage.

A captioner sees the evidence that `pipelines.captions.evidence` allows and nothing else: annotations of validation and
test images never reach it, except for items that are marked `oracle`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.captions.answer import ImageAnswer, RegionAnswer
from pipelines.captions.config import Modality, Sizes
from pipelines.captions.geometry import Geometry

Kind = Literal["image", "region"]
Basis = Literal["report", "labels", "annotation", "proposal", "pixels"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a captioner is built with.

    Attributes:
        prompts: Folder of its prompt files.
        seed: Decides whatever it draws.
        options: Its own section of `captions.options`, as params.yaml holds it.
        sizes: Area shares that part the sizes, as `geometry_check` needs them.
        roots: Folder or archive of each source, for captioners that see the pixels.
        max_pixels: A picture of more is not decoded.
        store: File of the result cache, for captioners whose answers cost something.
    """

    prompts: Path
    seed: int
    options: dict[str, Any]
    sizes: Sizes
    roots: dict[str, Path]
    max_pixels: int
    store: Path


@dataclass(frozen=True, kw_only=True)
class RegionItem:
    """A region to describe.

    Attributes:
        region_id: Its id.
        image: Row of `SPLIT_IMAGES`.
        modality: How such an image is spoken of.
        patient_side: Positions name the patient's left and right.
        box: x0, y0, x1, y1 in pixels.
        mask: As `REGIONS` has it; None: the box is all there is.
        label: What the source calls it; None: nobody named it. Only a captioner that looks at the pixels may then.
        labels: Findings of its image that a model may be told.
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
    mask: str | None
    label: str | None
    labels: tuple[str, ...]
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
        labels: Findings that a model may be told; (): the source says that there is none; None: unknown or withheld.
        basis: The strongest of what is known.
        oracle: As `CAPTIONS` has it.
    """

    image: dict[str, Any]
    modality: Modality
    patient_side: bool
    regions: tuple[RegionItem, ...]
    labels: tuple[str, ...] | None
    basis: Basis
    oracle: bool
    kind: Literal["image"] = "image"


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """An item without an answer: rejected for good, or failed and worth another run.

    Attributes:
        status: Which of the two.
        reason: Reason code.
        raw_answer: What a model said last, where that is why.
    """

    status: Literal["rejected", "failed"]
    reason: str
    raw_answer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What came of asking a model.

    Attributes:
        answer: The answer, or why there is none.
        attempts: How many of the model's answers were read, the last one included.
    """

    answer: ImageAnswer | RegionAnswer | Refusal
    attempts: int


Item = ImageItem | RegionItem
Answer = ImageAnswer | RegionAnswer | Refusal | Asked


class Captioner(Protocol):
    """Evidence -> the paper's annotation. It is built with `Settings`.

    Attributes:
        sees_pixels: It looks at the image itself: it also describes images of which nobody said anything, and names
            regions that nobody named.
    """

    sees_pixels: bool

    def describe(self, items: Iterable[Item]) -> Iterator[Answer]:
        """One answer an item, in the order of the items; an `ImageAnswer` for an `ImageItem` and so on.

        Items come as a stream, so that a captioner behind a network may work on several at a time.
        """
        ...

    def prompt_sha256(self, kind: Kind) -> str:
        """Digest of the prompt files that decide the answers of one kind."""
        ...

    def counts(self) -> dict[str, Any]:
        """What summary.json shall say of the asking, such as `asked` and `reused`; {} where nobody was asked."""
        ...

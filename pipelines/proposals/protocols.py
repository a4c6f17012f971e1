"""What a proposer and a segmenter are, and what passes between them and the stage.

A plug-in is a class that is called with its options (a dict from `proposals.options.<name>` in params.yaml) and refuses
unknown ones with a `UserError`. It must be deterministic: the same image gives the same answer in any process and in
any batch. Weights are loaded when the first image comes, for a run that finds every answer in the result cache needs
none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from models.geometry import Box, Mask
from pipelines.code.closure import closure_digest
from pipelines.files import digest_of


@dataclass(frozen=True, kw_only=True)
class SourceAnnotation:
    """One annotation of the source, its mask decoded.

    Attributes:
        box: In pixels of the image; None where the source gives only a mask.
        mask: height x width of the image; None where the source gives only a box. At least one of the two is there.
        phrase: The source's own sentence about it.
    """

    label: str | None
    adjective: str | None
    box: Box | None
    mask: Mask | None
    phrase: str | None = None


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a proposer may know about an image beside its pixels.

    Attributes:
        modality: One of `pipelines.records.MODALITIES`.
        annotations: The source's annotations; empty for a proposer that does not declare `sees_annotations`.
        phrases: What to look for; empty for a proposer that does not declare `uses_phrases`.
    """

    modality: str
    annotations: Sequence[SourceAnnotation] = ()
    phrases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One region that a proposer suggests.

    Attributes:
        box: In pixels of the image; the stage clips it to the image.
        score: Confidence, 0 to 1.
        label: What the region is called; None unless somebody named it.
        adjective: Shape or appearance, where the source says.
        phrase: The source's own sentence about it.
        mask: height x width of the image; None asks the segmenter for one.
    """

    box: Box
    score: float
    label: str | None = None
    adjective: str | None = None
    phrase: str | None = None
    mask: Mask | None = None


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What a segmenter answers for one box.

    Attributes:
        mask: height x width of the image.
        quality: The segmenter's own estimate, 0 to 1.
        stability: IoU of the masks at two thresholds around the one used, 0 to 1 (Kirillov et al., "Segment Anything",
            2023, appendix B).
    """

    mask: Mask
    quality: float
    stability: float


class Proposer(Protocol):
    """Images -> regions.

    Attributes:
        sees_annotations: Whether it reads `Query.annotations`; only `annotations` may.
        uses_phrases: Whether it reads `Query.phrases`.
    """

    sees_annotations: bool
    uses_phrases: bool

    @property
    def identity(self) -> str:
        """Digest of everything that decides its answers, part of the result cache's keys.

        `code_identity` or `weights_identity` makes it.
        """
        ...

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> Iterable[Iterable[Proposal]]:
        """Regions of each image (mode L or RGB), in the order of the images.

        An image's regions may come one by one, so that a mask need not stay in memory.
        """
        ...


class Segmenter(Protocol):
    """Images and boxes -> masks."""

    @property
    def identity(self) -> str:
        """As `Proposer.identity`."""
        ...

    def segment(self, images: Sequence[Image.Image], boxes: Sequence[Sequence[Box]]) -> Iterable[Iterable[Segment]]:
        """One segment a box, in the order of the images (mode L or RGB) and of each image's boxes.

        An image comes once for all its boxes, so that a segmenter with an image encoder runs that once. Boxes lie
        inside the image and have an area; every image has at least one. An image's segments may come one by one.
        """
        ...


def code_identity(plugin: object, *facts: Any) -> str:
    """Identity of a plug-in whose code decides its answers.

    Args:
        plugin: The plug-in; its module and all that this imports count.
        facts: JSON values that decide answers, such as options.
    """
    kind = type(plugin)
    return digest_of([f"{kind.__module__}.{kind.__qualname__}", closure_digest(kind.__module__), *facts])


def weights_identity(plugin: object, answer_format: int, *facts: Any) -> str:
    """Identity of a plug-in whose weights decide its answers, so that an edit of its code throws none of them away.

    Args:
        plugin: The plug-in.
        answer_format: A constant of its module, to be raised when the code makes other answers of the same weights.
        facts: JSON values that decide answers, such as `Checkpoint.facts` and options.
    """
    kind = type(plugin)
    return digest_of([f"{kind.__module__}.{kind.__qualname__}", answer_format, *facts])

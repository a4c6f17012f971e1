"""What a proposer and a segmenter are, and what passes between them and the stage.

A plug-in is a class that is called with its options (a dict from `regions.options.<name>` in params.yaml) and refuses
unknown ones with a `UserError`. It must be deterministic: the same picture gives the same answer in any process.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.masks import Box

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Given:
    """One annotation of the source, its mask decoded.

    Attributes:
        box: In pixels of the image; None where the source gives only a mask.
        mask: height x width of the image; None where the source gives only a box. At least one of the two is there.
    """

    label: str | None
    adjective: str | None
    box: Box | None
    mask: Mask | None


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a proposer may know about an image beside its pixels.

    Attributes:
        modality: One of `pipelines.records.MODALITIES`.
        given: The source's annotations; empty for a proposer that does not declare `sees_annotations`.
    """

    modality: str
    given: Sequence[Given]


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """One region that a proposer suggests.

    Attributes:
        box: In pixels of the image; the stage clips it to the image.
        score: Confidence, 0 to 1.
        label: What the region is called; None unless somebody named it.
        adjective: Shape or appearance, where the source says.
        mask: height x width of the image; None asks the segmenter for one.
    """

    box: Box
    score: float
    label: str | None = None
    adjective: str | None = None
    mask: Mask | None = None


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A mask (height x width of the image) and the segmenter's own estimate of its quality, 0 to 1."""

    mask: Mask
    quality: float


class Proposer(Protocol):
    """Image -> regions.

    Attributes:
        sees_annotations: Whether it reads `Query.given`. Such a proposer is refused for validation and test images.
    """

    sees_annotations: bool

    def propose(self, image: Image.Image, query: Query) -> Iterable[Proposal]:
        """Regions of an image of mode L or RGB; one by one, so that a mask need not stay in memory."""
        ...


class Segmenter(Protocol):
    """Image and boxes -> masks."""

    def segment(self, image: Image.Image, boxes: Sequence[Box]) -> Iterable[Segment]:
        """One segment a box, in the order of the boxes.

        The image comes once for all its boxes, so that a segmenter with an image encoder runs that once. Boxes lie
        inside the image and have an area.
        """
        ...

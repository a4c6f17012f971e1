"""The proposer `annotations`: the source's own boxes and masks."""

from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image
from skimage.measure import label as label_components
from skimage.measure import regionprops

from models.geometry import Box, Mask, mask_in_box
from pipelines.errors import UserError
from pipelines.proposals.protocols import Proposal, Query, SourceAnnotation, code_identity


class Annotations:
    """One region a box; one region a connected component (8-connectivity) where a mask comes without a box.

    A box with a mask stays one region, its mask cut to the box. Scores are 1: a person stood behind each of them.
    """

    sees_annotations = True
    uses_phrases = False

    def __init__(self, options: dict[str, Any]) -> None:
        if options:
            raise UserError(f"proposals.options.annotations: the proposer takes no options, remove {sorted(options)}")

    @property
    def identity(self) -> str:
        return code_identity(self)

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> Iterator[Iterator[Proposal]]:
        return map(_propose, queries)


def _propose(query: Query) -> Iterator[Proposal]:
    for annotation in query.annotations:
        for box, mask in _parts(annotation):
            yield Proposal(
                box=box,
                score=1.0,
                label=annotation.label,
                adjective=annotation.adjective,
                phrase=annotation.phrase,
                mask=mask,
            )


def _parts(annotation: SourceAnnotation) -> Iterator[tuple[Box, Mask | None]]:
    if annotation.box is not None:
        yield annotation.box, None if annotation.mask is None else _cut(annotation.mask, annotation.box)
    elif annotation.mask is not None:
        components = label_components(annotation.mask, connectivity=2)
        for part in regionprops(components):
            y0, x0, y1, x1 = (float(edge) for edge in part.bbox)
            yield (x0, y0, x1, y1), components == part.label


def _cut(mask: Mask, box: Box) -> Mask | None:
    """The part of a mask inside a box; None where nothing is left."""
    inside = mask_in_box(mask, box)
    return inside if inside.any() else None

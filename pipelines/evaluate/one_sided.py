"""The texts of a split that name exactly one side, for the task `laterality`."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.tasks.retrieval import Retrieval
from pipelines.sides import named_side


@dataclass(frozen=True)
class OneSidedText:
    """A text of one image.

    Attributes:
        index: Of the image in `EvaluationSet.images`.
        text: As its source wrote it, or a caption.
        side: left or right.
    """

    index: int
    text: str
    side: str


def reports(images: Sequence[EvaluationImage]) -> list[OneSidedText]:
    """The reports that were not made from annotations."""
    return [
        text
        for index, image in enumerate(images)
        if Retrieval.skip_reason(image) is None
        for text in _one_sided(index, [image.report])
    ]


def phrases(images: Sequence[EvaluationImage]) -> list[OneSidedText]:
    """The phrases of each image's regions (the source's own, or the captions), equal ones once; else its report."""
    return [
        text
        for index, image in enumerate(images)
        for text in _one_sided(index, [region.phrase or region.caption for region in image.regions] or [image.report])
    ]


def mask_texts(images: Sequence[EvaluationImage]) -> list[OneSidedText]:
    """The report of each image; where it has none of its own, the captions together."""
    return [
        text
        for index, image in enumerate(images)
        for text in _one_sided(index, [image.report if Retrieval.skip_reason(image) is None else image.truth_text])
    ]


def _one_sided(index: int, texts: Sequence[str | None]) -> list[OneSidedText]:
    found = ((text, named_side(text)) for text in dict.fromkeys(texts))
    return [OneSidedText(index, text, side) for text, side in found if text and side]

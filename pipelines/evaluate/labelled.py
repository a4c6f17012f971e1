"""The images of a split whose labels are known, by source: the labels of other sources are unknown, not negative."""

from collections.abc import Sequence

from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.source_classes import class_set


def labelled_rows(images: Sequence[EvaluationImage]) -> dict[str, list[int]]:
    """Source -> places of its images whose labels are known."""
    rows: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        if image.labels is not None:
            rows.setdefault(image.source, []).append(index)
    return rows


def label_set(image: EvaluationImage) -> frozenset[str]:
    """Its labels; those of an image without finding are `No Finding`."""
    return class_set(image.labels or ())

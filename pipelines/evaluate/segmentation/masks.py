"""The masks that a method predicts for the test images, one image at a time."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.data.shards import Sample
from models.geometry import Mask, fitted_size
from pipelines.evaluate.evaluation_set import EvaluationSet

THRESHOLD = 0.5

T = TypeVar("T", bound=np.generic)


def predicted_masks(
    test: EvaluationSet, texts: Mapping[int, Mapping[str, str]]
) -> Iterator[tuple[int, Sample, dict[str, Mask]]]:
    """Segment images with several texts each.

    Equal texts of an image are segmented once; for a method that ignores the text, all texts of an image are.

    Args:
        test: The method and the images.
        texts: Index in `test.images` -> text by name; the indices ascend.

    Yields:
        Index, image, and mask by name: (height, width) of the image, without the padding of the square.
    """
    read = {
        index: {name: text if test.model.reads_text else "" for name, text in by_name.items()}
        for index, by_name in texts.items()
    }
    pairs = [(index, text) for index, by_name in read.items() for text in dict.fromkeys(by_name.values())]
    predictions = test.segment(pairs)
    for index, by_name in read.items():
        by_text = {}
        for text in dict.fromkeys(by_name.values()):
            sample, probability = next(predictions)
            by_text[text] = without_padding(sample, probability > THRESHOLD)
        yield index, sample, {name: by_text[text] for name, text in by_name.items()}


def without_padding(sample: Sample, square: NDArray[T]) -> NDArray[T]:
    """The part of a square (side, side, ...) that the image fills."""
    width, height = fitted_size(sample.meta.width, sample.meta.height, len(square))
    return square[:height, :width]

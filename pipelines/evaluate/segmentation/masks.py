"""What a method finds in the test images, one image at a time."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.data.shards import Sample
from models.geometry import fitted_size
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.segmentation.metrics import Mask

THRESHOLD = 0.5

T = TypeVar("T", bound=np.generic)


def reads_text(model: Any) -> bool:
    """Whether a text changes anything; a method that does not say so is taken to read it."""
    return getattr(model, "reads_text", True)


def masks(test: EvaluationSet, asked: Mapping[int, Mapping[str, str]]) -> Iterator[tuple[int, Sample, dict[str, Mask]]]:
    """Segment images with several texts each; equal texts of an image are asked once, all of a text-free method are.

    Args:
        test: The method and the images.
        asked: Place in `test.items` -> text by name; the places ascend.

    Yields:
        Place, image, and mask by name: (height, width) of the picture, without the padding of the square.
    """
    reads = reads_text(test.model)
    read = {place: {name: text if reads else "" for name, text in texts.items()} for place, texts in asked.items()}
    different = [(place, text) for place, texts in read.items() for text in dict.fromkeys(texts.values())]
    answers = test.segment(different)
    for place, texts in read.items():
        by_text = {}
        for text in dict.fromkeys(texts.values()):
            sample, probability = next(answers)
            by_text[text] = of_picture(sample, probability > THRESHOLD)
        yield place, sample, {name: by_text[text] for name, text in texts.items()}


def of_picture(sample: Sample, square: NDArray[T]) -> NDArray[T]:
    """The part of a square (side, side, ...) that the picture fills."""
    width, height = fitted_size(sample.meta.width, sample.meta.height, len(square))
    return square[:height, :width]

"""The proposer `saliency`: no weights; regions that are brighter or darker than their surroundings.

Blobs as in Lindeberg, "Feature detection with automatic scale selection", IJCV 30 (1998), by differences of Gaussians
(Lowe, IJCV 60, 2004), each grown to the connected area around it that stands out at least a fifth as much. The black
surroundings of an endoscope's or a fundus camera's field count as unknown, not as dark (normalised convolution,
Knutsson and Westin, CVPR 1993).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter, label, maximum_filter

from models.geometry import Box, box_of_mask, suppress
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.proposals.protocols import Proposal, Query, code_identity

# Work at this size: regions worth a caption are large against it, and a 4,000-pixel image costs no more than another.
_WORKING_SIDE = 128
_BLACK = 12
_SURROUND = 2.5
_LEAST_CONTRAST = 0.03
_FOOT = 0.2
_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])

Blob = tuple[Box, float]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Section `proposals.options.saliency`.

    Attributes:
        scales: Standard deviations of the blobs searched, as fractions of the image's longer side.
        overlap: Largest IoU (0 to 1) of two boxes; of two that overlap more, the one with the lower score goes.
    """

    scales: tuple[float, ...] = (0.02, 0.04, 0.08, 0.14, 0.2)
    overlap: float = 0.3

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0 or max(self.scales) > 0.5:
            raise UserError("proposals.options.saliency.scales: name at least one fraction above 0 and up to 0.5")


class Saliency:
    """Bright and dark blobs of several scales.

    The score is the blob's contrast: the Gaussian-weighted mean around its peak against that of its surroundings, as a
    fraction of the image's grey range (1st to 99th percentile). It ranks; it is no probability of a finding.
    """

    sees_annotations = False
    uses_phrases = False

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Options, options, "proposals.options.saliency")

    @property
    def identity(self) -> str:
        return code_identity(self, asdict(self.options))

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> Iterator[list[Proposal]]:
        return map(self._propose, images)

    def _propose(self, image: Image.Image) -> list[Proposal]:
        zoom = _WORKING_SIDE / max(image.size)
        size = max(1, round(image.width * zoom)), max(1, round(image.height * zoom))
        grey = np.asarray(
            image.convert("L").resize(size, Image.Resampling.BOX if zoom < 1 else Image.Resampling.BILINEAR)
        )
        field = _field(grey)
        if not field.any():
            return []
        low, high = np.percentile(grey[field], (1, 99))
        if low == high:
            return []
        values = np.clip((grey.astype(np.float32) - low) / (high - low), 0, 1)
        blobs: list[Blob] = []
        sigmas = [scale * _WORKING_SIDE for scale in self.options.scales]
        means = _means(values, field, {*sigmas, *(_SURROUND * sigma for sigma in sigmas)})
        for sigma in sigmas:
            contrast = means[sigma] - means[_SURROUND * sigma]
            contrast[~field] = 0
            for sign in (1, -1):
                blobs += _blobs(sign * contrast, sigma)
        right, down = image.width / size[0], image.height / size[1]
        boxes, scores = [box for box, _ in blobs], [score for _, score in blobs]
        return [
            Proposal(
                box=(boxes[index][0] * right, boxes[index][1] * down, boxes[index][2] * right, boxes[index][3] * down),
                score=min(scores[index], 1.0),
            )
            for index in suppress(boxes, scores, self.options.overlap)
        ]


def _field(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that show something: all but the black areas that reach the image's border."""
    # A frame of black pixels joins all black areas that reach the border, so that they are one with its corner.
    areas, _ = label(np.pad(grey < _BLACK, 1, constant_values=True), structure=np.ones((3, 3)))
    outside = areas[1:-1, 1:-1] == areas[0, 0]
    return binary_erosion(~outside, iterations=2, border_value=1)


def _means(
    values: NDArray[np.floating], field: NDArray[np.bool_], sigmas: set[float]
) -> dict[float, NDArray[np.floating]]:
    """Gaussian means over the pixels of the field only, by standard deviation."""
    weighted = values * field
    means = {}
    for sigma in sigmas:
        weight = _whole_weight(field.shape, sigma) if field.all() else _blur(field.astype(np.float32), sigma)
        means[sigma] = _blur(weighted, sigma) / np.maximum(weight, 1e-6)
    return means


@lru_cache(maxsize=32)
def _whole_weight(shape: tuple[int, ...], sigma: float) -> NDArray[np.float32]:
    """The weights of a field without black surroundings, which most images of one size share."""
    return _blur(np.ones(shape, dtype=np.float32), sigma)


def _blur(array: NDArray[np.floating], sigma: float) -> NDArray[np.floating]:
    return gaussian_filter(array, sigma, mode="constant", truncate=2.0)


def _blobs(contrast: NDArray[np.floating], sigma: float) -> list[Blob]:
    """Box and peak of each area that stands out, given the contrast (height x width), positive where it does."""
    pixels = _peaks(contrast, max(1, round(sigma)))
    heights = [float(contrast[pixel]) for pixel in pixels]
    boxes = _boxes(contrast, pixels, [height * _FOOT for height in heights])
    return list(zip(boxes, heights, strict=True))


def _peaks(contrast: NDArray[np.floating], distance: int) -> list[tuple[int, int]]:
    """(row, column) of each pixel that no other within `distance` rows and columns exceeds, the highest first.

    Of pixels that are equally high and nearer than `distance` to each other, the first from the top left stays.
    """
    highest = contrast == maximum_filter(contrast, 2 * distance + 1, mode="nearest")
    rows, columns = np.nonzero(highest & (contrast > _LEAST_CONTRAST))
    heights = contrast[rows, columns]
    peaks: list[tuple[int, int]] = []
    equal: list[tuple[int, int]] = []
    last = None
    for index in np.argsort(-heights, kind="stable").tolist():
        row, column, height = int(rows[index]), int(columns[index]), float(heights[index])
        if height != last:
            # A lower pixel cannot be the highest within reach of a higher one: only equals can be too near.
            last, equal = height, []
        if all(max(abs(row - y), abs(column - x)) >= distance for y, x in equal):
            equal.append((row, column))
            peaks.append((row, column))
    return peaks


def _boxes(contrast: NDArray[np.floating], pixels: list[tuple[int, int]], feet: list[float]) -> list[Box]:
    """For each pixel the box of the 4-connected area around it that is at least as high as its foot.

    An area shrinks as the foot rises. So it is looked for in the box that it has at a lower foot alone, and where its
    boxes at a lower and at a higher foot are equal, so are those between: halving the sorted feet again and again
    finds all boxes, while few feet need the whole image.
    """
    everywhere = (0.0, 0.0, float(contrast.shape[1]), float(contrast.shape[0]))
    order = sorted(range(len(pixels)), key=feet.__getitem__)
    boxes: dict[int, Box] = {}
    nothing: dict[int, Box] = {}
    waiting = [(order, dict.fromkeys(order, everywhere), nothing)]
    while waiting:
        between, lower, higher = waiting.pop()
        boxes |= {index: lower[index] for index in between if lower[index] == higher.get(index)}
        if between := [index for index in between if index not in boxes]:
            half = len(between) // 2
            at_half = _boxes_at(contrast, feet[between[half]], {index: pixels[index] for index in between}, lower)
            boxes[between[half]] = at_half[between[half]]
            waiting += [(between[:half], lower, at_half), (between[half + 1 :], at_half, higher)]
    return [boxes[index] for index in range(len(pixels))]


def _boxes_at(
    contrast: NDArray[np.floating], foot: float, pixels: dict[int, tuple[int, int]], lower: dict[int, Box]
) -> dict[int, Box]:
    """Boxes of the areas that are at least `foot` high, of each pixel that lies in one; areas stay inside `lower`."""
    left, top = (int(min(lower[index][edge] for index in pixels)) for edge in (0, 1))
    right, bottom = (int(max(lower[index][edge] for index in pixels)) for edge in (2, 3))
    areas, _ = label(contrast[top:bottom, left:right] >= foot, structure=_CROSS)
    numbers = {index: int(areas[row - top, column - left]) for index, (row, column) in pixels.items()}
    boxes = {}
    for number in set(numbers.values()) - {0}:
        x0, y0, x1, y1 = box_of_mask(areas == number)
        boxes[number] = (x0 + left, y0 + top, x1 + left, y1 + top)
    return {index: boxes[number] for index, number in numbers.items() if number}

"""The segmenter `threshold`: no weights, one grey-level threshold a box.

Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979). The quality is Otsu's own
measure of how well the threshold separates, eta: the variance between the two classes over the whole variance. The
stability is that of Kirillov et al., "Segment Anything" (2023).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, label
from skimage.filters import threshold_otsu

from models.geometry import Box, Mask, mask_iou
from pipelines.config import parse
from pipelines.proposals.protocols import Segment, code_identity


@dataclass(frozen=True, kw_only=True)
class Options:
    """Section `proposals.options.threshold`.

    Attributes:
        margin: Fraction of the box's sides added around it, so that the threshold sees the surroundings too.
        smoothing: Standard deviation of the blur, as a fraction of the box's shorter side.
        offset: Half the distance of the two thresholds of the stability score, as a fraction of the window's grey
            range.
    """

    margin: float = 0.25
    smoothing: float = 0.03
    offset: float = 0.05


class Threshold:
    """Otsu's threshold in a window around each box, on the side (bright or dark) on which the box stands out."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Options, options, "proposals.options.threshold")

    @property
    def identity(self) -> str:
        return code_identity(self, asdict(self.options))

    def segment(self, images: Sequence[Image.Image], boxes: Sequence[Sequence[Box]]) -> Iterator[Iterator[Segment]]:
        for image, of_image in zip(images, boxes, strict=True):
            grey = np.asarray(image.convert("L"))
            yield map(partial(self._segment, grey), of_image)

    def _segment(self, grey: NDArray[np.uint8], box: Box) -> Segment:
        height, width = grey.shape
        x0, y0 = int(box[0]), int(box[1])
        x1, y1 = min(width, int(np.ceil(box[2]))), min(height, int(np.ceil(box[3])))
        margin_x, margin_y = (round(self.options.margin * side) for side in (x1 - x0, y1 - y0))
        top, left = max(0, y0 - margin_y), max(0, x0 - margin_x)
        window = grey[top : y1 + margin_y, left : x1 + margin_x].astype(np.float32)
        window = gaussian_filter(window, self.options.smoothing * min(x1 - x0, y1 - y0), mode="nearest")
        inside = np.zeros(window.shape, dtype=bool)
        inside[y0 - top : y1 - top, x0 - left : x1 - left] = True

        mask = np.zeros(grey.shape, dtype=bool)
        if window.min() == window.max():
            return Segment(mask=mask, quality=0.0, stability=0.0)
        core = window[inside].mean()
        ring = window[~inside].mean() if not inside.all() else np.median(window)
        signed = window if core >= ring else -window
        threshold = threshold_otsu(signed)
        offset = self.options.offset * float(np.ptp(signed))
        part, tight, loose = (_largest_part((signed > threshold + shift) & inside) for shift in (0.0, offset, -offset))
        mask[top : top + window.shape[0], left : left + window.shape[1]] = part
        return Segment(mask=mask, quality=separability(signed, threshold), stability=mask_iou(tight, loose))


def separability(values: NDArray[np.float32], threshold: float) -> float:
    """Otsu's eta, 0 to 1: variance between the classes above and below the threshold over the variance of all."""
    above = values > threshold
    fraction = above.mean()
    if fraction in (0, 1):
        return 0.0
    between = fraction * (1 - fraction) * (values[above].mean() - values[~above].mean()) ** 2
    return float(between / values.var())


def _largest_part(mask: Mask) -> Mask:
    """The largest 8-connected component, its holes filled."""
    components, count = label(mask, structure=np.ones((3, 3)))
    if not count:
        return mask
    part = components == np.bincount(components.ravel())[1:].argmax() + 1
    # Holes are what a frame around the part does not reach. scipy's binary_fill_holes says the same ten times slower.
    around, count = label(np.pad(~part, 1, constant_values=True))
    return part if count == 1 else around[1:-1, 1:-1] != around[0, 0]

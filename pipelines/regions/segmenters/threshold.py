"""The segmenter `threshold`: no weights, one grey-level threshold a box.

Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. SMC 9 (1979); the quality is the stability
score of Kirillov et al., "Segment Anything" (2023): the IoU of the masks at two thresholds around the one used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.filters import threshold_otsu
from skimage.measure import label as label_components

from pipelines.config import parse
from pipelines.masks import Box, iou
from pipelines.regions.protocols import Mask, Segment


@dataclass(frozen=True, kw_only=True)
class Options:
    """Section `regions.options.threshold`.

    Attributes:
        margin: Share of the box's sides added around it, so that the threshold sees the surroundings too.
        smoothing: Standard deviation of the blur, as a share of the box's shorter side.
        offset: Half the distance of the two thresholds of the stability score, as a share of the window's grey range.
    """

    margin: float = 0.25
    smoothing: float = 0.03
    offset: float = 0.05


class Threshold:
    """Otsu's threshold in a window around each box, on the side (bright or dark) on which the box stands out."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Options, options, "regions.options.threshold")

    def segment(self, image: Image.Image, boxes: Sequence[Box]) -> list[Segment]:
        grey = np.asarray(image.convert("L"))
        return [self._segment(grey, box) for box in boxes]

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
            return Segment(mask=mask, quality=0.0)
        core = window[inside].mean()
        ring = window[~inside].mean() if not inside.all() else np.median(window)
        signed = window if core >= ring else -window
        threshold = threshold_otsu(signed)
        offset = self.options.offset * float(np.ptp(signed))
        part, tight, loose = (_largest_part((signed > threshold + shift) & inside) for shift in (0.0, offset, -offset))
        mask[top : top + window.shape[0], left : left + window.shape[1]] = part
        return Segment(mask=mask, quality=iou(tight, loose))


def _largest_part(mask: Mask) -> Mask:
    """The largest 8-connected component, its holes filled."""
    components = label_components(mask, connectivity=2)
    sizes = np.bincount(components.ravel())[1:]
    if not sizes.size:
        return mask
    return binary_fill_holes(components == sizes.argmax() + 1)

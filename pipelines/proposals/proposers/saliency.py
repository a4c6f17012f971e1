"""The proposer `saliency`: no weights; regions that are brighter or darker than their surroundings.

Blobs as in Lindeberg, "Feature detection with automatic scale selection", IJCV 30 (1998), by differences of Gaussians
(Lowe, IJCV 60, 2004), each grown to the connected area around it that stands out at least a fifth as much. The black
surroundings of an endoscope's or a fundus camera's field count as unknown, not as dark (normalised convolution,
Knutsson and Westin, CVPR 1993).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.feature import peak_local_max
from skimage.measure import label as label_components
from skimage.segmentation import flood

from models.geometry import Box, box_of_mask, suppress
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.proposals.protocols import Proposal, Query, plugin_identity

# Work at this size: regions worth a caption are large against it, and a 4,000-pixel image costs no more than another.
_WORKING_SIDE = 128
_BLACK = 12
_SURROUND = 2.5
_LEAST_CONTRAST = 0.03
_FOOT = 0.2

Blob = tuple[Box, float]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Section `proposals.options.saliency`.

    Attributes:
        scales: Standard deviations of the blobs searched, as shares of the image's longer side.
        overlap: Largest IoU (0 to 1) of two boxes; of two that overlap more, the one with the lower score goes.
    """

    scales: tuple[float, ...] = (0.02, 0.04, 0.08, 0.14, 0.2)
    overlap: float = 0.3

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0 or max(self.scales) > 0.5:
            raise UserError("proposals.options.saliency.scales: name at least one share above 0 and up to 0.5")


class Saliency:
    """Bright and dark blobs of several scales.

    The score is the blob's contrast: the Gaussian-weighted mean around its peak against that of its surroundings, as a
    share of the image's grey range (1st to 99th percentile). It ranks; it is no probability of a finding.
    """

    sees_annotations = False
    uses_phrases = False

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = parse(Options, options, "proposals.options.saliency")

    @property
    def identity(self) -> str:
        return plugin_identity(self, asdict(self.options))

    def propose(self, images: Sequence[Image.Image], queries: Sequence[Query]) -> Iterator[list[Proposal]]:
        return map(self._propose, images)

    def _propose(self, image: Image.Image) -> list[Proposal]:
        scale = _WORKING_SIDE / max(image.size)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        grey = np.asarray(
            image.convert("L").resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR)
        )
        field = _field(grey)
        if not field.any():
            return []
        low, high = np.percentile(grey[field], (1, 99))
        if low == high:
            return []
        values = np.clip((grey.astype(np.float32) - low) / (high - low), 0, 1)
        found: list[Blob] = []
        for share in self.options.scales:
            sigma = share * _WORKING_SIDE
            contrast = _blur(values, field, sigma) - _blur(values, field, _SURROUND * sigma)
            contrast[~field] = 0
            for sign in (1, -1):
                found += _blobs(sign * contrast, sigma)
        right, down = image.width / size[0], image.height / size[1]
        boxes, scores = [box for box, _ in found], [score for _, score in found]
        return [
            Proposal(
                box=(boxes[place][0] * right, boxes[place][1] * down, boxes[place][2] * right, boxes[place][3] * down),
                score=min(scores[place], 1.0),
            )
            for place in suppress(boxes, scores, self.options.overlap)
        ]


def _field(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels that show something: all but the black areas that reach the image's border."""
    black = np.pad(grey < _BLACK, 1, constant_values=True)
    outside = flood(black, (0, 0))[1:-1, 1:-1]
    return binary_erosion(~outside, iterations=2, border_value=1)


def _blur(values: NDArray[np.float32], field: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """Gaussian mean over the pixels of the field only."""
    total, weight = (
        gaussian_filter(array, sigma, mode="constant", truncate=2.0)
        for array in (values * field, field.astype(np.float32))
    )
    return total / np.maximum(weight, 1e-6)


def _blobs(contrast: NDArray[np.float32], sigma: float) -> list[Blob]:
    """Box and peak of each area that stands out, given the contrast (height x width), positive where it does."""
    peaks = peak_local_max(
        contrast, min_distance=max(1, round(sigma)), threshold_abs=_LEAST_CONTRAST, exclude_border=False
    )
    blobs = []
    for row, column in peaks:
        peak = float(contrast[row, column])
        components = label_components(contrast >= peak * _FOOT, connectivity=1)
        blobs.append((box_of_mask(components == components[row, column]), peak))
    return blobs

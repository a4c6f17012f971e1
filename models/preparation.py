"""How an image becomes what a model sees: the one way of the image shards, of predictions and of the served model.

A picture of any depth becomes 8 bits, then a padded square of JPEG; regions become crops likewise. Training and
evaluation saw images through JPEG, so a prediction does too: with the quality that the shards had, it gets their bytes.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from models.geometry import Box, crop_with_margin, fit_image

_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, kw_only=True)
class InputFormat:
    """The images that a model was trained on; `input` in a checkpoint's config.json.

    Attributes:
        image_size: Side of the padded square in pixels.
        crop_size: Side of a region crop's padded square in pixels.
        crop_margin: Context on each side of a crop, as a fraction of the longer side of the region's box.
        quality: JPEG quality, 1 to 95.
    """

    image_size: int
    crop_size: int
    crop_margin: float
    quality: int


def image_bytes(image: Image.Image, wanted: InputFormat) -> bytes:
    """The whole image as the padded square."""
    return _jpeg(fit_image(image, wanted.image_size), wanted.quality)


def crop_bytes(image: Image.Image, box: Box, wanted: InputFormat) -> bytes:
    """A region with its margin, cut from the full resolution, as a padded square of its own.

    Args:
        image: The original image.
        box: In pixels of the original image.
        wanted: Size, margin and quality.
    """
    return _jpeg(crop_with_margin(image, box, wanted.crop_margin, wanted.crop_size), wanted.quality)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    stream = io.BytesIO()
    # Full colour resolution: halved, it would blur the red of an endoscopy image at these small sizes.
    image.save(stream, "JPEG", quality=quality, subsampling=0)
    return stream.getvalue()


def eight_bit(image: Image.Image) -> Image.Image:
    """A picture as Pillow reads it -> mode 'L' or 'RGB'; `pipelines.images` has the rules."""
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return Image.fromarray(to_8_bit(np.asarray(image)))
    if image.has_transparency_data:
        kind = "L" if image.mode in ("1", "L", "LA") else "RGB"
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert(kind)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def to_8_bit(values: np.ndarray) -> np.ndarray:
    """Grey values of any type, linearly from the 0.5th to the 99.5th percentile.

    NaN counts as 0, infinity as the greatest or least finite value: it would stretch the range until nothing is left.
    """
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    values = np.nan_to_num(values, nan=0.0, posinf=finite.max(), neginf=finite.min())
    low, high = np.percentile(values, _PERCENTILES)
    if low == high:  # nearly one value everywhere: keep the few others
        low, high = values.min(), values.max()
    return scaled_linearly(values, low, high)


def scaled_linearly(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """From [low, high] to 0 to 255, clipped; all 0 where the range is empty."""
    if low == high:
        return np.zeros(values.shape, np.uint8)
    return np.rint(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)

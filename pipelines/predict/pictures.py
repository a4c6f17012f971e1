"""Masks, heat maps and overlays as PNG files, at the size of the original image."""

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.geometry import Mask

# Of the colour where the map is highest; where it is lowest the image shows as it is.
_OPACITY = 0.6
_MASK_COLOUR = (255, 64, 64)
_COLOURS = (colormaps["turbo"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def mask_picture(mask: Mask) -> Image.Image:
    """Grey, 255 inside."""
    return Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))


def heat_range(heat_map: NDArray[np.float32]) -> tuple[float, float]:
    """Least and greatest value: what 0 and 255 of its picture stand for."""
    return float(np.nanmin(heat_map)), float(np.nanmax(heat_map))


def heat_picture(heat_map: NDArray[np.float32]) -> Image.Image:
    """Grey, linear from the least value of this map (0) to its greatest (255); 0 where it says nothing."""
    low, high = heat_range(heat_map)
    span = high - low if high > low else 1.0
    levels = np.nan_to_num((heat_map - low) / span)
    return Image.fromarray(np.rint(levels * 255).astype(np.uint8))


def overlay(image: Image.Image, heat: Image.Image) -> Image.Image:
    """The image in grey under the colours of its map, blue to red, the more opaque the higher the map is."""
    colours = Image.fromarray(_COLOURS[np.asarray(heat)])
    return Image.composite(
        colours, image.convert("L").convert("RGB"), heat.point(lambda level: round(level * _OPACITY))
    )


def mask_overlay(image: Image.Image, mask: Mask) -> Image.Image:
    """The image in grey with a mask of its size over it: the border in full colour, the inside translucent."""
    inside = mask_picture(mask)
    # A maximum filter's 3 x 3 pixels reach one pixel over the border on each side.
    border = Image.fromarray(
        np.asarray(inside.filter(ImageFilter.MaxFilter(3))) - np.asarray(inside.filter(ImageFilter.MinFilter(3)))
    )
    grey = image.convert("L").convert("RGB")
    colour = Image.new("RGB", image.size, _MASK_COLOUR)
    filled = Image.composite(colour, grey, inside.point(lambda level: level // 4))
    return Image.composite(colour, filled, border)

"""EXIF orientation: pictures, masks and boxes as viewers show them.

A camera stores its rows as the sensor lies and says in tag 274 (Orientation; EXIF 2.32, 4.6.4 A; TIFF 6.0, section 8)
where the first stored row and column belong. Viewers obey it, and so do the tools that people mark regions with.

    1 top, left      2 top, right     3 bottom, right    4 bottom, left
    5 left, top      6 right, top     7 right, bottom    8 left, bottom
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from models.geometry import Box

AS_STORED = 1
_SWAPPED = (5, 6, 7, 8)  # stored rows are shown as columns
_FROM_THE_RIGHT = (2, 3, 6, 7)
_FROM_BELOW = (3, 4, 7, 8)

Values = TypeVar("Values", bound=np.generic)


def orientation_of(image: Image.Image) -> int:
    """The orientation (1 to 8) that a picture's EXIF block states; 1 where it states none, or none that exists.

    Pixels are decoded first, for a PNG may keep the block behind them: damaged ones raise what their decoder raises.
    """
    image.load()
    forget_xmp(image)
    try:
        found = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - a block of any bytes: viewers too show such a picture as it is stored
        return AS_STORED
    return known(found)


def forget_xmp(image: Image.Image) -> None:
    """Leave a picture's EXIF block alone to state an orientation.

    Without one Pillow takes that of XMP, Adobe's texts beside the block, which browsers and labelling tools ignore.
    """
    for key in ("xmp", "XML:com.adobe.xmp"):
        image.info.pop(key, None)


def known(value: Any) -> int:
    """The orientation that a tag's value, or the first of several, stands for; 1 for one that means nothing."""
    if isinstance(value, tuple) and value:
        value = value[0]
    return value if isinstance(value, int) and 1 <= value <= 8 else AS_STORED


def turned(values: NDArray[Values], orientation: int) -> NDArray[Values]:
    """Pixels as they are shown.

    Args:
        values: Stored ones, (height, width) or (height, width, channels).
        orientation: Tag 274, 1 to 8.

    Returns:
        A view; from 5 on height and width are exchanged.
    """
    if orientation in _SWAPPED:
        values = values.swapaxes(0, 1)
    if orientation in _FROM_THE_RIGHT:
        values = values[:, ::-1]
    if orientation in _FROM_BELOW:
        values = values[::-1]
    return values


def turned_image(image: Image.Image, orientation: int) -> Image.Image:
    """A picture of mode 'L' or 'RGB' as it is shown."""
    if orientation == AS_STORED:
        return image
    return Image.fromarray(np.ascontiguousarray(turned(np.asarray(image), orientation)))


def turned_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Width and height as shown of a picture stored with these, and the other way round."""
    return (height, width) if orientation in _SWAPPED else (width, height)


def turned_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """A box given in stored pixels, in those that are shown.

    Args:
        box: In pixels of the stored picture.
        width: Of the picture as it is shown.
        height: Of the picture as it is shown.
        orientation: Tag 274, 1 to 8.
    """
    x0, y0, x1, y1 = box
    if orientation in _SWAPPED:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if orientation in _FROM_THE_RIGHT:
        x0, x1 = width - x1, width - x0
    if orientation in _FROM_BELOW:
        y0, y1 = height - y1, height - y0
    return x0, y0, x1, y1

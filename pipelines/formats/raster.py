"""PNG, JPEG and TIFF through Pillow."""

import io

import numpy as np
from PIL import Image

from models.preparation import eight_bit
from pipelines.errors import Rejected
from pipelines.formats.limits import check_frame, check_pixels
from pipelines.sources import MAX_PIXELS

JPEG = b"\xff\xd8\xff"
_MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", JPEG: "JPEG", b"II*\0": "TIFF", b"MM\0*": "TIFF"}


def _pillow(data: bytes, max_pixels: int) -> Image.Image:
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if kind is None:
        raise Rejected("unsupported_type", "not PNG, JPEG, TIFF, DICOM or NIfTI")
    image = Image.open(io.BytesIO(data), formats=[kind])
    check_pixels(*image.size, max_pixels)
    return image


def frames(data: bytes) -> int:
    """Number of pages of a TIFF; 1 for everything else."""
    return _frames_of(_pillow(data, MAX_PIXELS))


def _frames_of(image: Image.Image) -> int:
    # Phones store a second JPEG behind the first (MPO): no frame of a study.
    return getattr(image, "n_frames", 1) if image.format == "TIFF" else 1


def picture(data: bytes, frame: int | None, max_pixels: int) -> Image.Image:
    """A page as it is shown, mode 'L' or 'RGB'."""
    image = _pillow(data, max_pixels)
    image.seek(check_frame(frame, _frames_of(image)))
    check_pixels(*image.size, max_pixels)
    return eight_bit(image)


def stored_values(data: bytes, frame: int | None, max_pixels: int) -> np.ndarray:
    """Grey values of a page as stored, (height, width)."""
    image = _pillow(data, max_pixels)
    count = _frames_of(image)
    image.seek(0 if count == 1 else check_frame(frame, count))
    check_pixels(*image.size, max_pixels)
    values = np.asarray(image.convert("L") if image.mode == "1" else image)
    if values.ndim == 3:
        colours = values[..., : 1 if image.mode == "LA" else 3]
        values = values[..., 0]
        if (colours != values[..., None]).any():
            raise Rejected("unsupported_type", "a mask in colour: give grey values or a palette")
    return values

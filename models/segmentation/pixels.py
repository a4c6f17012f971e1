"""What the methods that segment ask of the pixels, and how they scale them."""

from torch import Tensor


def scaled(pixels: Tensor) -> Tensor:
    """Bytes -> 0 to 1, which is all the normalisation that these methods take."""
    return pixels.float() / 255


def check_sides(method: str, pixels: Tensor, multiple: int, least: int) -> None:
    """Refuse images that cannot be halved as often as a method does it.

    Raises:
        ValueError: A side is no multiple of `multiple`, or shorter than `least`.
    """
    height, width = pixels.shape[-2:]
    if height % multiple or width % multiple or min(height, width) < least:
        raise ValueError(
            f"{method} needs images with sides of {least} pixels or more, multiples of {multiple}; these have {height} "
            f"x {width}: change shards.image_size"
        )


def check_planned(method: str, pixels: Tensor, side: int) -> None:
    """Refuse images of another size than that which a method was built for.

    Raises:
        ValueError: They are not squares of `side` pixels.
    """
    height, width = pixels.shape[-2:]
    if (height, width) != (side, side):
        raise ValueError(
            f"{method} is built for images of {side} x {side} pixels, and these have {height} x {width}: set "
            "image_size to that of the shards"
        )

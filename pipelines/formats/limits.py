"""What every format checks before anything is decoded."""

from pipelines.errors import Rejected

# Along an axis, and volumes of a file: each may become a row, and a header of a few bytes may claim millions.
MAX_SLICES = 65_536


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture of more pixels (too_many_pixels)."""
    if width * height > max_pixels:
        raise Rejected("too_many_pixels", f"{width} x {height}, at most {max_pixels} pixels")


def check_frame(frame: int | None, count: int) -> int:
    """The index of a frame; None is right only where there is one (missing_frame)."""
    if frame is None and count == 1:
        return 0
    if frame is None or not 0 <= frame < count:
        raise Rejected("missing_frame", f"frame {frame} of {count}")
    return frame

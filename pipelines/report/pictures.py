"""Pictures for a page, and the regions over them as SVG: outlines are drawn beside the pixels, never into them."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import approximate_polygon, find_contours

from pipelines.errors import Rejected, disk_fault
from pipelines.images import open_image
from pipelines.masks import decode

Row = dict[str, Any]

LONGEST_SIDE = 360  # pixels of a picture on the page


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a page shows of an image.

    Attributes:
        uri: The picture as a data URI; None where it could not be opened.
        reason: Why it could not be opened: a reason code, or the disk's fault.
        detail: The reason for a person.
    """

    uri: str | None = None
    reason: str | None = None
    detail: str | None = None


def open_picture(image: Row, roots: dict[str, Path], max_pixels: int) -> Picture:
    """The picture of a row of `SPLIT_IMAGES`, small.

    Args:
        image: The row.
        roots: Folder or archive of each source.
        max_pixels: A picture of more is not decoded.
    """
    try:
        picture = open_image(roots[image["source"]], image["path"], image["member"], image["frame"], max_pixels)
    except Rejected as fault:
        return Picture(reason=fault.reason, detail=str(fault))
    except OSError as error:
        return Picture(reason=disk_fault(error), detail=disk_fault(error))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return Picture(uri=data_uri(stream.getvalue(), "image/jpeg"))


def drawn(region: Row, image: Row) -> Row:
    """A row of `REGIONS` with its `outline` and the `kind` that decides its colour: accepted, truth or rejected."""
    accepted = "truth" if region["role"] == "truth" else "accepted"
    return {
        **region,
        "kind": accepted if region["status"] == "accepted" else "rejected",
        "outline": outline(region, image["height"], image["width"]),
    }


def outline(region: Row, height: int, width: int) -> str:
    """The region's border as an SVG path in pixels of the original image: of its mask, or of its box without one."""
    if region["mask"] is None:
        x0, y0, x1, y1 = (_number(region[name]) for name in ("x0", "y0", "x1", "y1"))
        return f"M{x0} {y0}H{x1}V{y1}H{x0}Z"
    return mask_outline(decode(region["mask"], height, width))


def mask_outline(mask: NDArray[np.bool_]) -> str:
    """The borders of a mask (height x width), holes included, as one SVG path.

    A pixel's centre lies half a pixel inside its edges, and the padding keeps borders closed at the image's edge.
    """
    tolerance = max(mask.shape) / 400
    paths = []
    for contour in find_contours(np.pad(mask, 1).astype(float), 0.5):
        points = approximate_polygon(contour, tolerance)[:-1] - 0.5
        paths.append("M" + "L".join(f"{_number(x)} {_number(y)}" for y, x in points) + "Z")
    return "".join(paths)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"

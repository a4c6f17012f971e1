"""Images for a page, and the regions over them as SVG: outlines lie beside the pixels, which stay as they are."""

import base64
import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
from skimage.measure import approximate_polygon, find_contours

from models.geometry import Mask
from pipelines.errors import Rejected, disk_fault
from pipelines.masks import decode
from pipelines.raw_images import open_raw
from pipelines.records import CaptionRow, RegionRow, SplitImageRow
from pipelines.sources import Sources

LONGER_SIDE = 360  # pixels of an image on the page


@dataclass(frozen=True, kw_only=True)
class PageImage:
    """The pixels of an image on a page.

    Attributes:
        uri: The resized image as a data URI; None where it could not be opened.
        reason: Why it could not be opened: a reason code, or the disk's error. The words of the reason name the file.
    """

    uri: str | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class RegionOverlay:
    """A region over an image on a page.

    Attributes:
        region: The region.
        caption: Its caption, where the page shows it.
        kind: Decides the colour: an accepted region that a method may see, one for scores only, or a rejected one.
        outline: SVG path in pixels of the original image.
    """

    region: RegionRow
    caption: CaptionRow | None
    kind: Literal["accepted", "truth", "rejected"]
    outline: str


@dataclass(frozen=True, kw_only=True)
class ImageEntry:
    """An image on a page with its regions and its text.

    Attributes:
        image: The image.
        page_image: Its pixels.
        overlays: The regions over it.
        caption: The caption that the entry is about, of the image or of one region; None: there is none.
        region: The region that the entry is about; None: it is about the image.
    """

    image: SplitImageRow
    page_image: PageImage
    overlays: list[RegionOverlay]
    caption: CaptionRow | None
    region: RegionRow | None = None


def open_page_image(image: SplitImageRow, sources: Sources) -> PageImage:
    """Read an image and resize it."""
    try:
        pixels = open_raw(sources, image)
    except Rejected as error:
        return PageImage(reason=error.reason)
    except OSError as error:
        return PageImage(reason=disk_fault(error))
    pixels.thumbnail((LONGER_SIDE, LONGER_SIDE))
    stream = io.BytesIO()
    pixels.save(stream, "JPEG", quality=85)
    return PageImage(uri=data_uri(stream.getvalue(), "image/jpeg"))


def overlay(region: RegionRow, image: SplitImageRow, caption: CaptionRow | None = None) -> RegionOverlay:
    """A region with its outline and the kind that decides its colour."""
    kind: Literal["accepted", "truth", "rejected"] = "rejected"
    if region.status == "accepted":
        kind = "truth" if region.role == "truth" else "accepted"
    path = outline(region, image.height, image.width)
    return RegionOverlay(region=region, caption=caption, kind=kind, outline=path)


def outline(region: RegionRow, height: int, width: int) -> str:
    """The region's border as an SVG path in pixels of the original image: of its mask, or of its box without one."""
    if region.mask is None:
        x0, y0, x1, y1 = map(_number, region.box)
        return f"M{x0} {y0}H{x1}V{y1}H{x0}Z"
    return mask_outline(decode(region.mask, height, width))


def mask_outline(mask: Mask) -> str:
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

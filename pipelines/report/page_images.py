"""Images for a page, and the regions over them as SVG: outlines lie beside the pixels, which stay as they are."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from skimage.measure import approximate_polygon, find_contours

from models.geometry import Mask
from pipelines.errors import Rejected, disk_fault
from pipelines.masks import decode
from pipelines.raw_images import open_raw
from pipelines.records import CaptionRow, RegionRow, SplitImageRow
from pipelines.report.evidence import Evidence, evidence
from pipelines.sources import Sources

LONGER_SIDE = 360  # pixels of an image on the page

# A closed border: its corners (x, y), each once.
Ring = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class PageImage:
    """The pixels of an image on a page.

    Attributes:
        jpeg: The resized image; None where it could not be opened.
        reason: Why it could not be opened: a reason code, or the disk's error. The words of the reason name the file.
    """

    jpeg: bytes | None = None
    reason: str | None = None

    @property
    def uri(self) -> str | None:
        """The resized image as a data URI."""
        return None if self.jpeg is None else data_uri(self.jpeg, "image/jpeg")

    def pixels(self) -> Image.Image:
        """The resized image; only of one that could be opened."""
        return Image.open(io.BytesIO(self.jpeg or b"")).convert("RGB")


@dataclass(frozen=True, kw_only=True)
class RegionOverlay:
    """A region over an image on a page.

    Attributes:
        region: The region.
        caption: Its caption, where the page shows it.
        kind: What speaks for it; decides the colour.
        rings: Its borders, holes included, in pixels of the original image.
    """

    region: RegionRow
    caption: CaptionRow | None
    kind: Evidence
    rings: list[Ring]

    @property
    def outline(self) -> str:
        """The borders as an SVG path."""
        return svg_path(self.rings)


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


def open_page_image(image: SplitImageRow, sources: Sources, longer_side: int = LONGER_SIDE) -> PageImage:
    """Read an image and shrink it to `longer_side` pixels."""
    try:
        pixels = open_raw(sources, image)
    except Rejected as error:
        return PageImage(reason=error.reason)
    except OSError as error:
        return PageImage(reason=disk_fault(error))
    pixels.thumbnail((longer_side, longer_side))
    stream = io.BytesIO()
    pixels.save(stream, "JPEG", quality=85)
    return PageImage(jpeg=stream.getvalue())


def overlay(region: RegionRow, image: SplitImageRow, caption: CaptionRow | None = None) -> RegionOverlay:
    """A region with its outline and the kind that decides its colour."""
    rings = region_rings(region, image.height, image.width)
    return RegionOverlay(region=region, caption=caption, kind=evidence(region), rings=rings)


def region_rings(region: RegionRow, height: int, width: int) -> list[Ring]:
    """The region's borders in pixels of the original image: of its mask, or of its box without one."""
    if region.mask is None:
        x0, y0, x1, y1 = region.box
        return [[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]]
    return mask_rings(decode(region.mask, height, width))


def mask_rings(mask: Mask) -> list[Ring]:
    """The borders of a mask (height x width), holes included.

    A pixel's centre lies half a pixel inside its edges, and the padding keeps borders closed at the image's edge.
    """
    tolerance = max(mask.shape) / 400
    return [
        [(x, y) for y, x in (approximate_polygon(contour, tolerance)[:-1] - 0.5).tolist()]
        for contour in find_contours(np.pad(mask, 1).astype(float), 0.5)
    ]


def svg_path(rings: list[Ring]) -> str:
    """Closed borders as one SVG path."""
    return "".join("M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in ring) + "Z" for ring in rings)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"

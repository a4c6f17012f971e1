"""The text of a request: prompt files, jinja2 templates all of them, rendered for one item.

Of each kind (image, region) there are three files, so that a changed one leaves the other kind's answers alone:

- <kind>_system.txt: the instructions. It gets no values, so that it is the same for all items and the server can reuse
  its prefix; the images follow it, and only then what is specific.
- <kind>.txt: what is known of the item, and the task.
- <kind>_again.txt: sent after an answer that cannot be used; gets `reason`.

Report text, labels and adjectives come from outside. Templates get them as data: without angle brackets, so that they
can neither close the fence around them nor spell one of the model's control tokens.
"""

from pathlib import Path
from typing import Any

from pipelines.captions.captioners.vllm.schema import term_of
from pipelines.captions.config import Sizes
from pipelines.captions.evidence import has_report, is_no_finding
from pipelines.captions.protocols import ImageItem, Item, RegionItem
from pipelines.captions.templates import Templates, require
from pipelines.chat.message import as_data
from pipelines.files import sha256_files
from pipelines.records import CaptionKind


class Prompts:
    """The prompt files of a folder.

    Args:
        folder: Where they lie.
        sizes: Area fractions that the region's prompt may mention.

    Raises:
        UserError: A file is missing or is no template.
    """

    def __init__(self, folder: Path, sizes: Sizes) -> None:
        self._folder = folder
        self._sizes = sizes
        files = (*_files("image"), *_files("region"))
        require(folder, files, "vllm")
        self._templates = Templates(folder, files)

    def sha256(self, kind: CaptionKind) -> str:
        return sha256_files(self._folder, [self._folder / name for name in _files(kind)])

    def system(self, kind: CaptionKind) -> str:
        return self._templates.render(f"{kind}_system.txt", {}).strip()

    def user(self, item: Item, size: tuple[int, int]) -> str:
        """What is specific to an item.

        Args:
            item: Image or region.
            size: Width and height of the image that is sent.
        """
        values = _image_values(item, size) if isinstance(item, ImageItem) else _region_values(item, size, self._sizes)
        return self._templates.render(f"{item.kind}.txt", values).strip()

    def again(self, kind: CaptionKind, reason: str) -> str:
        return self._templates.render(f"{kind}_again.txt", {"reason": as_data(reason)}).strip()


def _files(kind: CaptionKind) -> tuple[str, ...]:
    return (f"{kind}_system.txt", f"{kind}.txt", f"{kind}_again.txt")


def _common_values(item: Item, size: tuple[int, int]) -> dict[str, Any]:
    return {
        "name": item.modality.name,
        "view": item.image.view,
        "side": "patient" if item.patient_side else "image",
        "width": size[0],
        "height": size[1],
        "report": as_data(item.image.report or "") if has_report(item.image) else None,
        "labels": [as_data(label) for label in item.labels or ()],
    }


def _image_values(item: ImageItem, size: tuple[int, int]) -> dict[str, Any]:
    return {
        **_common_values(item, size),
        "no_finding": item.labels is not None and is_no_finding(item.image),
        "regions": [{"term": as_data(term_of(region)), "box": _box(region, size)} for region in item.regions],
    }


def _region_values(item: RegionItem, size: tuple[int, int], sizes: Sizes) -> dict[str, Any]:
    return {
        **_common_values(item, size),
        "term": as_data(term_of(item)),
        "adjective": as_data(item.adjective or ""),
        "box": _box(item, size),
        "medium_percent": round(100 * sizes.medium, 1),
        "large_percent": round(100 * sizes.large, 1),
    }


def _box(region: RegionItem, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The region's box in pixels of the image that is sent."""
    scale_x, scale_y = size[0] / region.image.width, size[1] / region.image.height
    x0, y0, x1, y1 = region.box
    return round(x0 * scale_x), round(y0 * scale_y), round(x1 * scale_x), round(y1 * scale_y)

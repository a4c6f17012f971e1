"""How many tokens an image becomes: arithmetic from its size and the settings of the model's image processor.

- Qwen2-VL, Qwen2.5-VL and Qwen3-VL: one for each cell of patch_size x merge_size pixels (28, or 32), of an image whose
  sides were rounded to whole cells and whose area was brought between two limits (Wang et al., Qwen2-VL, arXiv
  2409.12191; `smart_resize` of transformers).
- Gemma 3: as many for every image (Gemma 3 technical report, arXiv 2503.19786).
- InternVL: as many for every tile. The tiles are the grid nearest to the image's shape, and the whole image once more
  where there are several (Chen et al., arXiv 2404.16821, dynamic resolution).

What stands around an image, such as a token where it begins, is not counted; the largest is Gemma's, of 4 tokens.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.errors import Rejected, UserError, item_boundary

# What the models' published folders say, for models that are named by their id on the hub.
_QWEN = {"image_processor_type": "Qwen2VLImageProcessor", "merge_size": 2}
_PUBLISHED: dict[str, dict[str, Any]] = {
    "qwen2-vl": _QWEN | {"patch_size": 14, "min_pixels": 3136, "max_pixels": 12845056},
    "qwen2.5-vl": _QWEN | {"patch_size": 14, "min_pixels": 3136, "max_pixels": 12845056},
    "qwen3-vl": _QWEN | {"patch_size": 16, "min_pixels": 65536, "max_pixels": 16777216},
    "gemma-3": {"image_processor_type": "Gemma3ImageProcessor", "image_seq_length": 256},
    "internvl": {"image_processor_type": "GotOcr2ImageProcessor", "image_seq_length": 256, "size": {"height": 448}},
}
# The settings of a folder; where both name one, the last file counts.
_FILES = ("processor_config.json", "preprocessor_config.json")


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """How a model's images become tokens.

    Attributes:
        basis: The arithmetic in words.
        tokens: Width and height of an image in pixels -> its tokens.
    """

    basis: str
    tokens: Callable[[int, int], int]


def image_processor(model: str, folder: Path | None) -> ImageProcessor | None:
    """That of a model; None where its family is not among those above.

    Args:
        model: Name under which it is served; where it holds a family's name, the published settings are taken.
        folder: Its folder, whose settings count instead.

    Raises:
        UserError: A file of the folder is no JSON, or lacks a setting.
    """
    if folder is not None and any((folder / name).is_file() for name in _FILES):
        try:
            with item_boundary():
                return _of_settings(_read(folder), f"settings of {folder}")
        except Rejected as error:
            raise UserError(
                f"{folder}: {' or '.join(_FILES)} cannot be used ({error.detail}): fetch the model again"
            ) from None
    name = next((name for name in _PUBLISHED if name in model.casefold()), None)
    return _of_settings(_PUBLISHED[name], f"as published for {name}") if name else None


def cell_tokens(width: int, height: int, side: int, least: int, most: int) -> int:
    """Tokens of an image of which every cell is one.

    Args:
        width: Of the image, pixels.
        height: Of the image, pixels.
        side: Of a cell, pixels.
        least: Smallest area, pixels.
        most: Largest area, pixels.
    """
    columns, rows = round(width / side), round(height / side)
    area = columns * rows * side**2
    if area > most:
        shrunk = math.sqrt(width * height / most)
        columns, rows = (max(1, math.floor(length / shrunk / side)) for length in (width, height))
    elif area < least:
        grown = math.sqrt(least / (width * height))
        columns, rows = (math.ceil(length * grown / side) for length in (width, height))
    return columns * rows


def tile_count(width: int, height: int, side: int, fewest: int, most: int) -> int:
    """Tiles of an image, with the one of the whole image.

    Args:
        width: Of the image, pixels.
        height: Of the image, pixels.
        side: Of a tile, pixels.
        fewest: Least number of tiles in the grid.
        most: Largest number of tiles in the grid.
    """
    grids = [(across, down) for across in range(1, most + 1) for down in range(1, most // across + 1)]
    best, distance = 1, math.inf
    for across, down in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        if across * down < fewest:
            continue
        found = abs(width / height - across / down)
        # Of two grids of one shape the finer one, unless its tiles would cover twice the image's own pixels.
        if found < distance or (found == distance and 2 * width * height > side**2 * across * down):
            best, distance = across * down, found
    return best + 1 if best > 1 else 1


def _read(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _FILES:
        if (folder / name).is_file():
            values = json.loads((folder / name).read_bytes())
            found |= values | values.get("image_processor", {})
    return found


def _of_settings(settings: dict[str, Any], source: str) -> ImageProcessor | None:
    kind, size = str(settings.get("image_processor_type")), settings.get("size") or {}
    if kind.startswith("Qwen2VLImageProcessor"):
        side = settings["patch_size"] * settings["merge_size"]
        least = settings.get("min_pixels") or size["shortest_edge"]
        most = settings.get("max_pixels") or size["longest_edge"]
        return ImageProcessor(
            basis=f"arithmetic: one for {side} x {side} pixels, {source}",
            tokens=lambda width, height: cell_tokens(width, height, side, least, most),
        )
    if kind.startswith("Gemma3ImageProcessor"):
        count = settings["image_seq_length"]
        return ImageProcessor(basis=f"arithmetic: {count} an image, {source}", tokens=lambda width, height: count)
    if kind.startswith("GotOcr2ImageProcessor"):
        count, side = settings["image_seq_length"], size["height"]
        fewest, most = settings.get("min_patches", 1), settings.get("max_patches", 12)
        return ImageProcessor(
            basis=f"arithmetic: {count} a tile of {side} x {side} pixels, {source}",
            tokens=lambda width, height: count * tile_count(width, height, side, fewest, most),
        )
    return None

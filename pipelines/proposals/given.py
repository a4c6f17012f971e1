"""The source's annotations of one image, their masks read and checked."""

from pathlib import Path
from typing import Any

import numpy as np

from models.geometry import Box
from pipelines.errors import Rejected
from pipelines.images import open_mask
from pipelines.proposals.protocols import Given, Mask

# A drawn mask has a few grey values, one a class. More than these come from lossy compression of black and white.
_MOST_CLASSES = 32
_WHITE = 128


def read_given(root: Path, image: dict[str, Any], rows: list[dict[str, Any]]) -> list[Given]:
    """The annotations of one image.

    Args:
        root: Folder or archive of the source's files.
        image: Row of `SPLIT_IMAGES`.
        rows: The image's rows of `GIVEN_REGIONS`. Where there is none, the mask of the whole image stands for them,
            without a label.

    Raises:
        Rejected: A mask cannot be read (mask_<code of open_mask>) or is not as large as the image (mask_size_differs).
    """
    if not rows and image["mask_path"] is not None:
        rows = [{"label": None, "adjective": None, "x0": None, "mask_path": image["mask_path"], "mask_value": None}]
    values: dict[str, np.ndarray] = {}
    for row in rows:
        if row["mask_path"] is not None and row["mask_path"] not in values:
            values[row["mask_path"]] = _read_mask(root, row["mask_path"], image)
    return [
        Given(
            label=row["label"],
            adjective=row["adjective"],
            box=_box(row),
            mask=None if row["mask_path"] is None else select(values[row["mask_path"]], row["mask_value"]),
        )
        for row in rows
    ]


def select(values: np.ndarray, mask_value: int | None) -> Mask:
    """The pixels of one region in a mask of grey values, height x width.

    Args:
        values: Grey values.
        mask_value: The region's own value; None takes every non-zero pixel, or, where the mask was JPEG once and has
            values between black and white, the pixels of 128 and above.
    """
    if mask_value is not None:
        return values == mask_value
    return values >= _WHITE if np.unique(values).size > _MOST_CLASSES else values > 0


def _read_mask(root: Path, name: str, image: dict[str, Any]) -> np.ndarray:
    try:
        values = open_mask(root, name, image["frame"])
    except Rejected as error:
        raise Rejected(f"mask_{error.reason}", error.detail) from None
    if values.shape != (image["height"], image["width"]):
        raise Rejected("mask_size_differs", f"{name}: {values.shape[1]} x {values.shape[0]} pixels")
    return values


def _box(row: dict[str, Any]) -> Box | None:
    return None if row["x0"] is None else (row["x0"], row["y0"], row["x1"], row["y1"])

"""How much boxes and masks overlap: intersection over union (IoU), 0 to 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from models.geometry import Box, box_ious


def truth_ious(
    candidates: Sequence[dict[str, Any]], truth: Sequence[dict[str, Any]], height: int, width: int
) -> NDArray[np.float64]:
    """The largest IoU of each candidate with a true region: of the masks where both have one, else of the boxes.

    Args:
        candidates: With x0, y0, x1, y1 and mask (run-length code or None).
        truth: Likewise.
        height: Of the image.
        width: Of the image.

    Returns:
        Shape (candidates,); 0 where there is no true region.
    """
    ious = box_ious([box_of_row(row) for row in candidates], [box_of_row(row) for row in truth])
    rows = [place for place, row in enumerate(candidates) if row["mask"] is not None]
    columns = [place for place, row in enumerate(truth) if row["mask"] is not None]
    if rows and columns:
        masks, others = (
            [{"size": [height, width], "counts": part[place]["mask"].encode("ascii")} for place in places]
            for part, places in ((candidates, rows), (truth, columns))
        )
        ious[np.ix_(rows, columns)] = np.nan_to_num(coco.iou(masks, others, [0] * len(others)))
    return ious.max(axis=1, initial=0.0)


def box_of_row(row: dict[str, Any]) -> Box:
    return row["x0"], row["y0"], row["x1"], row["y1"]

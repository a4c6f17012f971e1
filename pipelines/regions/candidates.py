"""The proposals that the joint score judges, as one frame of plain numbers."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.records import rows_of
from pipelines.regions.checks import fault
from pipelines.regions.config import RegionsConfig
from pipelines.regions.features import agreement

RIGHT = 0.5  # IoU with the truth from which a proposal is right

_NUMBERS = ["x0", "y0", "x1", "y1", "area_fraction", "score", "mask_quality", "mask_stability", "box_agreement"]
_OF_IMAGE = ["group", "modality", "split", "width", "height"]


def told_images(images: pd.DataFrame, proposals: pd.DataFrame) -> pd.DataFrame:
    """The images with `annotated`: the source drew what is in it, or says that there is nothing.

    Returns:
        `image_id`, `group`, `modality`, `split`, `width`, `height`, `annotated`, one row an image.
    """
    drawn = set(proposals.loc[proposals["truth_iou"].notna(), "image_id"])
    empty = [row["labels"] == [] for row in rows_of(images[["labels"]])]
    plain = images[["image_id", *_OF_IMAGE]].astype(dict.fromkeys(("image_id", *_OF_IMAGE[:3]), object))
    return plain.assign(annotated=images["image_id"].isin(drawn).to_numpy() | np.array(empty, dtype=bool))


def usable(proposals: pd.DataFrame, images: pd.DataFrame, config: RegionsConfig) -> pd.DataFrame:
    """Proposals that never saw the annotations and break no hard limit, sorted by image and number.

    Args:
        proposals: Table `PROPOSALS`.
        images: From `told_images`.
        config: The limits.

    Returns:
        Columns of `PROPOSALS`, of `images`, and `agreement`.
    """
    frame = proposals[~proposals["sees_annotations"].astype(bool) & proposals["reason"].isna()]
    frame = frame.astype({"image_id": object, "proposer": object}).merge(images, on="image_id", validate="many_to_one")
    faults = [fault(row, row["width"], row["height"], config) for row in rows_of(frame)]
    sound = np.array([reason is None for reason in faults], dtype=bool)
    frame = frame[sound].sort_values(["image_id", "n"], ignore_index=True)
    frame = frame.astype(dict.fromkeys([*_NUMBERS, "truth_iou", "width", "height"], float))
    return frame.assign(agreement=agreement(frame))


def truth_of(candidates: pd.DataFrame) -> NDArray[np.float64]:
    """1 where a candidate is right, 0 where it is wrong, NaN where nobody annotated its image."""
    overlap = candidates["truth_iou"].to_numpy(dtype=float)
    return np.where(np.isnan(overlap), np.nan, (overlap >= RIGHT).astype(float))

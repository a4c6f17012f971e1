"""What the joint score knows of a proposal: numbers from proposer, segmenter and box, none from the truth."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.geometry import box_ious

BOX = ["x0", "y0", "x1", "y1"]


def agreement(candidates: pd.DataFrame) -> NDArray[np.float64]:
    """Largest IoU of each box with a box of another proposer in the same image, 0 to 1.

    NaN throughout where the table knows one proposer alone: no other looked.

    Args:
        candidates: Proposals that never saw the annotations, sorted by image.
    """
    if candidates["proposer"].nunique() < 2:
        return np.full(len(candidates), np.nan)
    best = np.zeros(len(candidates))
    boxes, proposers = candidates[BOX].to_numpy(dtype=float), candidates["proposer"].to_numpy()
    for rows in candidates.groupby("image_id", sort=False).indices.values():
        overlap = box_ious(boxes[rows].tolist(), boxes[rows].tolist())
        overlap[proposers[rows][:, None] == proposers[rows][None, :]] = 0.0
        best[rows] = overlap.max(axis=1)
    return best


def features(candidates: pd.DataFrame) -> pd.DataFrame:
    """One row of finite numbers a candidate.

    Lengths are shares of the image's sides, so that neither resolution nor a proposer's units matter. `rank`,
    `relative` and `rivals` say how a proposal stands among those of its own proposer in the image. What is missing is
    -1, outside the range of the features that can be missing: HistGradientBoosting knows NaN, but fails on a column
    that is NaN throughout.

    Args:
        candidates: Columns of `PROPOSALS`, with `agreement` and the image's `width` and `height`.
    """
    x0, x1 = (candidates[name] / candidates["width"] for name in ("x0", "x1"))
    y0, y1 = (candidates[name] / candidates["height"] for name in ("y0", "y1"))
    box_share = ((x1 - x0) * (y1 - y0)).clip(lower=1e-9)
    scores = candidates.groupby(["image_id", "proposer"], sort=False)["score"]
    # A name of its own for each proposer, in alphabetical order: a table has the columns of the proposers it knows.
    proposers = {f"is_{name}": candidates["proposer"] == name for name in sorted(candidates["proposer"].unique())}
    return (
        pd.DataFrame(
            {
                "score": candidates["score"],
                "mask_quality": candidates["mask_quality"],
                "mask_stability": candidates["mask_stability"],
                "box_agreement": candidates["box_agreement"],
                "agreement": candidates["agreement"],
                "area": np.log(candidates["area_fraction"].clip(lower=1e-9)),
                "box_area": np.log(box_share),
                "fill": (candidates["area_fraction"] / box_share).clip(upper=1.0),
                "aspect": np.log((x1 - x0) / (y1 - y0)),
                "width": x1 - x0,
                "height": y1 - y0,
                "centre_x": (x0 + x1) / 2,
                "centre_y": (y0 + y1) / 2,
                "off_middle": ((x0 + x1) / 2 - 0.5).abs(),
                "border": np.minimum.reduce([x0, y0, 1 - x1, 1 - y1]),
                "rank": scores.rank(ascending=False, method="min"),
                "relative": candidates["score"] / scores.transform("max").clip(lower=1e-9),
                "rivals": scores.transform("size"),
                **proposers,
            }
        )
        .astype(float)
        .fillna(-1.0)
    )

"""Features of the joint score: numbers from proposer, segmenter and box, none from the truth."""

import numpy as np
import pandas as pd

from pipelines.regions.candidates import Candidates


def features(candidates: Candidates) -> pd.DataFrame:
    """One row of finite numbers for each candidate.

    Lengths are fractions of the image's sides, so that neither resolution nor a proposer's units matter. `rank`,
    `relative` and `rivals` compare a candidate with the other ones of its proposer in the same image, so that all of
    an image's must be here. A missing value is -1, outside the range of the features that can be missing:
    HistGradientBoosting accepts NaN, but fails on a column that is NaN throughout.
    """
    frame = _numbers(candidates)
    x0, x1 = (frame[name] / frame["image_width"] for name in ("x0", "x1"))
    y0, y1 = (frame[name] / frame["image_height"] for name in ("y0", "y1"))
    box_fraction = ((x1 - x0) * (y1 - y0)).clip(lower=1e-9)
    scores = frame.groupby(["image", "proposer"], sort=False)["score"]
    # One column for each proposer that occurs in the table, in alphabetical order.
    proposers = {f"is_{name}": candidates.proposer == name for name in candidates.proposer.categories}
    return (
        pd.DataFrame(
            {
                "score": frame["score"],
                "mask_quality": frame["mask_quality"],
                "mask_stability": frame["mask_stability"],
                "box_agreement": frame["box_agreement"],
                "agreement": frame["agreement"],
                "area": np.log(frame["area_fraction"].clip(lower=1e-9)),
                "box_area": np.log(box_fraction),
                "fill": (frame["area_fraction"] / box_fraction).clip(upper=1.0),
                "aspect": np.log((x1 - x0) / (y1 - y0)),
                "width": x1 - x0,
                "height": y1 - y0,
                "centre_x": (x0 + x1) / 2,
                "centre_y": (y0 + y1) / 2,
                "off_middle": ((x0 + x1) / 2 - 0.5).abs(),
                "border": np.minimum.reduce([x0, y0, 1 - x1, 1 - y1]),
                "rank": scores.rank(ascending=False, method="min"),
                "relative": frame["score"] / scores.transform("max").clip(lower=1e-9),
                "rivals": scores.transform("size"),
                **proposers,
            }
        )
        .astype(float)
        .fillna(-1.0)
    )


def _numbers(candidates: Candidates) -> pd.DataFrame:
    """The columns that features are computed from, as numbers; missing ones are NaN."""
    columns = ("x0", "y0", "x1", "y1", "area_fraction", "score", "mask_quality", "mask_stability", "box_agreement")
    numbers = {name: getattr(candidates, name) for name in (*columns, "agreement", "image")}
    numbers["proposer"] = candidates.proposer.codes
    numbers["image_width"] = candidates.images.width[candidates.image].astype(float)
    numbers["image_height"] = candidates.images.height[candidates.image].astype(float)
    return pd.DataFrame(numbers)

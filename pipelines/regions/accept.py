"""Which candidates stand: absent classes, people's verdicts, the threshold, and better regions at the same place.

Reason codes: absent_class, rejected_in_review, low_probability, overlaps_better, beyond_max_regions.
"""

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.geometry import Box
from pipelines.regions.checks import names_absent_class, surplus
from pipelines.regions.config import RegionsConfig
from pipelines.regions.features import BOX
from pipelines.regions.verdicts import Matched


def reasons(
    candidates: pd.DataFrame,
    rank: NDArray[np.float64],
    threshold: NDArray[np.float64],
    images: dict[str, dict[str, Any]],
    review: Matched,
    config: RegionsConfig,
) -> NDArray[np.object_]:
    """One reason code a candidate, None where it is accepted.

    A person's word comes first: an accepted box stands whatever its score, and boxes that people drew stand before
    those that proposers found.

    Args:
        candidates: From `pipelines.regions.candidates.usable`.
        rank: Joint probability, or the proposer's score where there is none; the higher the better.
        threshold: Least `rank` of each.
        images: Rows of `SPLIT_IMAGES` by image_id.
        review: People's verdicts.
        config: The limits.
    """
    labels, image_ids = candidates["label"].tolist(), candidates["image_id"].to_numpy()
    found = np.full(len(candidates), None, dtype=object)
    for row, (label, image_id, decision) in enumerate(zip(labels, image_ids, review.decisions, strict=True)):
        if decision == "rejected":
            found[row] = "rejected_in_review"
        elif decision == "accepted":
            continue
        elif names_absent_class({"label": None if label is pd.NA else label}, images[image_id]):
            found[row] = "absent_class"
        elif rank[row] < threshold[row]:
            found[row] = "low_probability"

    boxes, numbers = candidates[BOX].to_numpy(dtype=float), candidates["n"].to_numpy(dtype=int)
    certain = review.decisions == "accepted"
    drawn: dict[str, list[Box]] = defaultdict(list)
    for verdict in review.drawn:
        drawn[verdict.image_id].append(verdict.box)
    for image_id, rows in candidates.groupby("image_id", sort=False).indices.items():
        first = drawn[str(image_id)]
        standing = np.array([row for row in rows if found[row] is None], dtype=int)
        best_first = standing[np.lexsort((numbers[standing], -rank[standing], ~certain[standing]))]
        kept = [True] * len(first) + certain[best_first].tolist()
        found[best_first] = surplus(first + boxes[best_first].tolist(), kept, config)[len(first) :]
    return found

"""What the summary tells beyond its counts: regions by source, the rounds, the truth that was found."""

from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss

from pipelines.proposals.overlap import truth_ious
from pipelines.regions.candidates import RIGHT
from pipelines.regions.rounds import Round

Row = dict[str, Any]


def count_regions(rows: list[Row]) -> dict[str, Any]:
    """Regions per source and role: {source: {role: {proposed, accepted, rejected, certified, reasons}}}."""
    counts: dict[str, Any] = {}
    for row in rows:
        of_source = counts.setdefault(row["source"], {})
        empty = {"proposed": 0, "accepted": 0, "rejected": 0, "certified": 0, "reasons": {}}
        count = of_source.setdefault(row["role"], empty)
        count["proposed"] += 1
        count[row["status"]] += 1
        count["certified"] += row["certified"]
        if row["reason"]:
            count["reasons"][row["reason"]] = count["reasons"].get(row["reason"], 0) + 1
    return counts


def tell_rounds(rounds: list[Round], candidates: pd.DataFrame, target: NDArray[np.float64]) -> list[Row]:
    """Of each round: images learnt from, coverage, and how good each model is out of fold on what people labelled."""
    told = []
    for number, latest in enumerate(rounds):
        models = {}
        for name, model in latest.scored.models.items():
            labelled = ~np.isnan(target[model.rows])
            known, probability = target[model.rows][labelled], model.out_of_fold[labelled]
            models[name] = {
                "images": int(candidates["image_id"].iloc[model.rows[labelled]].nunique()),
                "proposals": len(known),
                "right": int(known.sum()),
                "average_precision": round(float(average_precision_score(known, probability)), 4),
                "brier": round(float(brier_score_loss(known, probability)), 4),
            }
        told.append(
            {"round": number, "learnt": len(latest.learnt), "coverage": round(latest.coverage, 4), "models": models}
        )
    return told


def recall(rows: list[Row], images: dict[str, Row], group_of: dict[str, str]) -> dict[str, float]:
    """Share of the true regions of test images that an accepted region meets with an IoU of at least 0.5, by group.

    Args:
        rows: Rows of `REGIONS`.
        images: Rows of `SPLIT_IMAGES` by image_id.
        group_of: Modality -> group.
    """
    of_image: dict[str, dict[str, list[Row]]] = defaultdict(lambda: {"input": [], "truth": []})
    for row in rows:
        if row["status"] == "accepted" and images[row["image_id"]]["split"] == "test":
            of_image[row["image_id"]][row["role"]].append(row)
    met: dict[str, list[bool]] = defaultdict(list)
    for image_id, of_role in of_image.items():
        image = images[image_id]
        best = truth_ious(of_role["truth"], of_role["input"], image["height"], image["width"])
        met[group_of[image["modality"]]] += (best >= RIGHT).tolist()
    return {name: round(float(np.mean(found)), 4) for name, found in sorted(met.items()) if found}

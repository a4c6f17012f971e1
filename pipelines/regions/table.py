"""Rows of `REGIONS`: what was judged, what the source drew, and what people drew."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.geometry import clip_box
from pipelines.records import REGIONS, rows_of
from pipelines.regions.checks import fault, is_speck
from pipelines.regions.config import RegionsConfig
from pipelines.regions.verdicts import Matched, Verdict

REVIEW = "review"  # proposer of boxes that people drew

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The candidates with what the stage decided, one entry each.

    Attributes:
        candidates: From `pipelines.regions.candidates.usable`.
        probability: Joint score, NaN where there is none.
        reason: Why it was rejected, None where it was accepted.
        certified: Whether the promise covers it.
        round: First round whose score accepts it, NaN where none does.
        review: People's verdicts.
    """

    candidates: pd.DataFrame
    probability: NDArray[np.float64]
    reason: NDArray[np.object_]
    certified: NDArray[np.bool_]
    round: NDArray[np.float64]
    review: Matched

    def by_place(self) -> dict[tuple[str, int], Row]:
        """The judged columns of each candidate, by image and number of the proposal."""
        places = zip(self.candidates["image_id"], self.candidates["n"], strict=True)
        return {
            (image_id, int(n)): {
                "agreement": _or_none(agreement),
                "probability": _or_none(probability),
                "certified": bool(certified),
                "round": None if np.isnan(number) or decision is not None or reason is not None else int(number),
                "review": decision,
                "reason": reason,
            }
            for (image_id, n), agreement, probability, certified, number, decision, reason in zip(
                places,
                self.candidates["agreement"],
                self.probability,
                self.certified,
                self.round,
                self.review.decisions,
                self.reason,
                strict=True,
            )
        }


def region_rows(
    images: dict[str, Row], proposals: pd.DataFrame, judged: Judged, config: RegionsConfig
) -> tuple[list[Row], dict[str, int]]:
    """All rows in the order of the images, and how many proposals of each source are none since they served to fit.

    Args:
        images: Rows of `SPLIT_IMAGES` by image_id.
        proposals: Table `PROPOSALS`.
        judged: The decisions.
        config: Section `regions`.
    """
    decided = judged.by_place()
    of_image: dict[str, list[Row]] = defaultdict(list)
    for row in rows_of(proposals.sort_values(["image_id", "n"])):
        of_image[row["image_id"]].append(row)
    drawn: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in judged.review.drawn:
        drawn[verdict.image_id].append(verdict)
    rows: list[Row] = []
    for_fitting: dict[str, int] = defaultdict(int)
    for image_id, image in sorted(images.items()):
        found = of_image[image_id]
        # An image that the source annotated as empty has proposals with truth, and no annotation among them.
        annotated = any(row["sees_annotations"] or row["truth_iou"] is not None for row in found)
        drop = None if image["split"] != "train" or not annotated else config.train != "annotations"
        kept = [row for row in found if row["sees_annotations"] != drop] if drop is not None else found
        for_fitting[image["source"]] += len(found) - len(kept)
        inputs = _inputs([row for row in kept if not row["sees_annotations"]], image, decided, config)
        source_drew = [row for row in kept if row["sees_annotations"]]
        if image["split"] == "train":
            inputs = _annotated(source_drew, image, config) + inputs
            truth = []
        else:
            truth = [_truth(row, config) for row in source_drew]
        people_drew = [_drawn(verdict, image, config) for verdict in drawn[image_id]]
        for n, row in enumerate([*people_drew, *inputs, *truth]):
            row.update(n=n, region_id=f"{image_id}-{n}", image_id=image_id, source=image["source"])
            rows.append(row)
    return rows, {source: count for source, count in sorted(for_fitting.items()) if count}


def _inputs(found: list[Row], image: Row, decided: dict[tuple[str, int], Row], config: RegionsConfig) -> list[Row]:
    """Proposals as `input` rows, most probable first; those that a hard limit refused before any score come last."""
    judged, refused = [], []
    for row in found:
        if decision := decided.get((row["image_id"], row["n"])):
            judged.append(_row(row, "input", **decision))
        else:
            reason = row["reason"] or fault(row, image["width"], image["height"], config)
            assert reason is not None, f"proposal {row['n']} of {row['image_id']} was neither judged nor refused"
            refused.append(_row(row, "input", reason))
    return sorted(judged, key=_place) + sorted(refused, key=_place)


def _annotated(found: list[Row], image: Row, config: RegionsConfig) -> list[Row]:
    """Annotations as `input` rows: no score judges them and no number cuts them, but the limits of size do."""
    rows = [_row(row, "input", row["reason"] or fault(row, image["width"], image["height"], config)) for row in found]
    return sorted(rows, key=_place)


def _truth(row: Row, config: RegionsConfig) -> Row:
    return _row(row, "truth", row["reason"] or ("too_small" if is_speck(row, config) else None))


def _drawn(verdict: Verdict, image: Row, config: RegionsConfig) -> Row:
    """A box that a person drew, cut to the image."""
    width, height = image["width"], image["height"]
    x0, y0, x1, y1 = clip_box(verdict.box, width, height)
    area = round((x1 - x0) * (y1 - y0))
    row = {
        "proposer": REVIEW,
        "label": verdict.label,
        "x0": x0,
        "y0": y0,
        "x1": x1,
        "y1": y1,
        "area": area,
        "area_fraction": area / (width * height),
        "score": 1.0,
    }
    return _row(row, "input", "too_small" if is_speck(row, config) else None, review="accepted")


def _row(row: Row, role: str, reason: str | None, **judged: Any) -> Row:
    """A row of `REGIONS` but for its number, from one of `PROPOSALS`."""
    columns = REGIONS.contract.columns
    return {
        **{name: row.get(name) for name in columns},
        "role": role,
        "certified": False,
        **judged,
        "status": "rejected" if reason else "accepted",
        "reason": reason,
    }


def _place(row: Row) -> tuple[float, ...]:
    best = row["score"] if row["probability"] is None else row["probability"]
    return (-best, -row["area"], row["x0"], row["y0"], row["x1"], row["y1"])


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)

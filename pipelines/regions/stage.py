"""The stage `regions`: which proposals become regions, with what probability, and which of them carry a promise.

Reads data/split/images.parquet, data/proposals/proposals.parquet, the file of people's verdicts that `regions.review`
names, and the params section `regions`. Writes data/regions/regions.parquet (`REGIONS`).

Alone: python -m pipelines.regions

Training images that the source annotated take their `input` regions from the annotations (or, as params say, from
proposals), all other images from proposals that never saw them; validation and test images have their annotations
beside them with the role `truth`. Proposals on annotated training images serve to fit the joint score.

An image's regions are numbered from 0: inputs, those that people or the source drew first, then by falling probability;
then truth in the source's order. A region is accepted, or rejected with a reason code, and stands in the table either
way. `round` is the first round whose score accepts it at the final threshold; null where a person or the source did.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.config import load
from pipelines.errors import UserError
from pipelines.records import PROPOSALS, REGIONS, SPLIT_IMAGES, rows_of
from pipelines.regions import verdicts
from pipelines.regions.accept import reasons
from pipelines.regions.candidates import told_images, truth_of, usable
from pipelines.regions.config import RegionsConfig
from pipelines.regions.judge import groups_of, judge, samples_of
from pipelines.regions.rounds import Round, run_rounds
from pipelines.regions.table import Judged, region_rows
from pipelines.regions.tell import count_regions, recall, tell_rounds
from pipelines.regions.verdicts import Matched
from pipelines.stage import SUMMARIES, Summary


def main() -> None:
    split, proposals = Path("data/split/images.parquet"), Path("data/proposals/proposals.parquet")
    run(load(RegionsConfig, "regions"), split, proposals, Path("data/regions/regions.parquet"))


def run(
    config: RegionsConfig, split: Path, proposals: Path, output: Path, summaries: Path = SUMMARIES
) -> dict[str, Any]:
    """Judge all proposals and write the regions.

    Args:
        config: Settings of the stage.
        split: The table `SPLIT_IMAGES`.
        proposals: The table `PROPOSALS`.
        output: The Parquet file to write.
        summaries: Folder of summary.json files.

    Returns:
        The summary. Its inputs are the rows of `REGIONS` and the verdicts that came to nothing. Beside the counts:
        `regions` per source and role, `no_input_region` (images) and `for_fitting` (proposals that served to fit alone)
        per source, `rounds`, `promise` per group, and `review`.

    Raises:
        UserError: A table or the file of verdicts is missing, or the tables do not belong together.
    """
    summary = Summary("regions")
    image_frame, proposal_frame = SPLIT_IMAGES.read(split), PROPOSALS.read(proposals)
    images = {row["image_id"]: row for row in rows_of(image_frame)}
    if strangers := set(proposal_frame["image_id"]) - images.keys():
        raise UserError(f"{proposals} has {len(strangers)} images that {split} lacks: run dvc repro proposals")
    told = told_images(image_frame, proposal_frame)
    candidates = usable(proposal_frame, told, config)
    said = verdicts.read(config.review)
    review = verdicts.match(said, candidates, images)

    target = truth_of(candidates)
    target[review.decisions == "accepted"] = 1.0
    target[review.decisions == "rejected"] = 0.0
    target[(candidates["split"] != "train").to_numpy()] = np.nan
    unannotated = set(told.loc[~told["annotated"] & (told["split"] == "train"), "image_id"])
    rounds = run_rounds(candidates, target, unannotated, config)
    probability = rounds[-1].scored.probability
    promise = {
        name: judge(splits, config) for name, splits in samples_of(told, candidates, probability, config).items()
    }
    group_of = groups_of(told, config)
    thresholds = {modality: promise[group].threshold for modality, group in group_of.items()}
    judged = _decide(candidates, target, rounds, thresholds, images, review, config)
    rows, for_fitting = region_rows(images, proposal_frame, judged, config)

    summary.ok(sum(row["status"] == "accepted" for row in rows))
    for reason, count in sorted(Counter(row["reason"] for row in rows if row["reason"]).items()):
        summary.rejected(reason, count)
    for reason, count in sorted(review.unused.items()):
        summary.rejected(f"review_{reason}", count)
    REGIONS.write(REGIONS.frame(rows), output)
    found_truth = recall(rows, images, group_of)
    summary.extra = {
        "regions": count_regions(rows),
        "no_input_region": _without_region(rows, images),
        "for_fitting": for_fitting,
        "rounds": tell_rounds(rounds, candidates, target),
        "promise": {
            name: {
                "precision": config.promise.precision,
                "confidence": config.promise.confidence,
                **outcome.as_dict(),
                "test_recall": found_truth.get(name),
            }
            for name, outcome in promise.items()
        },
        "review": {"verdicts": len(said), "unused": dict(sorted(review.unused.items()))},
    }
    return summary.write(len(rows) + sum(review.unused.values()), summaries)


def _decide(
    candidates: pd.DataFrame,
    target: NDArray[np.float64],
    rounds: list[Round],
    thresholds: dict[str, float | None],
    images: dict[str, dict[str, Any]],
    review: Matched,
    config: RegionsConfig,
) -> Judged:
    """Put the last round's probabilities to the thresholds (by modality, None where none was certified)."""
    probability = rounds[-1].scored.probability
    unscored = np.isnan(probability)
    rank = np.where(unscored, candidates["score"].to_numpy(dtype=float), probability)
    certain = candidates["modality"].map({name: t is not None for name, t in thresholds.items()}).to_numpy(dtype=bool)
    asked = candidates["modality"].map({n: config.min_probability if t is None else t for n, t in thresholds.items()})
    least = np.where(unscored, 0.0, asked.to_numpy(dtype=float))
    found = reasons(candidates, rank, least, images, review, config)
    accepted = np.array([reason is None for reason in found], dtype=bool)
    kept_by_score = accepted & certain & (probability >= least)
    return Judged(
        candidates=candidates,
        probability=probability,
        reason=found,
        certified=kept_by_score & _promisable(candidates, found, target, rounds),
        round=_first_round(rounds, least),
        review=review,
    )


def _promisable(
    candidates: pd.DataFrame, found: NDArray[np.object_], target: NDArray[np.float64], rounds: list[Round]
) -> NDArray[np.bool_]:
    """Candidates of images like those that the threshold was calibrated on, which took no part in any fit.

    Test images, and images that nobody annotated, of the sources and modalities that the calibration images are of. Of
    training images none, once any was learnt from: those left over are the ones with low scores, and no fair sample.
    None either where the image's own labels or report helped to propose or to refuse.
    """
    annotated, split = candidates["annotated"].to_numpy(dtype=bool), candidates["split"].to_numpy()
    kind = pd.MultiIndex.from_frame(candidates[["source", "modality"]].astype(object))
    fair = ((split == "test") | ~annotated) & kind.isin(kind[annotated & (split == "validation")])
    if rounds[-1].learnt:
        fair &= split != "train"
    told = candidates["own_phrases"].to_numpy(dtype=bool) | (found == "absent_class") | ~np.isnan(target)
    helped = set(candidates.loc[told, "image_id"])
    return fair & ~candidates["image_id"].isin(helped).to_numpy()


def _first_round(rounds: list[Round], least: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first round whose probability reaches the final threshold, NaN where none does."""
    first = np.full(len(least), np.nan)
    for number in reversed(range(len(rounds))):
        first[rounds[number].scored.probability >= least] = number
    return first


def _without_region(rows: list[dict[str, Any]], images: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Images of each source without an accepted `input` region."""
    with_region = {row["image_id"] for row in rows if row["role"] == "input" and row["status"] == "accepted"}
    bare = Counter(image["source"] for image_id, image in images.items() if image_id not in with_region)
    return dict(sorted(bare.items()))

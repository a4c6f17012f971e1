"""The stage `regions`: which proposals become regions, with what probability, and which of them are certified.

Reads data/split/images.parquet, data/proposals/proposals.parquet, the file of review labels that `regions.review`
names, and the params section `regions`. Writes data/regions/regions.parquet (`REGIONS`).

Alone: python -m pipelines.regions

Training images that the source annotated take their `input` regions from the annotations (or from proposals, as
`training_regions` says), all other images from proposals that never saw the annotations. Validation and test images
have their annotations beside them with the role `truth`. Proposals on annotated training images serve to fit the joint
score.

An image's regions are numbered from 0: first the inputs, of these the boxes of reviewers and the annotations before the
proposals, which follow by falling probability; then the truth in the source's order. A region is accepted, or rejected
with a reason code, and has a row either way. `round` is the first round of self-training whose score accepts it at the
final threshold; null where a reviewer or the source decided.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.config import load
from pipelines.errors import UserError
from pipelines.files import atomic_folder
from pipelines.records import PROPOSALS, REGIONS, SPLIT_IMAGES
from pipelines.regions import review_labels
from pipelines.regions.calibration.groups import calibration_groups, labelled_regions
from pipelines.regions.calibration.threshold_selection import select_threshold
from pipelines.regions.candidates import Candidate, annotated_images, correctness, select_candidates
from pipelines.regions.config import RegionsConfig
from pipelines.regions.decisions import decide
from pipelines.regions.review_labels import MatchedReview
from pipelines.regions.self_training import self_train
from pipelines.regions.summary import (
    count_regions,
    describe_risk_control,
    describe_rounds,
    images_without_input_region,
    recall_on_test_images,
)
from pipelines.regions.table import region_rows
from pipelines.stage import SUMMARIES, Summary


def main() -> None:
    split, proposals = Path("data/split/images.parquet"), Path("data/proposals/proposals.parquet")
    with atomic_folder(Path("data/regions")) as folder:
        run(load(RegionsConfig, "regions"), split, proposals, folder / "regions.parquet")


def run(
    config: RegionsConfig, split: Path, proposals: Path, output: Path, summaries: Path = SUMMARIES
) -> dict[str, Any]:
    """Decide about all proposals and write the regions.

    Args:
        config: Settings of the stage.
        split: The table `SPLIT_IMAGES`.
        proposals: The table `PROPOSALS`.
        output: The Parquet file to write.
        summaries: Folder of summary.json files.

    Returns:
        The summary. Its inputs are the rows of `REGIONS` and the review labels without effect. Beside the counts:
        `regions` of each source and role, `images_without_input_region` and `proposals_only_for_fitting` of each
        source, the rounds of `self_training`, `risk_control` of each group, and `review`.

    Raises:
        UserError: A table or the file of review labels is missing, or the tables do not belong together.
    """
    summary = Summary("regions")
    images = {image.image_id: image for image in SPLIT_IMAGES.read(split)}
    proposal_rows = PROPOSALS.read(proposals)
    if unknown := {proposal.image_id for proposal in proposal_rows} - images.keys():
        raise UserError(f"{proposals} has {len(unknown)} images that {split} lacks: run dvc repro proposals")
    annotated = annotated_images(images.values(), proposal_rows)
    candidates = select_candidates(images, proposal_rows, annotated, config)
    labels = review_labels.read(config.review)
    review = review_labels.match(labels, candidates, images)

    targets = _fitting_targets(candidates, review)
    unannotated = {id_ for id_, image in images.items() if image.split == "train" and id_ not in annotated}
    rounds = self_train(candidates, targets, unannotated, config)

    image_rows = list(images.values())
    regions_of_group = labelled_regions(image_rows, annotated, candidates, rounds[-1].scores.probability, config)
    selected = {group: select_threshold(splits, config) for group, splits in regions_of_group.items()}
    group_of = calibration_groups(image_rows, annotated, config)
    thresholds = {modality: selected[group].threshold for modality, group in group_of.items()}

    decisions = decide(candidates, targets, rounds, thresholds, group_of, review, config)
    rows, without_row = region_rows(images, proposal_rows, decisions, review.reviewer_boxes, config)
    REGIONS.write(output, rows)

    summary.ok(sum(row.status == "accepted" for row in rows))
    for reason, count in sorted(Counter(row.reason for row in rows if row.reason).items()):
        summary.rejected(reason, count)
    for reason, count in sorted(review.unused.items()):
        summary.rejected(f"review_{reason}", count)
    recall = recall_on_test_images(rows, images, group_of)
    summary.extra = {
        "regions": count_regions(rows),
        "images_without_input_region": images_without_input_region(rows, images),
        "proposals_only_for_fitting": dict(sorted(without_row.items())),
        "self_training": describe_rounds(rounds, candidates, targets),
        "risk_control": describe_risk_control(selected, recall, config.risk_control),
        "review": {
            "labels": len(labels),
            "unused": dict(sorted(review.unused.items())),
            "names": dict(sorted(review.counted_names.items())),
        },
    }
    return summary.write(len(rows) + sum(review.unused.values()), summaries)


def _fitting_targets(candidates: Sequence[Candidate], review: MatchedReview) -> NDArray[np.float64]:
    """Labels to fit the joint score on: the source's or, before these, a reviewer's; on training images alone."""
    targets = correctness(candidates)
    targets[review.has_decision("accepted")] = 1.0
    targets[review.has_decision("rejected")] = 0.0
    held_out = np.array([candidate.image.split != "train" for candidate in candidates], dtype=bool)
    targets[held_out] = np.nan
    return targets

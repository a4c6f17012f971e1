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

Images and proposals are read twice, side by side, so that only numbers of the candidates are in memory
(`pipelines.regions.candidates`): first for what is decided about all of them at once, then to write the regions.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.config import load
from pipelines.files import atomic_folder
from pipelines.records import REGIONS, ProposalRow, RegionRow, SplitImageRow
from pipelines.regions import review_labels
from pipelines.regions.calibration.groups import calibration_groups, labelled_regions
from pipelines.regions.calibration.threshold_selection import select_threshold
from pipelines.regions.candidates import Candidates, images_with_proposals, select_candidates
from pipelines.regions.config import RegionsConfig
from pipelines.regions.decisions import Decisions, decide
from pipelines.regions.review_labels import MatchedReview, ReviewLabel
from pipelines.regions.self_training import self_train
from pipelines.regions.summary import RegionCounts, describe_risk_control, describe_rounds
from pipelines.regions.table import region_rows, used_proposals
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
    candidates = select_candidates(split, proposals, config)
    images = candidates.images
    labels = review_labels.read(config.review)
    review = review_labels.match(labels, candidates)

    targets = _fitting_targets(candidates, review)
    rounds = self_train(candidates, targets, images.in_split("train") & ~images.annotated, config)

    regions_of_group = labelled_regions(candidates, rounds[-1].scores.probability, config)
    selected = {group: select_threshold(splits, config) for group, splits in regions_of_group.items()}
    group_of = calibration_groups(images, config)
    thresholds = {modality: selected[group].threshold for modality, group in group_of.items()}

    decisions = decide(candidates, targets, rounds, thresholds, group_of, review, config)
    counts = RegionCounts(group_of)
    REGIONS.write(output, _rows(images_with_proposals(split, proposals), decisions, counts, config))

    outcomes = counts.outcomes()
    summary.ok(outcomes[None])
    for reason, count in sorted((reason, count) for reason, count in outcomes.items() if reason):
        summary.rejected(reason, count)
    for reason, count in sorted(review.unused.items()):
        summary.rejected(f"review_{reason}", count)
    summary.extra = {
        "regions": counts.regions(),
        "images_without_input_region": dict(sorted(counts.images_without_input_region.items())),
        "proposals_only_for_fitting": dict(sorted(counts.proposals_only_for_fitting.items())),
        "self_training": describe_rounds(rounds, candidates, targets),
        "risk_control": describe_risk_control(selected, counts.recall_on_test_images(), config.risk_control),
        "review": {
            "labels": len(labels),
            "unused": dict(sorted(review.unused.items())),
            "names": dict(sorted(review.counted_names.items())),
        },
    }
    return summary.write(counts.rows + sum(review.unused.values()), summaries)


def _fitting_targets(candidates: Candidates, review: MatchedReview) -> NDArray[np.float64]:
    """Labels to fit the joint score on: the source's or, before these, a reviewer's; on training images alone."""
    targets = candidates.correctness()
    targets[review.indices("accepted")] = 1.0
    targets[review.indices("rejected")] = 0.0
    targets[~candidates.in_split("train")] = np.nan
    return targets


def _rows(
    pairs: Iterable[tuple[SplitImageRow, Sequence[ProposalRow]]],
    decisions: Decisions,
    counts: RegionCounts,
    config: RegionsConfig,
) -> Iterator[RegionRow]:
    """The regions of all images in the order of their ids, counted as they come."""
    drawn_on: dict[str, list[ReviewLabel]] = defaultdict(list)
    for label in decisions.review.reviewer_boxes:
        drawn_on[label.image_id].append(label)
    for index, (image, proposals) in enumerate(pairs):
        used = used_proposals(image, proposals, config)
        rows = region_rows(image, used, decisions.of_image(index), drawn_on.get(image.image_id, []), config)
        counts.add(image, rows, len(proposals) - len(used))
        yield from rows

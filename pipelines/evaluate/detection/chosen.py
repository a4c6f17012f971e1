"""What the task chooses for each finding of each source: thresholds of heatmaps, and the cut of similarity."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipelines.evaluate.detection.config import DetectionConfig
from pipelines.evaluate.detection.measure import FindingResult, Key, drawn_findings, measure
from pipelines.evaluate.detection.presence import Presence, best_cut, findings_told
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.grounding.measure import THRESHOLDS
from pipelines.evaluate.grounding.scores import DEFAULT_THRESHOLD, best_threshold
from pipelines.evaluate.grounding.training import MeanMasks
from pipelines.evaluate.metrics.localisation import dice_of
from pipelines.evaluate.metrics.segmentation import Values

TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen for one finding of one source.

    Attributes:
        on: Split on which it was.
        images: How many of its images the thresholds were chosen on.
        thresholds: Heatmap -> from which level on it marks a pixel; empty where the option `threshold` is set.
        cut: Similarity from which on the finding is there; None: there were not both images with and without it.
    """

    on: str
    images: int
    thresholds: dict[str, float] = field(default_factory=dict)
    cut: float | None = None


Choices = Mapping[Key, Choice]


def levels_of(config: DetectionConfig) -> Values:
    """(thresholds,): those that are compared, or the one that is given."""
    return THRESHOLDS if config.threshold is None else np.array([config.threshold])


def column_of(choice: Choice | None, name: str, levels: Values) -> int:
    """Where a heatmap's threshold stands among `levels`; that of `DEFAULT_THRESHOLD` where none was chosen."""
    threshold = DEFAULT_THRESHOLD if choice is None else choice.thresholds.get(name, DEFAULT_THRESHOLD)
    return int(np.abs(levels - threshold).argmin())


def choose(
    config: DetectionConfig, results: Sequence[FindingResult], presences: Mapping[Key, Presence], on: str
) -> dict[Key, Choice]:
    """For each finding the thresholds with the highest mean Dice, and the cut that tells most images rightly."""
    by_key: dict[Key, list[FindingResult]] = {}
    for result in results:
        by_key.setdefault(result.of.key, []).append(result)
    choices = {}
    for key in sorted({*by_key, *presences}):
        same, presence = by_key.get(key, []), presences.get(key)
        thresholds = {}
        if same and config.threshold is None:
            # A finding that the training split lacks has no mean training box, of any image.
            thresholds = {name: best_threshold([dice_of(result.iou[name]) for result in same]) for name in same[0].iou}
        cut = None if presence is None else best_cut(presence)
        choices[key] = Choice(on=on, images=len(same), thresholds=thresholds, cut=cut)
    return choices


def choose_on_training(config: DetectionConfig, test: EvaluationSet, training: MeanMasks | None) -> dict[Key, Choice]:
    """Choices on the training images; empty where there are none at hand."""
    images, known = test.training_set, test.training_embeddings
    if images is None or known is None:
        return {}
    drawn = drawn_findings(known.sources, images.region_labels)
    kept, counts = [], dict[Key, int]()
    for one in drawn:
        counts[one.key] = counts.get(one.key, 0) + 1
        if counts[one.key] <= config.training_images:
            kept.append(one)
    # A fixed threshold leaves nothing to choose on them.
    results = [] if config.threshold is not None else measure(images, kept, config.prompt, levels_of(config), training)
    directions = prompt_directions(test, counts, config)
    found = findings_told(known.sources, known.labels, known.embeddings, counts, directions.__getitem__)
    return choose(config, results, found, TRAIN)


def prompt_directions(test: EvaluationSet, findings: Collection[Key], config: DetectionConfig) -> dict[str, Any]:
    """Finding -> embedding of its prompt, (dimensions,)."""
    names = sorted({finding for _, finding in findings})
    return dict(zip(names, test.embed_texts([config.prompt(name) for name in names]), strict=True)) if names else {}


def as_json(choices: Choices) -> dict[str, Any]:
    """For `Result.chosen`: source -> finding -> choice."""
    found: dict[str, Any] = {}
    for (source, finding), choice in sorted(choices.items()):
        found.setdefault(source, {})[finding] = asdict(choice)
    return found


def from_json(chosen: Mapping[str, Any]) -> dict[Key, Choice]:
    """The choices of `as_json`."""
    return {
        (source, finding): Choice(**one) for source, findings in chosen.items() for finding, one in findings.items()
    }

"""Contrast-to-noise ratio by class: of the phrases of each label by themselves, and the mean over the labels.

As PLAN's table II prints MS-CXR: a class is the label of the regions that a phrase is of, as the source calls it; a
phrase of regions with two labels counts for both, and one of regions without any for none. The mean over classes
(`macro/...`) gives a rare finding the weight of a frequent one; its resamples draw phrases within each class.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.grounding.measure import METHOD, PhraseResult
from pipelines.evaluate.grounding.phrases import SETTINGS, named
from pipelines.evaluate.grounding.scores import Thresholds, chances, item_scores, setting_scores, values_of
from pipelines.evaluate.metrics.bootstrap import Score
from pipelines.evaluate.metrics.macro import mean_of_means
from pipelines.evaluate.task import ItemScore

MACRO = "macro"
METRICS = ("cnr_signed", "cnr_absolute")
# What a class cannot be called: settings, metrics and the mean over classes stand there in names and counts.
TAKEN = frozenset({MACRO, *SETTINGS, *METRICS, "which_lesion", "pointing", "iou"})


def class_name(label: str) -> str:
    """A label in the name of a metric: `pleural_effusion`, `肺炎`; a label that is one of `TAKEN` ends in `_`."""
    name = re.sub(r"[\W_]+", "_", label.lower()).strip("_")
    return f"{name}_" if name in TAKEN else name


def by_class(
    results: Iterable[PhraseResult], region_labels: Sequence[Mapping[int, str]]
) -> dict[str, list[PhraseResult]]:
    """Class -> its phrases, classes in alphabetical order.

    Args:
        results: Of phrases.
        region_labels: Of each image, `EvaluationSet.region_labels`.
    """
    found: dict[str, list[PhraseResult]] = {}
    for result in results:
        labels = region_labels[result.phrase.index]
        for name in dict.fromkeys(class_name(labels[number]) for number in result.phrase.regions if number in labels):
            found.setdefault(name, []).append(result)
    return dict(sorted(found.items()))


def class_scores(
    classes: Mapping[str, Sequence[PhraseResult]], thresholds: Thresholds, bootstrap: Bootstrap
) -> dict[str, Score]:
    """`<class>/<metric>` and `macro/<metric>` of `METRICS`; nothing where no phrase has a class."""
    scores: dict[str, Score] = {}
    for name, results in classes.items():
        of_class = setting_scores(name, results, thresholds, bootstrap)
        scores |= {named(name, metric): of_class[named(name, metric)] for metric in METRICS}
    if classes:
        scores |= {named(MACRO, metric): _macro(metric, classes, scores, thresholds, bootstrap) for metric in METRICS}
    return scores


def _macro(
    metric: str,
    classes: Mapping[str, Sequence[PhraseResult]],
    scores: Mapping[str, Score],
    thresholds: Thresholds,
    bootstrap: Bootstrap,
) -> Score:
    """The mean over the classes of their means, and likewise of chance and of the baselines."""
    values = [values_of(results, METHOD, thresholds)[metric] for results in classes.values()]
    chance = float(np.mean([chances(results)[metric] for results in classes.values()]))
    baselines = [scores[named(name, metric)].baselines for name in classes]
    means = {name: round(float(np.mean([of[name] for of in baselines])), 6) for name in baselines[0]}
    return replace(mean_of_means(values, chance, bootstrap), baselines=means)


def class_items(
    images: Sequence[EvaluationImage], classes: Mapping[str, Sequence[PhraseResult]], thresholds: Thresholds
) -> Iterator[ItemScore]:
    """The values of each phrase, once for each of its classes; the mean over classes has none."""
    for name, results in classes.items():
        for item in item_scores(images, name, results, thresholds):
            if item.metric.rpartition("/")[2] in METRICS:
                yield item

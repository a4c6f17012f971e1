"""The scores of phrases: means of the method's heatmaps beside chance and the baselines, and the thresholds of IoU."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.grounding.measure import METHOD, THRESHOLDS, PhraseResult
from pipelines.evaluate.grounding.phrases import named
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.metrics.segmentation import Values
from pipelines.evaluate.task import ItemScore

DEFAULT_THRESHOLD = 0.5

# Heatmap (`METHOD` or a baseline) -> from which level on it marks a pixel.
Thresholds = Mapping[str, float]


def best_thresholds(results: Sequence[PhraseResult]) -> dict[str, float]:
    """Of each heatmap the one of `THRESHOLDS` with the highest mean IoU over the phrases."""
    return {name: best_threshold([result.maps[name].overlap for result in results]) for name in results[0].maps}


def best_threshold(overlaps: Sequence[Values]) -> float:
    """The one of `THRESHOLDS` with the highest mean; of equal ones the lowest.

    Args:
        overlaps: Of each item (thresholds,).
    """
    return round(float(THRESHOLDS[np.argmax(np.mean(overlaps, axis=0))]), 1)


def values_of(results: Sequence[PhraseResult], name: str, thresholds: Thresholds) -> dict[str, np.ndarray]:
    """Metric -> its value of each phrase; of `which_lesion` those of the phrases that leave a choice.

    Args:
        results: Of one setting.
        name: Of the heatmap.
        thresholds: From `best_thresholds`; a heatmap that is not among them gets `DEFAULT_THRESHOLD`.
    """
    maps = [result.maps[name] for result in results]
    column = int(np.abs(THRESHOLDS - thresholds.get(name, DEFAULT_THRESHOLD)).argmin())
    signed = np.array([of.cnr for of in maps])
    values = {
        "pointing": np.array([of.pointing for of in maps]),
        "cnr_signed": signed,
        "cnr_absolute": np.abs(signed),
        "which_lesion": np.array([of.which for of in maps if of.which is not None]),
        "iou": np.array([of.overlap[column] for of in maps]),
    }
    return {metric: value for metric, value in values.items() if len(value)}


def chances(results: Sequence[PhraseResult]) -> dict[str, float]:
    """Metric -> the value of guessing."""
    fraction = float(np.mean([result.mask_fraction for result in results]))
    choices = [result.chance_which for result in results if result.chance_which is not None]
    return {
        "pointing": fraction,
        "cnr_signed": 0.0,
        "cnr_absolute": float(np.mean([result.chance_cnr for result in results])),
        # Without a choice there is no score either.
        "which_lesion": float(np.mean(choices)) if choices else 0.0,
        # Of a mask that is the whole image.
        "iou": fraction,
    }


def setting_scores(
    setting: str, results: Sequence[PhraseResult], thresholds: Thresholds, bootstrap: Bootstrap
) -> dict[str, Score]:
    """`<setting>/<metric>` -> the mean over the phrases, with those of the baselines on the same phrases."""
    by_map = {name: values_of(results, name, thresholds) for name in results[0].maps}
    chance = chances(results)
    scores = {}
    for metric, values in by_map.pop(METHOD).items():
        baselines = {name: float(of_map[metric].mean()) for name, of_map in by_map.items()}
        scores[named(setting, metric)] = mean_score(values, chance[metric], bootstrap, baselines)
    return scores


def means(results: Sequence[PhraseResult], thresholds: Thresholds) -> dict[str, float]:
    """Metric -> its mean of the method's heatmaps."""
    return {metric: round(float(values.mean()), 6) for metric, values in values_of(results, METHOD, thresholds).items()}


def term_details(results: Sequence[PhraseResult], thresholds: Thresholds) -> dict[str, Any]:
    """`terms`: the scores of each term by itself; `macro`: their means over the terms."""
    by_term: dict[str, list[PhraseResult]] = {}
    for result in results:
        by_term.setdefault(result.phrase.term, []).append(result)
    terms = {term: {"phrases": len(same), **means(same, thresholds)} for term, same in sorted(by_term.items())}
    metrics = dict.fromkeys(metric for values in terms.values() for metric in values if metric != "phrases")
    macro = {
        metric: round(float(np.mean([values[metric] for values in terms.values() if metric in values])), 6)
        for metric in metrics
    }
    return {"terms": terms, "macro": macro}


def item_scores(
    images: Sequence[EvaluationImage], setting: str, results: Sequence[PhraseResult], thresholds: Thresholds
) -> Iterator[ItemScore]:
    """The values of each phrase; with the first of them where the heatmap is highest."""
    for result in results:
        image, phrase = images[result.phrase.index], result.phrase
        item, (x, y) = f"{image.key} {phrase.text}", result.highest
        output: dict[str, float] | None = {"x": round(x, 4), "y": round(y, 4)}
        for metric, value in values_of([result], METHOD, thresholds).items():
            yield ItemScore(
                image,
                named(setting, metric),
                float(value[0]),
                item=item,
                label=phrase.term,
                prompt=phrase.text,
                output=output,
            )
            output = None

"""The scores of heatmaps of findings, means over images, and the items behind all scores."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.detection.chosen import Choices, column_of
from pipelines.evaluate.detection.measure import FindingResult, Key
from pipelines.evaluate.detection.presence import Presence
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.grounding.measure import METHOD
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.metrics.localisation import dice_of
from pipelines.evaluate.metrics.segmentation import Values
from pipelines.evaluate.task import ItemScore


def map_values(results: Sequence[FindingResult], name: str, choices: Choices, levels: Values) -> dict[str, Values]:
    """Metric -> its value of each finding.

    Args:
        results: Of the findings.
        name: Of the heatmap, which all of them have.
        choices: Whose thresholds count.
        levels: The thresholds at which `FindingResult.iou` was taken.
    """
    columns = [column_of(choices.get(result.of.key), name, levels) for result in results]
    iou = np.array([result.iou[name][column] for result, column in zip(results, columns, strict=True)])
    return {
        "iou": iou,
        "dice": dice_of(iou),
        "pointing": np.array([result.pointing[name] for result in results]),
    }


def map_scores(
    results: Sequence[FindingResult], choices: Choices, levels: Values, bootstrap: Bootstrap
) -> dict[str, Score]:
    """Metric -> its mean over the findings of images, with chance and the baselines that all of them have."""
    names = [name for name in results[0].iou if all(name in result.iou for result in results)]
    by_map = {name: map_values(results, name, choices, levels) for name in names}
    fraction = np.array([result.fraction for result in results])
    # Of a mask of the whole image, and of a random point.
    chance = {"iou": fraction, "dice": dice_of(fraction), "pointing": fraction}
    return {
        metric: mean_score(
            values,
            float(chance[metric].mean()),
            bootstrap,
            {name: float(by_map[name][metric].mean()) for name in names if name != METHOD},
        )
        for metric, values in by_map[METHOD].items()
    }


def map_items(
    images: Sequence[EvaluationImage],
    results: Sequence[FindingResult],
    choices: Choices,
    levels: Values,
    prompt: Callable[[str], str],
) -> Iterator[ItemScore]:
    """The values of each finding of each image; with the first of them where the heatmap is highest."""
    for result in results:
        x, y = result.highest
        output: dict[str, float] | None = {"x": round(x, 4), "y": round(y, 4)}
        for metric, values in map_values([result], METHOD, choices, levels).items():
            yield ItemScore(
                images[result.of.index],
                metric,
                float(values[0]),
                label=result.of.finding,
                prompt=prompt(result.of.finding),
                output=output,
            )
            output = None


def presence_items(
    images: Sequence[EvaluationImage],
    told: Mapping[Key, Presence],
    right: Mapping[Key, NDArray[np.bool_]],
    metric: str,
    prompt: Callable[[str], str],
) -> Iterator[ItemScore]:
    """Whether each image was told rightly, of each finding; with its similarity with the prompt."""
    for key, of_key in right.items():
        presence = told[key]
        rows = zip(presence.rows.tolist(), of_key.tolist(), presence.similarity.tolist(), strict=True)
        for row, value, cosine in rows:
            output = {"cosine": round(cosine, 6)}
            yield ItemScore(images[row], metric, float(value), label=key[1], prompt=prompt(key[1]), output=output)

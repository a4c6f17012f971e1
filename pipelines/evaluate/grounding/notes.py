"""What a reader needs to read the scores of `grounding`."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.evaluate.grounding.measure import CENTRE, METHOD, NAMED_CELL, TRAINING_MASK, PhraseResult
from pipelines.evaluate.grounding.phrases import OWN, WITHOUT_POSITION, named
from pipelines.evaluate.grounding.scores import DEFAULT_THRESHOLD
from pipelines.evaluate.metrics import localisation
from pipelines.evaluate.task import independence_note


def notes(
    results: Mapping[str, Sequence[PhraseResult]],
    *,
    own_map: bool,
    left_out: int,
    given: Mapping[str, Any] | None,
    chosen: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """The notes.

    Args:
        results: By setting.
        own_map: Whether the heatmap is the method's own, not Grad-CAM.
        left_out: Phrases whose mask is empty or full.
        given: `EvaluationSet.chosen`.
        chosen: Thresholds by metric.
    """
    own = results[OWN]
    name = "the method's own" if own_map else "Grad-CAM"
    rows, columns = own[0].grid
    images = len({result.phrase.index for result in own})
    found = [
        f"the heatmap is {name}, {rows} x {columns}; {len(own)} phrases on {images} images",
        f"the chance of cnr_absolute is the mean of {localisation.RANDOM_HEATMAPS} heatmaps of {rows} x {columns} "
        "normal numbers; smoother random heatmaps have a higher one",
        f"baselines that never see the image: {_baselines(own)}",
        *_which(results),
        _without_position(results),
        _threshold(given, chosen),
        independence_note("phrases", "image or patient"),
    ]
    if boxes := sum(not result.has_masks for result in own):
        found.append(f"{boxes} of {len(own)} phrases are of regions that have a box alone, which counts as their mask")
    if left_out:
        found.append(f"{left_out} phrases are left out: their mask is empty or full within the visible crop")
    return found


def _baselines(own: Sequence[PhraseResult]) -> str:
    known = f"{CENTRE} is high in the image's centre; {NAMED_CELL} has a blob where the phrase's words of place say, "
    known += "in the centre where they say nothing"
    if TRAINING_MASK in own[0].maps:
        return f"{known}; {TRAINING_MASK} is that of equal phrases, else of the same place, else of the same term"
    return f"{known}; no phrase of the training split has a mean mask"


def _which(results: Mapping[str, Sequence[PhraseResult]]) -> list[str]:
    own = results[OWN]
    counted = sum(result.chance_which is not None for result in own)
    if counted == len(own):
        return []
    return [
        f"which_lesion is of {counted} of {len(own)} phrases: in the images of the others all that is drawn is meant"
    ]


def _without_position(results: Mapping[str, Sequence[PhraseResult]]) -> str:
    without = len(results.get(WITHOUT_POSITION, ()))
    return (
        f"{WITHOUT_POSITION}: {without} phrases without their words of place; regions of an image that then have equal "
        "phrases are one phrase"
    )


def _threshold(given: Mapping[str, Any] | None, chosen: Mapping[str, Mapping[str, float]]) -> str:
    levels = ", ".join(f"{thresholds[METHOD]} ({metric})" for metric, thresholds in chosen.items())
    if given is None:
        return f"the threshold of iou, {levels}, was chosen on these very images"
    if named(OWN, "iou") in given:
        return f"the threshold of iou, {levels}, was chosen on the validation split, for each baseline its own"
    return f"the threshold of iou is {DEFAULT_THRESHOLD}, for there is no validation split to choose it on"

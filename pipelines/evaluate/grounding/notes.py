"""What a reader needs to read the scores of `grounding`."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.evaluate.grounding.measure import CENTRE, METHOD, NAMED_CELL, TRAINING_MASK, PhraseResult
from pipelines.evaluate.grounding.phrases import OWN, WITHOUT_POSITION
from pipelines.evaluate.guessing import IMAGE_BLIND
from pipelines.evaluate.metrics import localisation
from pipelines.evaluate.task import independence_note


def notes(
    results: Mapping[str, Sequence[PhraseResult]],
    *,
    own_map: bool,
    left_out: Mapping[str, int],
    place_alone: int,
    given: Mapping[str, Any] | None,
    chosen: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """The notes.

    Args:
        results: By setting.
        own_map: Whether the heatmap is the method's own, not Grad-CAM.
        left_out: By setting, phrases whose mask is empty or full.
        place_alone: Regions whose phrase has nothing but words of place.
        given: `EvaluationSet.chosen`.
        chosen: Thresholds by metric.
    """
    own = results[OWN]
    name = "the method's own" if own_map else "Grad-CAM"
    rows, columns = own[0].grid
    images = len({result.phrase.index for result in own})
    found = [
        f"the heatmap is {name}, {rows} x {columns}; {len(own)} phrases on {images} images",
        f"the chance of cnr_absolute is the mean of {localisation.RATIO_HEATMAPS} heatmaps of {rows} x {columns} "
        "normal numbers; smoother random heatmaps have a higher one",
        f"baselines that never see the image: {_baselines(own)}",
        *_which(results),
        _without_position(results, left_out[WITHOUT_POSITION], place_alone),
        *_threshold(given, chosen),
        independence_note("phrases", "image or patient"),
    ]
    if boxes := sum(not result.has_masks for result in own):
        found.append(f"{boxes} of {len(own)} phrases are of regions that have a box alone, which counts as their mask")
    if left_out[OWN]:
        found.append(f"{left_out[OWN]} phrases are left out: their mask is empty or full within the visible crop")
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
        f"which_lesion is of {counted} of {len(own)} phrases: for the others the method sees nothing drawn beside what "
        "is meant"
    ]


def _without_position(results: Mapping[str, Sequence[PhraseResult]], left_out: int, place_alone: int) -> str:
    found = results.get(WITHOUT_POSITION, ())
    known = (
        f"{WITHOUT_POSITION}: {len(found)} phrases without their words of place; regions of an image that then have "
        "equal phrases are one phrase"
        if found
        else "no phrase is left without its words of place: the scores are of phrases that may name theirs"
    )
    return known + _lost(left_out, place_alone)


def _lost(left_out: int, place_alone: int) -> str:
    lost = []
    if left_out:
        lost.append(f"{left_out} more are left out, as their mask is empty or full within the visible crop")
    if place_alone:
        lost.append(f"the phrases of {place_alone} regions are words of place alone")
    return "".join(f"; {text}" for text in lost)


def _threshold(given: Mapping[str, Any] | None, chosen: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Where the threshold of each metric comes from."""
    texts = []
    for metric, thresholds in chosen.items():
        if given is None:
            origin = "was chosen on these very images"
        elif metric in given:
            origin = "was chosen on the validation split"
        else:
            origin = "is the default, for the validation split has no such phrase to choose it on"
        texts.append(f"the threshold of {metric}, {thresholds[METHOD]}, {origin}")
    shared = f"{IMAGE_BLIND} has the method's threshold of iou, each other baseline its own"
    return [*texts, shared]

"""Phrase grounding: does a method locate a region's phrase where the region is?

A phrase is the source's own sentence about annotated regions, or their caption (adjective, term, position) where it
has none; regions of one image with the same phrase are one phrase with all their masks, or boxes where masks lack.
Every score is also taken of the phrases without their words of place (`without_position/...`): a caption names the
field of the image in which its region lies, so that a blob there, for which no image is looked at, scores high.

The heatmap is the method's own (`GroundsPhrases`), or Grad-CAM. It is scored by the contrast-to-noise ratio between the
inside and the outside of the mask (PLAN's table II, after MS-CXR), signed and absolute, by the pointing game, by
whether it is highest on the right one of all that is drawn in the image, and by the overlap with the mask from a
threshold on. The absolute ratio, which papers print, also rewards a heatmap that is low where the region is; the signed
ratio does not. With the option `by_class` both ratios also stand for the phrases of each label by themselves, and as
the mean over the labels (`pipelines/evaluate/grounding/classes.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import ClassVar

from models.capabilities import EmbedsImages, EmbedsText, GroundsPhrases
from models.inference import can_ground
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.grounding.classes import MACRO, by_class, class_items, class_scores
from pipelines.evaluate.grounding.figure import figure
from pipelines.evaluate.grounding.measure import PhraseResult, measure
from pipelines.evaluate.grounding.notes import notes
from pipelines.evaluate.grounding.phrases import OWN, SETTINGS, WITHOUT_POSITION, Phrase, named, phrases_of
from pipelines.evaluate.grounding.scores import (
    DEFAULT_THRESHOLD,
    best_thresholds,
    item_scores,
    setting_scores,
    term_details,
)
from pipelines.evaluate.grounding.training import MeanTrainingMasks
from pipelines.evaluate.metrics.bootstrap import Score
from pipelines.evaluate.task import GroupScores, Result, Task, score_by_source
from pipelines.evaluate.tasks.region_retrieval import RegionRetrieval

_DEFINITIONS = {
    "which_lesion": (
        "How often the heatmap is highest on what the phrase means, of all that is drawn in the image: annotated "
        "regions and look-alikes; images in which there is no choice do not count. Chance is that of random heatmaps: "
        "the larger finding is the higher one more often."
    ),
    "pointing": "Pointing game: how often the heatmap's highest point lies in the annotated mask of the phrase.",
    "cnr_signed": (
        "Contrast-to-noise ratio: mean of the heatmap inside the mask less that outside, over the root of "
        "the sum of their variances; below 0 the heatmap is low where the finding is, 20 is the most."
    ),
    "cnr_absolute": (
        "The same ratio without its sign, as papers print it; it also rewards a heatmap that is low where "
        "the finding is."
    ),
    "iou": (
        "Intersection over union of the mask and the heatmap, scaled to 0 to 1, from a threshold on that is chosen on "
        "the validation split; chance is a mask of the whole image."
    ),
}


@dataclass(frozen=True, kw_only=True)
class GroundingConfig:
    """Options of the task.

    Attributes:
        by_class: Whether the ratios also stand by the label of the phrases' regions: `pleural_effusion/cnr_absolute`.
    """

    by_class: bool = False


class Grounding(Task):
    """Which lesion, pointing game, CNR and IoU, means over the phrases, with chance and baselines beside each."""

    Config = GroundingConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)
    definitions: ClassVar[Mapping[str, str]] = _DEFINITIONS | {
        named(WITHOUT_POSITION, metric): f"{metric} of phrases without their words of place, which name a field."
        for metric in _DEFINITIONS
    }
    headline = (named(WITHOUT_POSITION, "which_lesion"), named(WITHOUT_POSITION, "pointing"))
    does = "grounds phrases"
    chooses = True

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        return RegionRetrieval.skip_reason(image)

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        if not can_ground(test.model):
            return Result(
                status="skipped",
                reason="the method does not offer GroundsPhrases, and Grad-CAM finds no image model in it",
                excluded={image.key: "method_lacks_capability" for image in test.images},
            )
        asked = {setting: phrases_of(test.images, setting) for setting in SETTINGS}
        training = None if test.training_samples is None else MeanTrainingMasks(test.training_samples(), asked)
        results = {setting: found for setting, found in measure(test, asked, training).items() if found}
        excluded = self._excluded(test.images, results.get(OWN, []))
        if OWN not in results:
            count = len(asked[OWN])
            reason = f"no annotated test region has a caption and a mask that can be scored ({count} phrases)"
            return Result(status="skipped", reason=reason, excluded=excluded)
        thresholds = _thresholds(test, results)
        every = [(setting, result) for setting, found in results.items() for result in found]

        def classes_of(some: Sequence[PhraseResult]) -> dict[str, list[PhraseResult]]:
            return by_class(some, test.region_labels) if self.config.by_class else {}

        def score(indices: Sequence[int]) -> GroupScores:
            some = [every[index] for index in indices]
            scores = _score(some, thresholds, bootstrap)
            own = classes_of([result for setting, result in some if setting == OWN])
            return replace(scores, metrics=scores.metrics | class_scores(own, thresholds[OWN], bootstrap))

        classes = classes_of(results[OWN])

        own_map = test.model.offers(GroundsPhrases)
        return Result(
            scores=score(range(len(every))),
            by_source=score_by_source([test.images[result.phrase.index].source for _, result in every], score),
            details={
                "map": "ground" if own_map else "grad_cam",
                "items": _items(every) | _class_items(classes),
                **term_details(results[OWN], thresholds[OWN]),
            },
            notes=notes(
                results,
                own_map=own_map,
                left_out={setting: len(asked[setting]) - len(results.get(setting, ())) for setting in asked},
                place_alone=len(_described(asked[OWN])) - len(_described(asked[WITHOUT_POSITION])),
                given=test.chosen,
                chosen=_as_chosen(thresholds),
            ),
            excluded=excluded,
            items=chain(
                *(item_scores(test.images, setting, found, thresholds[setting]) for setting, found in results.items()),
                class_items(test.images, classes, thresholds[OWN]),
            ),
            # Of the headline's phrases: with its place in it, a heatmap that finds the place looks like one that sees.
            figure=None if test.scores_only else figure(test, results.get(WITHOUT_POSITION, results[OWN])),
            chosen=_as_chosen(thresholds),
        )

    def _excluded(self, images: Sequence[EvaluationImage], results: Sequence[PhraseResult]) -> dict[str, str]:
        excluded = self.excluded_images(images)
        scored = {images[result.phrase.index].key for result in results}
        rest = [image.key for image in images if image.key not in excluded and image.key not in scored]
        return excluded | dict.fromkeys(rest, "mask_empty_or_full")


def _described(phrases: Sequence[Phrase]) -> set[tuple[int, int]]:
    """Index and number of the regions that the phrases are of."""
    return {(phrase.index, number) for phrase in phrases for number in phrase.regions}


def _thresholds(test: EvaluationSet, results: Mapping[str, Sequence[PhraseResult]]) -> dict[str, dict[str, float]]:
    """Setting -> heatmap -> the threshold of its IoU: chosen here, or given, else `DEFAULT_THRESHOLD`."""
    if test.chosen is None:
        return {setting: best_thresholds(found) for setting, found in results.items()}
    return {
        setting: dict.fromkeys(found[0].maps, DEFAULT_THRESHOLD) | test.chosen.get(named(setting, "iou"), {})
        for setting, found in results.items()
    }


def _as_chosen(thresholds: Mapping[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    return {named(setting, "iou"): of_maps for setting, of_maps in thresholds.items()}


def _score(
    results: Sequence[tuple[str, PhraseResult]], thresholds: Mapping[str, dict[str, float]], bootstrap: Bootstrap
) -> GroupScores:
    by_setting: dict[str, list[PhraseResult]] = {}
    for setting, result in results:
        by_setting.setdefault(setting, []).append(result)
    metrics: dict[str, Score] = {}
    for setting, found in by_setting.items():
        metrics |= setting_scores(setting, found, thresholds[setting], bootstrap)
    return GroupScores(items=len(by_setting.get(OWN, ())), metrics=metrics)


def _items(every: Sequence[tuple[str, PhraseResult]]) -> dict[str, int]:
    """Metric, or setting -> its number of phrases, where that is not the number of all."""
    settings = [setting for setting, _ in every]
    which = {
        named(setting, "which_lesion"): sum(of == setting and result.chance_which is not None for of, result in every)
        for setting in dict.fromkeys(settings)
    }
    return {setting: settings.count(setting) for setting in dict.fromkeys(settings) if setting != OWN} | which


def _class_items(classes: Mapping[str, Sequence[PhraseResult]]) -> dict[str, int]:
    counts = {name: len(of_class) for name, of_class in classes.items()}
    return counts | {MACRO: sum(counts.values())} if counts else {}

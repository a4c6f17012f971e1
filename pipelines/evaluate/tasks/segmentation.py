"""Language-guided segmentation: does a method find the text's findings, pixel by pixel, and does the text matter?

The target of an image is everything that its source outlined. Every image with one is segmented with the texts of four
settings: its own report (`own`), another image's (`shuffled`), the empty text (`empty`), and, where it has no report,
captions made from its outlines (`mask_derived`). Where a report and the target have findings on both sides, the image
is also segmented with the report cut to each side (`laterality`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from models.capabilities import SegmentsFromText
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.latency import LATENCY, latency
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.metrics.laterality import LateralityEffect, laterality_effect
from pipelines.evaluate.metrics.lesion_sizes import SIZES
from pipelines.evaluate.metrics.segmentation import Counts, confusion_counts, dice, iou, segmentation_scores
from pipelines.evaluate.segmentation.cost import cost
from pipelines.evaluate.segmentation.figure import examples, figure
from pipelines.evaluate.segmentation.kept import COUNTS, KeptMasks
from pipelines.evaluate.segmentation.laterality import counterfactual_texts
from pipelines.evaluate.segmentation.masks import predicted_masks, without_padding
from pipelines.evaluate.segmentation.notes import notes
from pipelines.evaluate.segmentation.optional import NO_FINDING, OptionalScores, SegmentationConfig
from pipelines.evaluate.segmentation.texts import Texts, texts_by_setting
from pipelines.evaluate.task import GroupScores, ItemScore, Result, Task, other_reports_note, score_by_source
from pipelines.sides import OPPOSITE

# The figure and the cost are made with the first of these settings that the test set has.
_EXAMPLE_SETTINGS = ("own", "mask_derived", "empty")


@dataclass(frozen=True, kw_only=True)
class _Measurements:
    """What is kept of the masks; an image is its index in `EvaluationSet.images`.

    Attributes:
        counts: Setting -> image -> row of `metrics.segmentation`.
        effects: Image -> its laterality effect, or the reason code for which it has none.
        masks: The masks themselves; None where nobody keeps them.
    """

    counts: dict[str, dict[int, list[int]]]
    effects: dict[int, LateralityEffect | str]
    masks: KeptMasks | None = None

    @property
    def scored_effects(self) -> list[LateralityEffect]:
        return [effect for effect in self.effects.values() if isinstance(effect, LateralityEffect)]

    def of(self, images: set[int]) -> "_Measurements":
        """Those of some images; a setting that has none of them is absent."""
        counts = {
            setting: {index: row for index, row in rows.items() if index in images}
            for setting, rows in self.counts.items()
        }
        return _Measurements(
            counts={setting: rows for setting, rows in counts.items() if rows},
            effects={index: effect for index, effect in self.effects.items() if index in images},
        )


class Segmentation(Task):
    """Dice and IoU per image and pooled, accuracy, and what the text changes."""

    Config = SegmentationConfig
    needs: ClassVar[tuple[type, ...]] = (SegmentsFromText,)
    definitions: ClassVar[Mapping[str, str]] = {
        "dice_per_image": (
            "Dice: twice the pixels that prediction and target share, over the sum of both; mean over the images."
        ),
        "dice_pooled": "Dice over the pixels of all images together.",
        "iou_per_image": "Intersection over union of prediction and target; mean over the images.",
        "iou_pooled": "Intersection over union over the pixels of all images together.",
        "accuracy": "Fraction of all pixels that are right; high where most of an image is background.",
        "hd95_per_image": (
            "95th percentile of the distances between the outlines of prediction and target, in pixels; mean over the "
            "images; less is better, and 0 is the best."
        ),
        "nsd_per_image": (
            "Normalised surface Dice: fraction of both outlines that lies within a tolerance of the other; mean over "
            "the images."
        ),
        **{f"{size}/dice_per_image": f"Dice of the images with {size} targets." for size in SIZES},
        f"{NO_FINDING}/specificity": "Of the images with an empty target, the fraction with an empty prediction.",
        f"{NO_FINDING}/pixel_specificity": "Of the images with an empty target, the mean fraction that is left out.",
        "retention": (
            "Of the right pixels on the side that a text names, the fraction that stay when the text names this "
            "side alone; a method that ignores the text keeps all, so read it beside suppression."
        ),
        "suppression": (
            "Of the right pixels on the other side, the fraction that disappear then; a method that ignores the "
            "text removes none."
        ),
    }
    headline = ("own/dice_per_image", "empty/dice_per_image", "laterality/suppression")
    does = "segments"

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        return None if image.has_target else "no_target"

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        excluded = self.excluded_images(test.images)
        texts = {
            setting: by_image for setting, by_image in texts_by_setting(test.images, bootstrap.seed).items() if by_image
        }
        if not texts:
            return Result(status="skipped", reason="no test image has a target", excluded=excluded)
        setting = next(name for name in _EXAMPLE_SETTINGS if name in texts)
        optional = OptionalScores(self.config, setting)
        measurements = _measure(test, texts, optional)
        images = list(texts["empty"])
        rows = measurements.counts[setting]
        optional.set_sizes(rows)

        def score(indices: Sequence[int]) -> GroupScores:
            part = measurements.of({images[index] for index in indices})
            further = optional.of(part.counts.get(setting, {}), bootstrap)
            return GroupScores(items=len(indices), metrics=_scores(part, bootstrap)[0] | further)

        scores, baselines = _scores(measurements, bootstrap)
        costs, timings = ({}, {}) if test.scores_only else _costs(test, texts[setting])
        return Result(
            scores=GroupScores(items=len(images), metrics=scores | optional.of(rows, bootstrap)),
            by_source=score_by_source([test.images[index].source for index in images], score),
            details={
                "items": {name: len(of_setting) for name, of_setting in measurements.counts.items()}
                | {"laterality": len(measurements.scored_effects)}
                | optional.counted(rows),
                "reads_text": test.model.reads_text,
                "drop_when_shuffled": _drop_when_shuffled(measurements, bootstrap),
                **({"cost": costs} if costs else {}),
            },
            notes=[
                *notes(
                    texts,
                    baselines,
                    measurements.effects,
                    [test.images[index] for index in measurements.effects],
                    reads_text=test.model.reads_text,
                ),
                *other_reports_note(test.images[index] for index in texts.get("own", {})),
                *optional.notes(),
            ],
            excluded=excluded,
            items=_items(test.images, texts, measurements, optional),
            figure=None if test.scores_only else figure(test, examples(rows, texts[setting])),
            timings=timings,
        )


def _measure(test: EvaluationSet, texts: Mapping[str, Texts], optional: OptionalScores) -> _Measurements:
    """One pass over the images; no mask stays in memory."""
    counterfactuals = counterfactual_texts(texts.get("own", {}))
    by_image = {
        index: {setting: by_index[index] for setting, by_index in texts.items() if index in by_index}
        | dict(counterfactuals.get(index, {}))
        for index in sorted(texts["empty"])
    }
    kept = None if test.scores_only else KeptMasks()
    measurements = _Measurements(counts={setting: {} for setting in texts}, effects={}, masks=kept)
    for index, sample, masks in predicted_masks(test, by_image):
        target = without_padding(sample, sample.target)
        for name, mask in masks.items():
            if name in texts:
                measurements.counts[name][index] = confusion_counts(mask, target)
        if kept is not None:
            kept.add(index, {name: mask for name, mask in masks.items() if name in texts})
        if optional.setting in masks:
            optional.add(index, masks[optional.setting], target)
        if index in counterfactuals:
            measurements.effects[index] = laterality_effect(
                target,
                masks["own"],
                {side: masks[side] for side in OPPOSITE},
                patient_sides=test.images[index].patient_sides,
            )
    return measurements


def _scores(measurements: _Measurements, bootstrap: Bootstrap) -> tuple[dict[str, Score], dict[str, list[str]]]:
    """`<setting>/<metric>`, and constant prediction -> the scores whose chance it is."""
    scores: dict[str, Score] = {}
    baselines: dict[str, list[str]] = {}
    for setting, rows in measurements.counts.items():
        metrics, predictions = segmentation_scores(_counts(rows), bootstrap)
        scores |= {f"{setting}/{name}": value for name, value in metrics.items()}
        for name, prediction in predictions.items():
            baselines.setdefault(prediction, []).append(f"{setting}/{name}")
    if effects := measurements.scored_effects:
        # Chance is a method that ignores the text: it keeps everything on both sides.
        retention = np.array([effect.retention for effect in effects])
        suppression = np.array([effect.suppression for effect in effects])
        scores["laterality/retention"] = mean_score(retention, 1.0, bootstrap)
        scores["laterality/suppression"] = mean_score(suppression, 0.0, bootstrap)
    return scores, baselines


def _items(
    images: Sequence[EvaluationImage],
    texts: Mapping[str, Texts],
    measurements: _Measurements,
    optional: OptionalScores,
) -> Iterator[ItemScore]:
    """Dice, with the counts of pixels and the mask, and IoU of each image and setting; and what cut texts change."""
    for setting, rows in measurements.counts.items():
        counts, kept = _counts(rows), measurements.masks
        for (index, row), value in zip(rows.items(), dice(counts).tolist(), strict=True):
            output = dict(zip(COUNTS, row, strict=True)) | ({} if kept is None else kept.of(index, setting))
            yield ItemScore(images[index], f"{setting}/dice", value, prompt=texts[setting][index], output=output)
        for index, value in zip(rows, iou(counts).tolist(), strict=True):
            yield ItemScore(images[index], f"{setting}/iou", value, prompt=texts[setting][index])
    for index, effect in measurements.effects.items():
        if isinstance(effect, LateralityEffect):
            yield ItemScore(images[index], "laterality/retention", effect.retention)
            yield ItemScore(images[index], "laterality/suppression", effect.suppression)
    for index, metric, value in optional.items(measurements.counts[optional.setting]):
        yield ItemScore(images[index], metric, value, prompt=texts[optional.setting][index])


def _counts(rows: Mapping[int, Sequence[int]]) -> Counts:
    return np.array(list(rows.values()), dtype=np.int64)


def _drop_when_shuffled(measurements: _Measurements, bootstrap: Bootstrap) -> dict[str, Any] | None:
    """Dice of each image with its own text less that with another's; null where nothing was exchanged."""
    shuffled = measurements.counts.get("shuffled")
    if shuffled is None:
        return None
    own = {index: measurements.counts["own"][index] for index in shuffled}
    return {"dice_per_image": asdict(mean_score(dice(_counts(own)) - dice(_counts(shuffled)), 0.0, bootstrap))}


def _costs(test: EvaluationSet, texts: Texts) -> tuple[dict[str, int], dict[str, float]]:
    """The cost of the first image's mask, and the time that it takes."""
    index, text = next(iter(texts.items()))
    images, tokens = test.inputs(test.samples([index])[index], text)
    costs = {
        **cost(test.model, images, tokens),
        "image_size": images.pixels.shape[-1],
        "tokens": tokens.ids.shape[-1],
    }
    return costs, {LATENCY: latency(test.model, images, tokens)}

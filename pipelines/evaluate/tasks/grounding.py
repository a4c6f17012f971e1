"""Phrase grounding: does a method locate a region's caption where the region is?

A phrase is the caption (adjective, term, position) of annotated regions with a mask; regions of one image with the same
caption are one phrase with all their masks. The heatmap is the method's own (`GroundsPhrases`), or Grad-CAM. It is
scored by the contrast-to-noise ratio between the inside and the outside of the mask (PLAN's table II, after MS-CXR),
signed and absolute, and by the pointing game. The absolute ratio, which papers print, also rewards a heatmap that is
low where the region is; the signed ratio does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from models.capabilities import EmbedsImages, EmbedsText, GroundsPhrases
from models.data.shards import Sample
from models.geometry import fitted_size
from models.inference import can_ground
from models.method import Method
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage, EvaluationSet
from pipelines.evaluate.metrics import localisation
from pipelines.evaluate.metrics.bootstrap import mean_score
from pipelines.evaluate.task import GroupScores, ItemScore, Result, Task, independence_note, score_by_source
from pipelines.evaluate.tasks.region_retrieval import RegionRetrieval


@dataclass(frozen=True, kw_only=True)
class GroundingConfig:
    """The task has no options."""


@dataclass(frozen=True)
class Phrase:
    """A caption and the regions of one image that it describes.

    Attributes:
        index: Of the image in `EvaluationSet.images`.
        caption: The phrase.
        term: The finding that the regions show.
        regions: Their numbers.
    """

    index: int
    caption: str
    term: str
    regions: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class PhraseResult:
    """The heatmap of a phrase and its agreement with the phrase's mask.

    Attributes:
        phrase: The phrase.
        heatmap: (rows, columns), as the method gave it.
        cnr: Signed contrast-to-noise ratio.
        pointing: Fraction of the heatmap's highest pixels that lie in the mask.
        mask_fraction: Fraction of the valid pixels that lie in the mask.
        chance_cnr: Mean absolute ratio of random heatmaps.
        centre_cnr: Signed ratio of a heatmap that is high in the image's centre.
        centre_pointing: Pointing of that heatmap.
    """

    phrase: Phrase
    heatmap: np.ndarray
    cnr: float
    pointing: float
    mask_fraction: float
    chance_cnr: float
    centre_cnr: float
    centre_pointing: float


class Grounding(Task):
    """CNR and pointing game, means over the phrases, with chance beside each."""

    Config = GroundingConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)
    definitions: ClassVar[Mapping[str, str]] = {
        "pointing": "Pointing game: how often the heatmap's highest point lies in the annotated mask of the phrase.",
        "cnr_signed": (
            "Contrast-to-noise ratio: mean of the heatmap inside the mask less that outside, over the root of "
            "the sum of their variances; below 0 the heatmap is low where the finding is."
        ),
        "cnr_absolute": (
            "The same ratio without its sign, as papers print it; it also rewards a heatmap that is low where "
            "the finding is."
        ),
    }
    headline = ("pointing", "cnr_signed")
    does = "grounds phrases"

    @staticmethod
    def skip_reason(image: EvaluationImage) -> str | None:
        no_region = RegionRetrieval.skip_reason(image)
        return no_region or (None if any(region.has_mask for region in image.regions) else "no_mask")

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        if not can_ground(test.model):
            return Result(
                status="skipped",
                reason="the method does not offer GroundsPhrases, and Grad-CAM finds no image model in it",
                excluded={image.key: "method_lacks_capability" for image in test.images},
            )
        phrases = phrases_of(test.images)
        results = ground(test, phrases)
        scored_images = {result.phrase.index for result in results}
        excluded = self.excluded_images(test.images) | {
            test.images[phrase.index].key: "mask_empty_or_full"
            for phrase in phrases
            if phrase.index not in scored_images
        }
        if not results:
            reason = f"no annotated test region has a caption and a mask that can be scored ({len(phrases)} phrases)"
            return Result(status="skipped", reason=reason, excluded=excluded)

        def score(indices: Sequence[int]) -> GroupScores:
            return _score([results[index] for index in indices], bootstrap)

        details = _details(results, "ground" if test.model.offers(GroundsPhrases) else "grad_cam")
        return Result(
            scores=score(range(len(results))),
            by_source=score_by_source([test.images[result.phrase.index].source for result in results], score),
            details=details,
            notes=_notes(results, details, left_out=len(phrases) - len(results)),
            excluded=excluded,
            items=list(_items(test, results)),
            figure=None if test.scores_only else _figure(test, results),
        )


def phrases_of(images: Sequence[EvaluationImage]) -> list[Phrase]:
    """The phrases of all images, in the images' order."""
    phrases = []
    for index, image in enumerate(images):
        masked = [region for region in image.regions if region.has_mask]
        for caption in dict.fromkeys(region.caption for region in masked):
            same = [region for region in masked if region.caption == caption]
            phrases.append(Phrase(index, caption, same[0].term, tuple(region.number for region in same)))
    return phrases


def ground(test: EvaluationSet, phrases: Sequence[Phrase]) -> list[PhraseResult]:
    """The phrases with their heatmaps; one whose mask is empty or full within the visible crop is left out."""
    heatmaps = test.ground([(phrase.index, phrase.caption) for phrase in phrases])
    results = (
        _phrase_result(phrase, sample, heatmap, test.model)
        for phrase, (sample, heatmap) in zip(phrases, heatmaps, strict=True)
    )
    return [result for result in results if result is not None]


def _phrase_result(phrase: Phrase, sample: Sample, heatmap: np.ndarray, model: Method) -> PhraseResult | None:
    mask = mask_of(sample, phrase)
    side = len(mask)
    visible = model.visible_crop(side)
    width, height = fitted_size(sample.meta.width, sample.meta.height, side)
    valid = (slice(visible.start, min(visible.stop, height)), slice(visible.start, min(visible.stop, width)))
    inside = mask[valid].ravel()
    if not inside.any() or inside.all():
        return None
    own = localisation.upsample(heatmap[None], side, visible)[0][valid].ravel()
    centre = localisation.centre_heatmap(width, height, side)[valid].ravel()
    random = localisation.random_heatmaps(heatmap.shape, side, visible.start, visible.stop)[:, *valid]
    return PhraseResult(
        phrase=phrase,
        heatmap=heatmap,
        cnr=float(localisation.cnr(own, inside)),
        pointing=float(localisation.pointing_game(own, inside)),
        mask_fraction=float(inside.mean()),
        chance_cnr=float(np.abs(localisation.cnr(random.reshape(len(random), -1), inside)).mean()),
        centre_cnr=float(localisation.cnr(centre, inside)),
        centre_pointing=float(localisation.pointing_game(centre, inside)),
    )


def mask_of(sample: Sample, phrase: Phrase) -> np.ndarray:
    """(side, side) bool: the regions of a phrase together."""
    masks = [mask for number in phrase.regions if (mask := sample.mask(number)) is not None]
    return np.logical_or.reduce(masks)


def _score(results: Sequence[PhraseResult], bootstrap: Bootstrap) -> GroupScores:
    signed = np.array([result.cnr for result in results])
    pointing = np.array([result.pointing for result in results])
    values = {
        "cnr_signed": (signed, 0.0),
        "cnr_absolute": (np.abs(signed), float(np.mean([result.chance_cnr for result in results]))),
        "pointing": (pointing, float(np.mean([result.mask_fraction for result in results]))),
    }
    centre = _centre(results)
    metrics = {
        name: mean_score(value, chance, bootstrap, {"centre heatmap": centre[name]})
        for name, (value, chance) in values.items()
    }
    return GroupScores(items=len(results), metrics=metrics)


def _items(test: EvaluationSet, results: Sequence[PhraseResult]) -> Iterator[ItemScore]:
    for result in results:
        image, phrase = test.images[result.phrase.index], result.phrase
        values = {"cnr_signed": result.cnr, "cnr_absolute": abs(result.cnr), "pointing": result.pointing}
        for metric, value in values.items():
            yield ItemScore(image, metric, value, item=f"{image.key} {phrase.caption}", label=phrase.term)


def _centre(results: Sequence[PhraseResult]) -> dict[str, float]:
    """The scores of a heatmap that is high in the image's centre, whatever the phrase."""
    return _means([result.centre_cnr for result in results], [result.centre_pointing for result in results])


def _details(results: Sequence[PhraseResult], heatmap: str) -> dict[str, Any]:
    """The kind of heatmap, the scores of the centre heatmap, the scores of each term, and their mean over terms."""
    centre = _centre(results)
    by_term = {}
    for term in sorted({result.phrase.term for result in results}):
        same = [result for result in results if result.phrase.term == term]
        means = _means([result.cnr for result in same], [result.pointing for result in same])
        by_term[term] = {"phrases": len(same), **means}
    macro = {metric: round(float(np.mean([values[metric] for values in by_term.values()])), 6) for metric in centre}
    return {"map": heatmap, "centre": centre, "terms": by_term, "macro": macro}


def _notes(results: Sequence[PhraseResult], details: dict[str, Any], left_out: int) -> list[str]:
    name = "the method's own" if details["map"] == "ground" else "Grad-CAM"
    rows, columns = results[0].heatmap.shape
    images = len({result.phrase.index for result in results})
    notes = [
        f"the heatmap is {name}, {rows} x {columns}; {len(results)} phrases on {images} images",
        "a heatmap that is high in the image's centre, whatever the phrase, scores: "
        + ", ".join(f"{metric} {value:.3f}" for metric, value in details["centre"].items()),
        f"the chance of cnr_absolute is the mean of {localisation.RANDOM_HEATMAPS} heatmaps of {rows} x {columns} "
        "normal numbers; smoother random heatmaps have a higher one",
        independence_note("phrases", "image or patient"),
    ]
    if left_out:
        notes.append(f"{left_out} phrases are left out: their mask is empty or full within the visible crop")
    return notes


def _means(cnr: Sequence[float], pointing: Sequence[float]) -> dict[str, float]:
    values = {"cnr_signed": np.array(cnr), "cnr_absolute": np.abs(cnr), "pointing": np.array(pointing)}
    return {name: round(float(value.mean()), 6) for name, value in values.items()}


def _figure(test: EvaluationSet, results: Sequence[PhraseResult]) -> Figure:
    """The phrases with the highest, the middle and the lowest signed ratio: image with mask, and heatmap."""
    order = sorted(results, key=lambda result: result.cnr)
    examples = {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}
    samples = test.samples({result.phrase.index for result in examples.values()})
    figure = Figure(figsize=(6.6, 4.8), layout="constrained")
    axes = figure.subplots(2, len(examples), squeeze=False)
    for (name, result), upper, lower in zip(examples.items(), *axes, strict=True):
        sample = samples[result.phrase.index]
        mask = mask_of(sample, result.phrase)
        visible = test.model.visible_crop(len(mask))
        upper.imshow(sample.image)
        lower.imshow(localisation.upsample(result.heatmap[None], len(mask), visible)[0], cmap="viridis")
        upper.set_title(f"{name}: CNR {result.cnr:.2f}", fontsize=9)
        lower.set_title(result.phrase.caption, fontsize=8)
        for plot in (upper, lower):
            plot.contour(mask, levels=[0.5], colors="#ff5fd2", linewidths=1.2)
            plot.set_axis_off()
    return figure

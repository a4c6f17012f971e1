"""Phrase grounding: does a method see a region's caption where the region is?

A phrase is the caption (adjective, term, position) of annotated regions with a mask; regions of one image with the same
caption are one phrase with all their masks. The map is the method's own (`GroundsPhrases`), or Grad-CAM. It is scored
by the contrast-to-noise ratio between the inside and the outside of the mask (PLAN's table II, after MS-CXR), signed
and absolute, and by the pointing game. The absolute ratio, which papers print, also rewards a map that is low where the
region is; the signed one does not.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from matplotlib.figure import Figure

from models.capabilities import EmbedsImages, EmbedsText, GroundsPhrases
from models.data.shards import Sample
from models.geometry import fitted_size
from pipelines.evaluate import localisation
from pipelines.evaluate.bootstrap import Score, score
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationSet, Item
from pipelines.evaluate.task import Result
from pipelines.evaluate.tasks.region_retrieval import skip_reason as no_region


@dataclass(frozen=True, kw_only=True)
class GroundingConfig:
    """The task has no options."""


@dataclass(frozen=True)
class Phrase:
    """A caption and the regions of one image that it describes.

    Attributes:
        place: Of the image in `EvaluationSet.items`.
        caption: The phrase.
        term: What the regions are.
        regions: Their numbers.
    """

    place: int
    caption: str
    term: str
    regions: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Grounded:
    """What a phrase's map is worth.

    Attributes:
        phrase: The phrase.
        grid: (rows, columns), its map as the method gave it.
        cnr: Signed contrast-to-noise ratio.
        pointing: Share of the map's highest pixels that lie in the mask.
        share: Share of the valid pixels that lie in the mask.
        chance_cnr: Mean absolute ratio of random smooth maps.
        centre_cnr: Signed ratio of a map that is high in the picture's centre.
        centre_pointing: Its `pointing`.
    """

    phrase: Phrase
    grid: np.ndarray
    cnr: float
    pointing: float
    share: float
    chance_cnr: float
    centre_cnr: float
    centre_pointing: float


class Grounding:
    """CNR and pointing game, means over the phrases; chance beside each."""

    Config = GroundingConfig
    needs: ClassVar[tuple[type, ...]] = (EmbedsImages, EmbedsText)

    def __init__(self, config: GroundingConfig) -> None:
        self.config = config

    def run(self, test: EvaluationSet, bootstrap: Bootstrap) -> Result:
        own_map = isinstance(test.model, GroundsPhrases)
        if not own_map and test.model.image_backbone is None:
            return Result(
                status="skipped",
                reason="the method does not offer GroundsPhrases, and Grad-CAM finds no image model in it",
                excluded={item.key: "method_lacks_capability" for item in test.items},
            )
        excluded = {item.key: reason for item in test.items if (reason := skip_reason(item))}
        asked = phrases_of(test.items)
        found = ground(test, asked)
        scored = {one.phrase.place for one in found}
        excluded |= {test.items[one.place].key: "mask_empty_or_full" for one in asked if one.place not in scored}
        if not found:
            nothing = f"no annotated test region has a caption and a mask that can be scored ({len(asked)} phrases)"
            return Result(status="skipped", reason=nothing, excluded=excluded)
        parts: dict[str, dict[str, Any]] = {}
        sources = sorted({test.items[place].source for place in scored})
        for source in sources if len(sources) > 1 else []:
            mine = [one for one in found if test.items[one.phrase.place].source == source]
            values = {name: asdict(value) for name, value in _scores(mine, bootstrap).items()}
            parts[source] = {"items": len(mine), "pool": 0, "metrics": values}
        centre = _means([one.centre_cnr for one in found], [one.centre_pointing for one in found])
        terms = {term: [one for one in found if one.phrase.term == term] for term in {one.phrase.term for one in found}}
        by_term = {
            term: {"phrases": len(mine), **_means([one.cnr for one in mine], [one.pointing for one in mine])}
            for term, mine in sorted(terms.items())
        }
        name = "the method's own" if own_map else "Grad-CAM"
        rows, columns = found[0].grid.shape
        notes = [
            f"the map is {name}, {rows} x {columns}; {len(found)} phrases on {len(scored)} images",
            "a map that is high in the picture's centre, whatever the phrase: "
            + ", ".join(f"{metric} {value:.3f}" for metric, value in centre.items()),
            f"chance of cnr_absolute: {localisation.SMOOTH_MAPS} maps of {rows} x {columns} normal numbers; "
            "smoother maps that know nothing have a higher one",
            "intervals resample phrases as if they were independent; those of one image or patient are not",
        ]
        if len(found) < len(asked):
            notes.append(f"{len(asked) - len(found)} phrases left out: their mask is all or nothing of what was seen")
        return Result(
            items=len(found),
            metrics=_scores(found, bootstrap),
            by_source=parts,
            details={
                "map": "ground" if own_map else "grad_cam",
                "centre": centre,
                "terms": by_term,
                "macro": {
                    metric: round(float(np.mean([values[metric] for values in by_term.values()])), 6)
                    for metric in centre
                },
            },
            notes=notes,
            excluded=excluded,
            figure=_figure(test, found),
        )


def skip_reason(item: Item) -> str | None:
    """Reason code for which an image takes no part, or None."""
    return no_region(item) or (None if any(region.has_mask for region in item.regions) else "no_mask")


def phrases_of(items: Sequence[Item]) -> list[Phrase]:
    """The phrases of all images, in the images' order."""
    found = []
    for place, item in enumerate(items):
        masked = [region for region in item.regions if region.has_mask]
        for caption in dict.fromkeys(region.caption for region in masked):
            same = [region for region in masked if region.caption == caption]
            found.append(Phrase(place, caption, same[0].term, tuple(region.number for region in same)))
    return found


def ground(test: EvaluationSet, phrases: Sequence[Phrase]) -> list[Grounded]:
    """The phrases with their maps; one whose mask is empty or full in what the encoder saw is left out."""
    maps = test.ground([(phrase.place, phrase.caption) for phrase in phrases])
    found = (_grounded(phrase, sample, grid, test.model) for phrase, (sample, grid) in zip(phrases, maps, strict=True))
    return [one for one in found if one is not None]


def _grounded(phrase: Phrase, sample: Sample, grid: np.ndarray, model: Any) -> Grounded | None:
    mask = mask_of(sample, phrase)
    side = len(mask)
    seen = model.visible_crop(side)
    width, height = fitted_size(sample.meta.width, sample.meta.height, side)
    valid = (slice(seen.start, min(seen.stop, height)), slice(seen.start, min(seen.stop, width)))
    inside = mask[valid].ravel()
    if not inside.any() or inside.all():
        return None
    centre, own = localisation.centre_map(width, height, side), localisation.on_pixels(grid[None], side, seen)[0]
    random = localisation.smooth_maps(grid.shape, side, seen.start, seen.stop)[:, *valid]
    return Grounded(
        phrase=phrase,
        grid=grid,
        cnr=float(localisation.cnr(own[valid].ravel(), inside)),
        pointing=float(localisation.pointing(own[valid].ravel(), inside)),
        share=float(inside.mean()),
        chance_cnr=float(np.abs(localisation.cnr(random.reshape(len(random), -1), inside)).mean()),
        centre_cnr=float(localisation.cnr(centre[valid].ravel(), inside)),
        centre_pointing=float(localisation.pointing(centre[valid].ravel(), inside)),
    )


def mask_of(sample: Sample, phrase: Phrase) -> np.ndarray:
    """(side, side) bool: the regions of a phrase together."""
    masks = [mask for number in phrase.regions if (mask := sample.mask(number)) is not None]
    return np.logical_or.reduce(masks)


def _scores(found: Sequence[Grounded], bootstrap: Bootstrap) -> dict[str, Score]:
    signed = np.array([one.cnr for one in found])
    values = {
        "cnr_signed": (signed, 0.0),
        "cnr_absolute": (np.abs(signed), float(np.mean([one.chance_cnr for one in found]))),
        "pointing": (np.array([one.pointing for one in found]), float(np.mean([one.share for one in found]))),
    }
    return {name: _mean_score(value, chance, bootstrap) for name, (value, chance) in values.items()}


def _mean_score(values: np.ndarray, chance: float, bootstrap: Bootstrap) -> Score:
    return score([len(values)], lambda index: values[index].mean(axis=-1), float(values.mean()), chance, bootstrap)


def _means(cnr: Sequence[float], pointing: Sequence[float]) -> dict[str, float]:
    values = {"cnr_signed": np.array(cnr), "cnr_absolute": np.abs(cnr), "pointing": np.array(pointing)}
    return {name: round(float(value.mean()), 6) for name, value in values.items()}


def _figure(test: EvaluationSet, found: Sequence[Grounded]) -> Figure:
    """The phrases with the highest, the middle and the lowest signed ratio: picture with mask, and map."""
    order = sorted(found, key=lambda one: one.cnr)
    chosen = {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}
    samples = test.samples({one.phrase.place for one in chosen.values()})
    figure = Figure(figsize=(6.6, 4.8), layout="constrained")
    axes = figure.subplots(2, len(chosen), squeeze=False)
    for (name, one), upper, lower in zip(chosen.items(), *axes, strict=True):
        sample = samples[one.phrase.place]
        mask = mask_of(sample, one.phrase)
        seen = test.model.visible_crop(len(mask))
        upper.imshow(sample.image)
        lower.imshow(localisation.on_pixels(one.grid[None], len(mask), seen)[0], cmap="viridis")
        upper.set_title(f"{name}: CNR {one.cnr:.2f}", fontsize=9)
        lower.set_title(one.phrase.caption, fontsize=8)
        for plot in (upper, lower):
            plot.contour(mask, levels=[0.5], colors="#ff5fd2", linewidths=1.2)
            plot.set_axis_off()
    return figure

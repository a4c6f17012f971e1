"""One phrase: its heatmap and those of the baselines against all that is drawn in its image."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from models.data.shards import Sample
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.grounding.phrases import Phrase, region_mask
from pipelines.evaluate.grounding.places import place_heatmap
from pipelines.evaluate.grounding.training import MeanTrainingMasks
from pipelines.evaluate.grounding.visible import VisiblePart
from pipelines.evaluate.metrics import localisation
from pipelines.evaluate.metrics.segmentation import Values

METHOD = "method"
CENTRE, NAMED_CELL, TRAINING_MASK = "centre heatmap", "named cell", "mean training mask"
# From which level on a heatmap, scaled to 0 to 1, marks a pixel.
THRESHOLDS = np.arange(1, 10) / 10


@dataclass(frozen=True, kw_only=True)
class MapScores:
    """One heatmap against the masks.

    Attributes:
        cnr: Signed contrast-to-noise ratio.
        pointing: Fraction of the heatmap's highest pixels that lie in the phrase's mask.
        which: Whether it is highest on what the phrase means, of all that is drawn; None where there is no choice.
        overlap: (thresholds,) intersection over union at each of `THRESHOLDS`.
    """

    cnr: float
    pointing: float
    which: float | None
    overlap: Values


@dataclass(frozen=True, kw_only=True)
class PhraseResult:
    """A phrase with the scores of the heatmaps.

    Attributes:
        phrase: The phrase.
        highest: Column and row of the highest pixel of the method's heatmap, as fractions of the image's width and
            height; of equal ones the first by rows.
        maps: `METHOD` or a baseline -> the scores of its heatmap.
        grid: Rows and columns of the method's heatmap.
        has_masks: False where a box stands for a mask.
        mask_fraction: Fraction of the valid pixels that lie in the phrase's mask.
        chance_cnr: Mean absolute ratio of random heatmaps.
        chance_which: How often random heatmaps are highest on what the phrase means; None where there is no choice.
    """

    phrase: Phrase
    highest: tuple[float, float]
    maps: Mapping[str, MapScores]
    grid: tuple[int, int]
    has_masks: bool
    mask_fraction: float
    chance_cnr: float
    chance_which: float | None


@dataclass(frozen=True)
class Drawn:
    """All that is drawn in an image.

    Attributes:
        regions: Number of each annotated region -> its mask (side, side) bool, or its box.
        look_alikes: (side, side) bool: the mask of each look-alike.
    """

    regions: Mapping[int, np.ndarray]
    look_alikes: Sequence[np.ndarray]

    def mask_of(self, phrase: Phrase) -> np.ndarray:
        """(side, side) bool: the regions of a phrase together."""
        return np.logical_or.reduce([self.regions[number] for number in phrase.regions])

    def others(self, phrase: Phrase) -> list[np.ndarray]:
        """Masks of the annotated regions that the phrase does not mean."""
        return [mask for number, mask in self.regions.items() if number not in phrase.regions]


def drawn_in(sample: Sample) -> Drawn:
    """The masks of an image."""
    numbers = [number for number, region in enumerate(sample.meta.regions) if region.role == "truth"]
    return Drawn({number: region_mask(sample, number) for number in numbers}, sample.look_alikes())


def measure(
    test: EvaluationSet, asked: Mapping[str, Sequence[Phrase]], training: MeanTrainingMasks | None
) -> dict[str, list[PhraseResult]]:
    """The results of each setting; a phrase whose mask is empty or full within the visible crop has none.

    Args:
        test: The method and the split.
        asked: Setting -> its phrases, in the images' order.
        training: Mean masks of the training phrases.
    """
    texts = sorted({(phrase.index, phrase.text) for phrases in asked.values() for phrase in phrases})
    by_image: dict[int, list[tuple[str, Phrase]]] = {}
    for setting, phrases in asked.items():
        for phrase in phrases:
            by_image.setdefault(phrase.index, []).append((setting, phrase))
    results: dict[str, list[PhraseResult]] = {setting: [] for setting in asked}
    grounded = zip(texts, test.ground(texts), strict=True)
    for index, group in groupby(grounded, key=lambda pair: pair[0][0]):
        pairs = list(group)
        heatmaps = {text: heatmap for (_, text), (_, heatmap) in pairs}
        image = _Image(test, pairs[0][1][0], heatmaps, training)
        for setting, phrase in by_image[index]:
            if (result := image.measure(setting, phrase)) is not None:
                results[setting].append(result)
    return results


class _Image:
    """The masks of one image within what the method sees of it, as rows of pixels."""

    def __init__(
        self,
        test: EvaluationSet,
        sample: Sample,
        heatmaps: Mapping[str, np.ndarray],
        training: MeanTrainingMasks | None,
    ) -> None:
        self.training = training
        self.size = sample.meta.width, sample.meta.height
        self.drawn = drawn_in(sample)
        self.has_mask = {number: sample.meta.regions[number].mask is not None for number in self.drawn.regions}
        self.visible = VisiblePart(test.model, *self.size, len(next(iter(self.drawn.regions.values()))))
        grids = np.stack(list(heatmaps.values()))
        self.grid = (grids.shape[1], grids.shape[2])
        # All at once: calls cost more than pixels.
        self.heatmaps = dict(zip(heatmaps, self.visible.heatmaps(grids), strict=True))
        self.chance_cnr: dict[tuple[int, ...], float] = {}

    def measure(self, setting: str, phrase: Phrase) -> PhraseResult | None:
        inside = self.visible.pixels(self.drawn.mask_of(phrase))
        if not inside.any() or inside.all():
            return None
        maps = dict(self._maps(setting, phrase))
        levels = self.visible.levels(maps.values())
        drawn, meant = self._objects(phrase)
        choice = 0 < meant.sum() < len(meant)
        which = localisation.highest_on(levels, drawn, meant).tolist() if choice else [None] * len(maps)
        rows = zip(
            localisation.cnr(levels, inside).tolist(),
            localisation.pointing_game(levels, inside).tolist(),
            which,
            localisation.overlap(levels, inside, THRESHOLDS),
            strict=True,
        )
        return PhraseResult(
            phrase=phrase,
            highest=self.visible.highest(levels[0]),
            maps={
                name: MapScores(cnr=ratio, pointing=pointing, which=highest, overlap=overlap)
                for name, (ratio, pointing, highest, overlap) in zip(maps, rows, strict=True)
            },
            grid=self.grid,
            has_masks=all(self.has_mask[number] for number in phrase.regions),
            mask_fraction=float(inside.mean()),
            chance_cnr=self._chance_cnr(phrase, inside),
            chance_which=self._chance_which(drawn, meant) if choice else None,
        )

    def _chance_cnr(self, phrase: Phrase, inside: np.ndarray) -> float:
        """Once for each mask: the settings share most of them."""
        if phrase.regions not in self.chance_cnr:
            random = self.visible.random(self.grid, localisation.RATIO_HEATMAPS)
            self.chance_cnr[phrase.regions] = float(np.abs(localisation.cnr(random, inside)).mean())
        return self.chance_cnr[phrase.regions]

    def _chance_which(self, drawn: np.ndarray, meant: np.ndarray) -> float:
        """Of what is drawn the larger has the higher maximum more often, whatever the map: it does not count alike."""
        random = self.visible.random(self.grid, localisation.CHOICE_HEATMAPS)
        return float(localisation.highest_on(random, drawn, meant).mean())

    def _maps(self, setting: str, phrase: Phrase) -> Iterator[tuple[str, Values]]:
        """(side, side) each: the method's, then the baselines'."""
        yield METHOD, self.heatmaps[phrase.text]
        side = self.visible.side
        yield CENTRE, self.visible.centre
        yield NAMED_CELL, place_heatmap(phrase.place, *self.size, side)
        mean = None if self.training is None else self.training.of(setting, phrase, *self.size, side)
        if mean is not None:
            yield TRAINING_MASK, mean

    def _objects(self, phrase: Phrase) -> tuple[np.ndarray, np.ndarray]:
        """(objects, pixels) the masks of what is drawn and seen, and (objects,) whether the phrase means it.

        What others share with what the phrase means is not theirs: a map that is high there is right.
        """
        inside = self.drawn.mask_of(phrase)
        masks = [(self.drawn.regions[number], True) for number in phrase.regions]
        masks += [(mask & ~inside, False) for mask in (*self.drawn.others(phrase), *self.drawn.look_alikes)]
        seen = [(pixels, meant) for mask, meant in masks if (pixels := self.visible.pixels(mask)).any()]
        return np.stack([pixels for pixels, _ in seen]), np.array([meant for _, meant in seen])

"""Where the phrases of the training split are: their mean masks, which answer a phrase without a look at the image."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from models.data.shards import Sample
from models.data.texts import region_phrase
from models.geometry import Mask, fitted_size
from models.text import normalise
from pipelines.evaluate.grounding.phrases import SETTINGS, Phrase, phrases_of_regions, region_mask
from pipelines.evaluate.metrics.segmentation import Values

# Rows and columns of a mean mask, over the whole image whatever its shape.
_GRID = 32

# What a mean is of: phrases of a setting with equal words, of one place, of one term, or all of them.
Key = tuple[object, ...]


@dataclass(frozen=True)
class _TrainingRegion:
    """An annotated region of the training split, as `phrases.Described`."""

    number: int
    adjective: str
    term: str
    caption: str
    phrase: str | None


class MeanMasks:
    """Mean masks by key, over the whole image whatever its shape."""

    def __init__(self) -> None:
        self._sums: dict[Key, Values] = {}
        self._counts: dict[Key, int] = {}
        self._at_size = lru_cache(maxsize=256)(self._stretched)

    def add(self, key: Key, mask: Values) -> None:
        """Count a mask, as `shrunk` gives it."""
        self._sums[key] = self._sums.get(key, 0.0) + mask
        self._counts[key] = self._counts.get(key, 0) + 1

    def of(self, keys: Iterable[Key], width: int, height: int, side: int) -> Values | None:
        """(side, side), 0 to 1: the mean of the first key that has one; None: none has.

        Args:
            keys: The best first.
            width: Of the original image, in pixels.
            height: Of the original image, in pixels.
            side: Pixels of the square that the image fills from the top left.
        """
        key = next((key for key in keys if key in self._sums), None)
        return None if key is None else self._at_size(key, *fitted_size(width, height, side), side)

    def _stretched(self, key: Key, width: int, height: int, side: int) -> Values:
        mean = torch.from_numpy(self._sums[key] / self._counts[key])
        square = np.zeros((side, side))
        square[:height, :width] = F.interpolate(mean[None, None], (height, width), mode="bilinear")[0, 0].numpy()
        return square


class MeanTrainingMasks:
    """The mean mask of the training phrases that are most like a phrase.

    Those with equal words that name the same place; where the training split has none of them, those of the same
    place; then those of the same term; then all.

    Args:
        samples: Of the training split.
        asked: Setting -> the phrases that will be asked for. Nothing is kept of others, so that the memory does not
            grow with the training split.
    """

    def __init__(self, samples: Iterable[Sample], asked: Mapping[str, Sequence[Phrase]]) -> None:
        wanted = {key for setting, phrases in asked.items() for phrase in phrases for key in _keys(setting, phrase)}
        self._means = MeanMasks()
        for setting, phrase, mask in _training_masks(samples):
            for key in wanted.intersection(_keys(setting, phrase)):
                self._means.add(key, mask)

    def of(self, setting: str, phrase: Phrase, width: int, height: int, side: int) -> Values | None:
        """(side, side), 0 to 1; None where the training split has no phrase.

        Args:
            setting: Of the phrase.
            phrase: One of those that were announced.
            width: Of the original image, in pixels.
            height: Of the original image, in pixels.
            side: Pixels of the square that the image fills from the top left.
        """
        return self._means.of(_keys(setting, phrase), width, height, side)


def _keys(setting: str, phrase: Phrase) -> list[Key]:
    """From the phrases that are most like it to all."""
    place = [(setting, "place", phrase.place)] if phrase.place else []
    return [
        (setting, "text", normalise(phrase.text), phrase.place),
        *place,
        (setting, "term", phrase.term),
        (setting, "all"),
    ]


def _training_masks(samples: Iterable[Sample]) -> Iterator[tuple[str, Phrase, Values]]:
    """Each training phrase of each setting, and its mask (_GRID, _GRID), 0 to 1."""
    for index, sample in enumerate(samples):
        meta = sample.meta
        regions = list(_annotated(sample))
        masks = {region.number: region_mask(sample, region.number) for region in regions}
        # The settings share most of the masks.
        small: dict[tuple[int, ...], Values] = {}
        for setting in SETTINGS:
            for phrase in phrases_of_regions(regions, setting, index, patient_sides=meta.patient_sides):
                if phrase.regions not in small:
                    mask = np.logical_or.reduce([masks[number] for number in phrase.regions])
                    small[phrase.regions] = shrunk(mask, *fitted_size(meta.width, meta.height, len(mask)))
                yield setting, phrase, small[phrase.regions]


def _annotated(sample: Sample) -> Iterator[_TrainingRegion]:
    """The described regions that annotations gave; those of proposers only look like findings."""
    for number, caption in enumerate(sample.captions.regions):
        if caption.status == "ok" and caption.basis == "annotation":
            adjective, term, _ = map(normalise, caption.triple)
            yield _TrainingRegion(number, adjective, term, region_phrase(caption), caption.phrase)


def shrunk(mask: Mask, width: int, height: int) -> Values:
    """(_GRID, _GRID), 0 to 1: a mask (side, side) of an image that fills `width` x `height` pixels of it."""
    image = Image.fromarray(mask[:height, :width].astype(np.float32))
    return np.asarray(image.resize((_GRID, _GRID), Image.Resampling.BOX), dtype=np.float64)

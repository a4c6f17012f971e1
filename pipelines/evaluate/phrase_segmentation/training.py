"""Where the outlines of the training split are: a mask of each label that answers it without a look at the image."""

from collections.abc import Collection, Iterable
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from models.data.pairs import pair_mask, pairs_of
from models.data.shards import Sample
from models.geometry import Mask
from pipelines.evaluate.metrics.segmentation import Values
from pipelines.evaluate.segmentation.masks import without_padding

# Rows and columns of a mean mask, over the whole image whatever its shape.
GRID = 32
# Stands for every label.
_ANY = ""


class MeanLabelMasks:
    """The mask of a label that is best on the training split if all images get the same one.

    It holds the places where the mean of the label's training masks is at least a level; the level is the one with the
    highest Dice over the pixels of all these masks together (`best_level`). A label that no training image outlines has
    that of all labels.

    Args:
        samples: Of the training split.
        labels: Those that will be asked for; nothing is kept of others.
    """

    def __init__(self, samples: Iterable[Sample], labels: Collection[str]) -> None:
        self._sums: dict[str, Values] = {}
        self._counts: dict[str, int] = {}
        for sample in samples:
            for pair in pairs_of(sample, "input"):
                mask = without_padding(sample, pair_mask(sample, pair))
                if not mask.any():
                    continue
                shrunk = F.adaptive_avg_pool2d(torch.from_numpy(mask.astype(np.float64))[None], GRID)[0].numpy()
                for label in {pair.label, _ANY} & {*labels, _ANY}:
                    self._sums[label] = self._sums.get(label, 0.0) + shrunk
                    self._counts[label] = self._counts.get(label, 0) + 1
        self._at_size = lru_cache(maxsize=256)(self._stretched)

    def of(self, label: str, height: int, width: int) -> Mask | None:
        """(height, width); None where the training split outlines nothing that has a name."""
        key = label if label in self._sums else _ANY
        return self._at_size(key, height, width) if key in self._sums else None

    def _stretched(self, key: str, height: int, width: int) -> Mask:
        mean = self._sums[key] / self._counts[key]
        inside = torch.from_numpy(mean >= best_level(mean)).double()[None, None]
        stretched: Mask = F.interpolate(inside, (height, width), mode="nearest-exact")[0, 0].numpy() > 0
        return stretched


def best_level(mean: Values) -> float:
    """The level from which on a mean mask is the prediction with the highest pooled Dice over the masks it is made of.

    With n masks of mean m, a prediction S shares n times the sum of m over S with them, so that its Dice is twice this
    sum over the size of S plus the sum of m: for each size the places with the highest m are the best.

    Args:
        mean: (rows, columns), 0 to 1, not 0 everywhere.
    """
    ordered = np.sort(mean, axis=None)[::-1]
    pooled = 2 * ordered.cumsum() / (np.arange(1, ordered.size + 1) + ordered.sum())
    return float(ordered[pooled.argmax()])

"""What the task `segmentation` measures where its options ask for it: outlines, sizes, images without a finding."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.geometry import Mask
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.metrics.lesion_sizes import Limits, by_size, thirds
from pipelines.evaluate.metrics.segmentation import EVERY_PIXEL, NO_PIXEL, Counts, constant_predictions, dice
from pipelines.evaluate.metrics.surface import DEFAULT_TOLERANCE, check_tolerance, surface_agreement

NO_FINDING = "no_finding"


@dataclass(frozen=True, kw_only=True)
class SegmentationConfig:
    """Options of the task: each adds metrics, of the masks with the report or, where the split has none, another text.

    Attributes:
        surface: HD95 and NSD of the outlines.
        tolerance: Of NSD, in pixels of the stored image.
        by_size: Dice of small, medium and large targets: thirds of those that have a pixel.
        specificity: What is predicted where the target is empty.
    """

    surface: bool = False
    tolerance: float = DEFAULT_TOLERANCE
    by_size: bool = False
    specificity: bool = False

    def __post_init__(self) -> None:
        check_tolerance(self.tolerance)


@dataclass(frozen=True, kw_only=True)
class _Outlines:
    """HD95 and NSD of one image: of the method's mask, and of each constant prediction by its name."""

    predicted: tuple[float, float]
    constant: dict[str, tuple[float, float]]


class OptionalScores:
    """The scores that the options ask for, of the masks of one setting.

    Args:
        config: The options.
        setting: With which text the masks are made.
    """

    def __init__(self, config: SegmentationConfig, setting: str) -> None:
        self.setting = setting
        self._config = config
        self._outlines: dict[int, _Outlines] = {}
        self._limits: Limits | None = None

    def add(self, index: int, predicted: Mask, target: Mask) -> None:
        """Measure the outlines of an image, where they are asked for; both masks (height, width)."""
        if self._config.surface:
            tolerance = self._config.tolerance
            constants = {EVERY_PIXEL: np.ones_like(target), NO_PIXEL: np.zeros_like(target)}
            self._outlines[index] = _Outlines(
                predicted=surface_agreement(predicted, target, tolerance),
                constant={name: surface_agreement(mask, target, tolerance) for name, mask in constants.items()},
            )

    def set_sizes(self, rows: Mapping[int, Sequence[int]]) -> None:
        """Take the limits of sizes from all images: index -> row of `metrics.segmentation`."""
        filled = _areas(_counts(rows))
        if self._config.by_size and filled.any():
            self._limits = thirds(filled[filled > 0])

    def of(self, rows: Mapping[int, Sequence[int]], bootstrap: Bootstrap) -> dict[str, Score]:
        """The scores of some images, by their rows; a metric of none of them is absent."""
        counts = _counts(rows)
        scores: dict[str, Score] = {}
        if outlines := [self._outlines[index] for index in rows if index in self._outlines]:
            scores |= {f"{self.setting}/{name}": score for name, score in _surface(outlines, bootstrap).items()}
        if self._limits is not None:
            scores |= _by_size(counts, self._limits, bootstrap)
        if self._config.specificity:
            scores |= _specificity(counts, bootstrap)
        return scores

    def items(self, rows: Mapping[int, Sequence[int]]) -> Iterator[tuple[int, str, float]]:
        """Index of the image, metric and value of each item behind the scores."""
        for index, outlines in self._outlines.items():
            for metric, value in zip(("hd95", "nsd"), outlines.predicted, strict=True):
                yield index, f"{self.setting}/{metric}", value
        counts, indices = _counts(rows), list(rows)
        if self._limits is not None:
            filled = np.flatnonzero(_areas(counts))
            for size, places in by_size(_areas(counts)[filled], self._limits).items():
                for place in filled[places]:
                    yield indices[place], f"{size}/dice", float(dice(counts[place]))
        if self._config.specificity:
            for place in np.flatnonzero(_areas(counts) == 0):
                yield indices[place], f"{NO_FINDING}/specificity", float(counts[place, 1] == 0)
                yield indices[place], f"{NO_FINDING}/pixel_specificity", float(counts[place, 3] / counts[place].sum())

    def counted(self, rows: Mapping[int, Sequence[int]]) -> dict[str, int]:
        """How many images the metrics `<name>/...` are of."""
        areas = _areas(_counts(rows))
        sizes = {} if self._limits is None else by_size(areas[areas > 0], self._limits)
        empty = {NO_FINDING: int((areas == 0).sum())} if self._config.specificity else {}
        return {size: len(places) for size, places in sizes.items()} | empty

    def notes(self) -> list[str]:
        """What a reader needs to know; nothing where nothing is asked for."""
        config = self._config
        if not (config.surface or config.by_size or config.specificity):
            return []
        found = [f"outlines, sizes and {NO_FINDING} are of the setting {self.setting}"]
        if config.surface:
            found.append(
                f"hd95, of which less is better, and nsd (within {config.tolerance:g}) are in pixels of the stored "
                "image; where one of prediction and target is empty hd95 is the image's diagonal and nsd 0, where both "
                "are they are 0 and 1"
            )
        if self._limits is not None:
            low, high = (f"{100 * limit:.3g} %" for limit in self._limits)
            found.append(f"small targets fill up to {low} of their image, medium ones up to {high}: thirds of them all")
        if config.specificity:
            found.append(
                f"the chance of {NO_FINDING} is that of the constant prediction with the higher Dice per image"
            )
        return found


def _surface(rows: Sequence[_Outlines], bootstrap: Bootstrap) -> dict[str, Score]:
    """The chance of each is the better constant prediction."""
    predicted = np.array([row.predicted for row in rows])
    constant = [np.array([row.constant[name] for row in rows]).mean(axis=0) for name in rows[0].constant]
    return {
        "hd95_per_image": mean_score(predicted[:, 0], float(min(means[0] for means in constant)), bootstrap),
        "nsd_per_image": mean_score(predicted[:, 1], float(max(means[1] for means in constant)), bootstrap),
    }


def _by_size(counts: Counts, limits: Limits, bootstrap: Bootstrap) -> dict[str, Score]:
    filled = counts[_areas(counts) > 0]
    return {
        f"{size}/dice_per_image": mean_score(
            dice(filled[places]), float(dice(constant_predictions(filled[places])[EVERY_PIXEL]).mean()), bootstrap
        )
        for size, places in by_size(_areas(filled), limits).items()
    }


def _specificity(counts: Counts, bootstrap: Bootstrap) -> dict[str, Score]:
    empty = counts[_areas(counts) == 0]
    if not len(empty):
        return {}
    constant = {name: float(dice(predicted).mean()) for name, predicted in constant_predictions(counts).items()}
    chance = float(constant[NO_PIXEL] > constant[EVERY_PIXEL])
    return {
        f"{NO_FINDING}/specificity": mean_score(empty[:, 1] == 0, chance, bootstrap),
        f"{NO_FINDING}/pixel_specificity": mean_score(empty[:, 3] / empty.sum(axis=1), chance, bootstrap),
    }


def _counts(rows: Mapping[int, Sequence[int]]) -> Counts:
    return np.array(list(rows.values()), dtype=np.int64).reshape(-1, 4)


def _areas(counts: Counts) -> NDArray[np.float64]:
    """(images, 4) -> (images,) fraction of each image that its target fills."""
    fractions: NDArray[np.float64] = (counts[:, 0] + counts[:, 2]) / counts.sum(axis=1)
    return fractions

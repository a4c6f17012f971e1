"""The annotated findings of images, and the heatmaps of their prompts against them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from models.data.shards import Sample
from models.geometry import Mask, fitted_size
from pipelines.evaluate.evaluation_set import EvaluationSet, labels_of_regions
from pipelines.evaluate.grounding.measure import CENTRE, METHOD
from pipelines.evaluate.grounding.phrases import region_mask
from pipelines.evaluate.grounding.training import MeanMasks, shrunk
from pipelines.evaluate.grounding.visible import VisiblePart
from pipelines.evaluate.metrics import localisation
from pipelines.evaluate.metrics.segmentation import Values

TRAINING_BOXES = "mean training box"

# Source and finding: what a source does not name, it may not have looked for.
Key = tuple[str, str]


@dataclass(frozen=True)
class DrawnFinding:
    """A finding of one image.

    Attributes:
        index: Of the image in its split.
        source: Of the image.
        finding: Its name, as encoders read it.
        regions: Numbers of the annotated regions that show it.
    """

    index: int
    source: str
    finding: str
    regions: tuple[int, ...]

    @property
    def key(self) -> Key:
        return self.source, self.finding


@dataclass(frozen=True, kw_only=True)
class FindingResult:
    """The heatmaps of one finding against the union of its regions.

    Attributes:
        of: The finding.
        highest: Column and row of the highest pixel of the method's heatmap, as fractions of the image.
        pointing: `METHOD` or a baseline -> fraction of the heatmap's highest pixels that lie in the union.
        iou: The same -> (thresholds,) intersection over union of the union and the heatmap from each threshold on.
        grid: Rows and columns of the method's heatmap.
        fraction: Fraction of the valid pixels that lie in the union.
        has_masks: False where a box stands for a mask.
    """

    of: DrawnFinding
    highest: tuple[float, float]
    pointing: Mapping[str, float]
    iou: Mapping[str, Values]
    grid: tuple[int, int]
    fraction: float
    has_masks: bool


def drawn_findings(sources: Iterable[str], region_labels: Iterable[Mapping[int, str]]) -> list[DrawnFinding]:
    """The findings of all images, in the images' order.

    Args:
        sources: Of each image.
        region_labels: Of each image, `EvaluationSet.region_labels`.
    """
    found = []
    for index, (source, labels) in enumerate(zip(sources, region_labels, strict=True)):
        for finding in dict.fromkeys(labels.values()):
            numbers = tuple(number for number, label in labels.items() if label == finding)
            found.append(DrawnFinding(index, source, finding, numbers))
    return found


def union_of(sample: Sample, regions: Iterable[int]) -> Mask:
    """(side, side): the masks of regions together, or their boxes where they have none."""
    return np.asarray(np.logical_or.reduce([region_mask(sample, number) for number in regions]))


def mean_training_boxes(samples: Iterable[Sample]) -> MeanMasks:
    """The mean union of each finding of each source over the training images that show it.

    Args:
        samples: Of the training split.
    """
    means = MeanMasks()
    for sample in samples:
        meta = sample.meta
        for one in drawn_findings([meta.source], [labels_of_regions(sample)]):
            union = union_of(sample, one.regions)
            means.add(one.key, shrunk(union, *fitted_size(meta.width, meta.height, len(union))))
    return means


def measure(
    test: EvaluationSet,
    drawn: Sequence[DrawnFinding],
    prompt: Callable[[str], str],
    thresholds: Values,
    training: MeanMasks | None,
) -> list[FindingResult]:
    """The result of each finding; one whose union is empty or full within the visible crop has none.

    Args:
        test: The method and the split.
        drawn: In the order of the images.
        prompt: Finding -> the text that is grounded.
        thresholds: (thresholds,), above 0.
        training: Of `mean_training_boxes`.
    """
    asked = [(one.index, prompt(one.finding)) for one in drawn]
    results = []
    for one, (sample, grid) in zip(drawn, test.ground(asked), strict=True):
        meta, union = sample.meta, union_of(sample, one.regions)
        part = VisiblePart(test.model, meta.width, meta.height, len(union))
        inside = part.pixels(union)
        if not inside.any() or inside.all():
            continue
        maps = {METHOD: part.heatmaps(grid[None])[0], CENTRE: part.centre}
        mean = None if training is None else training.of([one.key], meta.width, meta.height, part.side)
        if mean is not None:
            maps[TRAINING_BOXES] = mean
        levels = part.levels(maps.values())
        results.append(
            FindingResult(
                of=one,
                highest=part.highest(levels[0]),
                pointing=dict(zip(maps, localisation.pointing_game(levels, inside).tolist(), strict=True)),
                iou=dict(zip(maps, localisation.overlap(levels, inside, thresholds), strict=True)),
                grid=(grid.shape[0], grid.shape[1]),
                fraction=float(inside.mean()),
                has_masks=all(meta.regions[number].mask is not None for number in one.regions),
            )
        )
    return results

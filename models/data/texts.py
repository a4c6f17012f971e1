"""The report and the regions that an epoch trains with, and texts made of the captions of regions."""

from collections.abc import Sequence

import numpy as np

from models.data.format import RegionCaption
from models.data.shards import Sample
from models.text import region_text

# Apart from the other numbers that are drawn for a sample in an epoch (`models.data.augmentation.generator`).
_REPORTS, _REGIONS, NEGATIVES_DRAW, PAIRS_DRAW, DROPOUT_DRAW = 1, 2, 3, 4, 5


def report_of_epoch(sample: Sample, seed: int, epoch: int | None) -> str | None:
    """The report that a sample is trained with: where it has several, one of them, drawn anew for each epoch.

    Args:
        sample: Its texts are read alone.
        seed: Of the draw.
        epoch: None takes the first report, as validation and evaluation do.
    """
    first, others = sample.captions.report, sample.captions.other_reports
    if first is None or not others or epoch is None:
        return first
    random = draw(sample, seed, epoch, _REPORTS)
    return (first, *others)[random.integers(1 + len(others))]


def described_regions(sample: Sample) -> list[int]:
    """Indices of the regions that a method may be trained on: role `input`, with a caption that is not from truth."""
    return [
        index
        for index, (region, caption) in enumerate(zip(sample.meta.regions, sample.captions.regions, strict=True))
        if region.role == "input" and caption.status == "ok" and not caption.oracle
    ]


def regions_of_epoch(sample: Sample, limit: int, seed: int, epoch: int | None) -> list[int]:
    """The regions that a sample is trained with: of the described ones `limit` at most, drawn anew for each epoch.

    Args:
        sample: Its description and texts are read alone.
        limit: Regions an image at most.
        seed: Of the draw.
        epoch: None takes the first ones, as validation does.

    Returns:
        Indices in `meta.regions`, ascending.
    """
    described = described_regions(sample)
    if epoch is None or not 0 < limit < len(described):
        return described[:limit]
    chosen = draw(sample, seed, epoch, _REGIONS).choice(len(described), limit, replace=False)
    return [described[index] for index in sorted(chosen)]


def draw(sample: Sample, seed: int, epoch: int, *what: int) -> np.random.Generator:
    """Random numbers for one purpose in one sample and epoch; the same in every worker and in a resumed run."""
    return np.random.default_rng([seed, epoch, int(sample.key, 16), *what])


def region_phrase(caption: RegionCaption) -> str:
    """`adjective term position` of a described region, as encoders read it."""
    return region_text(*caption.triple)


def region_texts(sample: Sample, numbers: Sequence[int]) -> str:
    """The captions of some regions, one after the other: `round polyp center upper. flat polyp left lower`."""
    regions = (sample.captions.regions[number] for number in numbers)
    return ". ".join(region_phrase(region) for region in regions if region.status == "ok")

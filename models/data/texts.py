"""The report that an epoch trains with, and texts made of the captions of regions."""

from collections.abc import Sequence

import numpy as np

from models.data.format import RegionCaption
from models.data.shards import Sample
from models.text import region_text


# Apart from the other numbers that are drawn for a sample in an epoch (`models.data.augmentation.generator`).
_REPORTS = 1


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
    random = np.random.default_rng([seed, epoch, int(sample.key, 16), _REPORTS])
    return (first, *others)[random.integers(1 + len(others))]


def region_phrase(caption: RegionCaption) -> str:
    """`adjective term position` of a described region, as encoders read it."""
    return region_text(*caption.triple)


def region_texts(sample: Sample, numbers: Sequence[int]) -> str:
    """The captions of some regions, one after the other: `round polyp center upper. flat polyp left lower`."""
    regions = (sample.captions.regions[number] for number in numbers)
    return ". ".join(region_phrase(region) for region in regions if region.status == "ok")

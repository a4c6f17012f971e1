"""Texts made of the captions of regions."""

from collections.abc import Sequence

from models.data.format import RegionCaption
from models.data.shards import Sample
from models.text import region_text


def region_phrase(caption: RegionCaption) -> str:
    """`adjective term position` of a described region, as encoders read it."""
    return region_text(*caption.triple)


def region_texts(sample: Sample, numbers: Sequence[int]) -> str:
    """The captions of some regions, one after the other: `round polyp center upper. flat polyp left lower`."""
    regions = (sample.captions.regions[number] for number in numbers)
    return ". ".join(region_phrase(region) for region in regions if region.status == "ok")

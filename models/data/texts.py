"""Texts made of the captions of regions."""

from collections.abc import Sequence

from models.data.shards import Sample
from models.text import region_text


def region_texts(sample: Sample, numbers: Sequence[int]) -> str:
    """The captions of some regions, one after the other: `round polyp center upper. flat polyp left lower`."""
    regions = (sample.captions["regions"][number] for number in numbers)
    return ". ".join(
        region_text(region["adjective"], region["term"], region["position"])
        for region in regions
        if region["status"] == "ok"
    )

"""The random sample of accepted regions and of captions that people audit, stratified by source and modality.

Every item has a random number of its own, the SHA-256 of the seed and its name, and the sample of a stratum are the
items with the least numbers (permanent random numbers: Ohlsson, Coordination of samples, 1995). That is a simple random
sample without replacement, and it keeps nearly all of its items where a few others come or go.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipelines.audit.config import AuditConfig
from pipelines.files import digest_of
from pipelines.records import CaptionRow, RegionRow, SplitImageRow
from pipelines.regions.annotation_tools import exported_regions

What = Literal["regions", "captions"]
WHATS: tuple[What, ...] = ("regions", "captions")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One region, or one caption with what it describes.

    Attributes:
        what: regions or captions.
        image: The image.
        region: The region, or the one that the caption describes; None: the caption describes the image.
        text: The caption's text; None: the item is a region.
    """

    what: What
    image: SplitImageRow
    region: RegionRow | None
    text: str | None

    @property
    def name(self) -> str:
        """Never a number, which a spreadsheet would round: an id may consist of digits."""
        return f"{self.what.removesuffix('s')}:{self.region.region_id if self.region else self.image.image_id}"

    @property
    def stratum(self) -> str:
        return f"{self.image.source}, {self.image.modality}"

    @property
    def shown(self) -> str:
        """SHA-256 of what people see: the pixels, the place of the outline and the text."""
        region = self.region
        place = None if region is None else [*region.box, region.mask]
        return digest_of([self.what, self.image.pixel_sha256, place, self.text])


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """The sample of one stratum.

    Attributes:
        name: "<source>, <modality>".
        population: Items of the study in it.
        proportional: Its share of the proportional part of the sample.
        further: What small strata get besides.
    """

    name: str
    population: int
    proportional: list[Item]
    further: list[Item]

    @property
    def items(self) -> list[Item]:
        return [*self.proportional, *self.further]


def draw(
    images: Iterable[SplitImageRow],
    regions: Sequence[RegionRow],
    captions: Iterable[CaptionRow],
    settings: AuditConfig,
) -> dict[What, list[Stratum]]:
    """The sample.

    Regions are the accepted ones of proposers: what a source annotated itself is its own. Captions are those that have
    a text and were not made from annotations of validation or test images.

    Args:
        images: All images of the study.
        regions: All its regions.
        captions: All its captions.
        settings: Section `audit` of params.yaml.
    """
    image_of = {image.image_id: image for image in images}
    region_of = {region.region_id: region for region in regions}
    shown = [
        Item(what="regions", image=image_of[region.image_id], region=region, text=None)
        for region in exported_regions(regions)
    ]
    described = [
        Item(what="captions", image=image_of[row.image_id], region=region_of.get(row.item_id), text=text)
        for row in captions
        if (text := text_of(row)) is not None and not row.oracle
    ]
    return {
        "regions": _strata(shown, settings.regions, settings),
        "captions": _strata(described, settings.captions, settings),
    }


def text_of(row: CaptionRow) -> str | None:
    """The text of a caption that people judge: of a region its caption, of an image its summary, else its report."""
    if row.status not in ("ok", "no_finding"):
        return None
    return row.region_caption if row.kind == "region" else row.summary or row.report or row.region_caption


def allocate(populations: Mapping[str, int], size: int) -> dict[str, int]:
    """Deal out a sample in proportion to the strata's sizes, by largest remainders.

    Args:
        populations: Items of each stratum.
        size: Items of the sample; at most all are taken.
    """
    total = sum(populations.values())
    size = min(size, total)
    shares = {name: divmod(size * count, total) for name, count in populations.items()}
    left = size - sum(whole for whole, _ in shares.values())
    first = sorted(shares, key=lambda name: (-shares[name][1], name))[:left]
    return {name: whole + (name in first) for name, (whole, _) in shares.items()}


def _strata(items: Iterable[Item], size: int, settings: AuditConfig) -> list[Stratum]:
    members: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        members[item.stratum].append(item)
    shares = allocate({name: len(group) for name, group in members.items()}, size)
    strata = []
    for name in sorted(members):
        ordered = sorted(members[name], key=lambda item: random_number(item, settings.seed))
        share = shares[name]
        strata.append(
            Stratum(
                name=name,
                population=len(ordered),
                proportional=ordered[:share],
                further=ordered[share : settings.min_per_stratum],
            )
        )
    return strata


def random_number(item: Item, seed: int) -> str:
    """The permanent random number of an item, as hex digits."""
    return hashlib.sha256(f"{seed} {item.name}".encode()).hexdigest()

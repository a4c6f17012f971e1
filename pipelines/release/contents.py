"""What of a study is released: the images of sources whose licence allows it, with all that belongs to them.

An image is released if its source may be passed on and the shards hold it. Every image of the study is counted: as
released, as one of a source that is left out, or as one that could not be opened when the shards were made.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.data.format import Manifest
from models.data.tars import open_shard
from pipelines.errors import UserError
from pipelines.promotion.licences import licence_faults
from pipelines.records import (
    CAPTIONS,
    REGIONS,
    SPLIT_IMAGES,
    SPLIT_QUESTIONS,
    CaptionRow,
    QuestionRow,
    RegionRow,
    SplitImageRow,
)
from pipelines.report.config import SourceTerms
from pipelines.report.inputs import Paths
from pipelines.shards.checks import check_family, check_pair, shard_faults


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Images that are not released, and why.

    Attributes:
        source: Their source.
        images: How many.
        reason: In words.
    """

    source: str
    images: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The released part of a study.

    Attributes:
        terms: Adapter and licence of each released source, in the order of params.yaml.
        left_out: What is not released; with `images` it makes the study's images.
        images: By split, in the order of the shards.
        groups: Name of each group in the tables -> the one that is released, which names no image of a source left out.
        regions: Accepted regions by image_id, in the order of `n`.
        captions: By image_id and region_id.
        questions: By image_id.
        images_in: Manifest of the images' shards.
        captioned_in: Manifest of the captions' shards.
    """

    terms: dict[str, SourceTerms]
    left_out: list[LeftOut]
    images: dict[str, list[SplitImageRow]]
    groups: dict[str, str]
    regions: Mapping[str, list[RegionRow]]
    captions: Mapping[str, CaptionRow]
    questions: Mapping[str, list[QuestionRow]]
    images_in: Manifest
    captioned_in: Manifest

    @property
    def rows(self) -> list[SplitImageRow]:
        return [row for rows in self.images.values() for row in rows]

    @property
    def is_whole(self) -> bool:
        """Whether the shards hold nothing else, so that their tars are passed on as they are."""
        asked = sum(map(len, self.questions.values()))
        all_asked = asked == self.captioned_in.tables["questions"].rows
        return all_asked and len(self.rows) == self.images_in.samples

    def licence(self, source: str) -> str:
        licence = self.terms[source].licence
        assert licence is not None, "a source without a licence is left out"
        return licence


def read_contents(
    paths: Paths, terms: Mapping[str, SourceTerms], use: str, licences: Mapping[str, list[str]]
) -> Contents:
    """Read what may be released of a finished study.

    Args:
        paths: Where it lies.
        terms: What params.yaml says of each source.
        use: A key of `licences`.
        licences: Use -> licences that allow it.

    Raises:
        UserError: The study is not finished, its tables are of another run than its shards, or nothing may be released.
        DamagedError: A file is not the one that was written.
    """
    shards = {family: paths.data / "shards" / family for family in ("images", "captions")}
    with shard_faults():
        tables = paths.tables
        images_in = check_family(shards["images"], {name: tables[name] for name in ("images", "regions")})
        captioned_in = check_family(shards["captions"], {name: tables[name] for name in ("captions", "questions")})
        check_pair(shards["images"], shards["captions"])
    keys = stored_keys(shards["images"], images_in)
    rows = {row.image_id: row for row in SPLIT_IMAGES.rows(tables["images"])}
    sources = sorted({row.source for row in rows.values()})
    faults = licence_faults(sources, terms, use, licences)
    if len(faults) == len(sources):
        raise UserError(f"nothing may be released: {'; '.join(faults.values())}")
    images = {
        split: [rows[key] for key in of_split if rows[key].source not in faults] for split, of_split in keys.items()
    }
    released = {row.image_id for of_split in images.values() for row in of_split}
    return Contents(
        terms={name: terms[name] for name in terms if name in sources and name not in faults},
        left_out=_left_out(rows, faults, {key for of_split in keys.values() for key in of_split}),
        images=images,
        groups=_groups(images, {key for key, row in rows.items() if row.source in faults}),
        regions=_regions(tables["regions"], released),
        captions={row.item_id: row for row in CAPTIONS.rows(tables["captions"]) if row.image_id in released},
        questions=_questions(tables["questions"], released, set(sources) - set(faults)),
        images_in=images_in,
        captioned_in=captioned_in,
    )


def stored_keys(folder: Path, manifest: Manifest) -> dict[str, list[str]]:
    """The samples of a family by split, in stored order."""
    return {
        name: [key for shard in split.shards for key in open_shard(folder, manifest.family, shard).keys]
        for name, split in manifest.splits.items()
    }


def _left_out(rows: Mapping[str, SplitImageRow], faults: Mapping[str, str], stored: set[str]) -> list[LeftOut]:
    forbidden = Counter(row.source for row in rows.values() if row.source in faults)
    unopened = Counter(row.source for key, row in rows.items() if row.source not in faults and key not in stored)
    reason = "the image could not be opened when the shards were made"
    return [
        *(LeftOut(source=source, images=forbidden[source], reason=fault) for source, fault in faults.items()),
        *(LeftOut(source=source, images=unopened[source], reason=reason) for source in sorted(unopened)),
    ]


def _groups(images: Mapping[str, list[SplitImageRow]], forbidden: set[str]) -> dict[str, str]:
    """A group is called after one of its images; where that is of a source that is left out, after its first other."""
    members: dict[str, list[str]] = defaultdict(list)
    for rows in images.values():
        for row in rows:
            members[row.group].append(row.image_id)
    return {group: min(of_group) if group in forbidden else group for group, of_group in members.items()}


def _regions(path: Path, released: set[str]) -> dict[str, list[RegionRow]]:
    found: dict[str, list[RegionRow]] = defaultdict(list)
    for region in REGIONS.rows(path):
        if region.status == "accepted" and region.image_id in released:
            found[region.image_id].append(region)
    return {image_id: sorted(regions, key=lambda region: region.n) for image_id, regions in found.items()}


def _questions(path: Path, released: set[str], sources: set[str]) -> dict[str, list[QuestionRow]]:
    """Those of released images that a released source asks: one that is left out may show the same picture."""
    found: dict[str, list[QuestionRow]] = defaultdict(list)
    for question in SPLIT_QUESTIONS.rows(path):
        if question.image_id in released and question.source in sources:
            found[question.image_id].append(question)
    return found

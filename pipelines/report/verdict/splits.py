"""Splits: whether each has images enough, and whether a patient or a scene stands in two of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.records import SPLITS
from pipelines.report.counts import LeakCounts, SourceCounts
from pipelines.report.verdict.finding import Finding
from pipelines.report.verdict.words import counted, listed, percent

TOPIC = "splits"
# Below this, a 95 % interval of a fraction is wider than 35 points at its middle (1.96 * sqrt(0.25 / 30) = 0.18).
FEW = 30
# What each split is for, where it lacks images.
NEEDED_FOR = {
    "train": "nothing can be trained",
    "validation": "no threshold can be certified, and promotion cannot choose a method",
    "test": "nothing can be measured",
}
# A group of this fraction of all images (and more than this many) points at thresholds that join different images.
LARGE_GROUP, LARGE_GROUP_IMAGES = 0.1, 20


def split_findings(
    sources: Sequence[SourceCounts], leaks: LeakCounts, summary: Mapping[str, Any] | None
) -> Iterator[Finding]:
    """Of the whole dataset.

    Args:
        sources: Images of each split.
        leaks: Groups in two splits.
        summary: Of the stage `split`; None: there is none.
    """
    totals: dict[str, int] = {split: sum(source.splits[split] for source in sources) for split in SPLITS}
    yield leak_finding(totals, leaks)
    yield from _sizes(totals)
    if count := sum(source.split_conflicts for source in sources):
        text = (
            f"{counted(count, 'image')} stand in more than one published split of their source; the strictest counts."
        )
        yield Finding(level="warning", topic=TOPIC, text=text)
    if summary is not None:
        yield from _told_by_the_stage(sum(totals.values()), summary)


def leak_finding(totals: Mapping[str, int], leaks: LeakCounts) -> Finding:
    """How the images are split, and the groups in two splits."""
    text = f"{', '.join(f'{split} {count:,}' for split, count in totals.items())} images of {leaks.groups:,} groups"
    if leaks.not_allowed:
        text += (
            f"; {counted(leaks.not_allowed, 'group')} of one patient or scene in two splits: test scores are too good."
        )
        action = "dvc repro split; split.allow_leaks names the sources whose published splits may leak"
        return Finding(level="wrong", topic=TOPIC, text=text, action=action)
    if leaks.groups_in_two_splits:
        text += (
            f"; {leaks.groups_in_two_splits:,} stand in two splits, as split.allow_leaks allows "
            f"({counted(leaks.images, 'image')}): test scores of these sources may be too good."
        )
        return Finding(level="warning", topic=TOPIC, text=text, action="take the sources out of split.allow_leaks")
    return Finding(level="ok", topic=TOPIC, text=f"{text}; no group of one patient or scene stands in two splits.")


def _sizes(totals: Mapping[str, int]) -> Iterator[Finding]:
    for split, count in totals.items():
        action = f"split.fractions.{split}, or the column split of the source"
        if not count:
            text = f"The split {split} is empty: {NEEDED_FOR[split]}."
            yield Finding(level="wrong", topic=TOPIC, text=text, action=action)
        elif count < FEW:
            text = f"The split {split} has {counted(count, 'image')} alone: figures from so few say little."
            yield Finding(level="warning", topic=TOPIC, text=text, action=f"more images, or {action}")


def _told_by_the_stage(images: int, summary: Mapping[str, Any]) -> Iterator[Finding]:
    largest = summary.get("largest_group", 0)
    if largest > LARGE_GROUP_IMAGES and largest > LARGE_GROUP * images:
        text = f"One group holds {largest:,} of {images:,} images ({percent(largest, images)}), all in one split."
        pairs = "data/split/near_duplicates.parquet has the pairs"
        action = f"if they are not of one patient, narrow split.near_duplicates; {pairs}"
        yield Finding(level="warning", topic=TOPIC, text=text, action=action)
    if moved := summary.get("leaks", {}).get("questions_in_another_split"):
        text = f"Questions in another published split than their image: {listed(moved)}; the image's split counts."
        yield Finding(level="warning", topic=TOPIC, text=text)

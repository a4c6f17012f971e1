"""Puts every image of all sources into train, validation or test, and refuses splits that leak.

A split that a source publishes is kept. The rest is split by group (`pipelines.split.groups`): images of one patient,
study or file, with the same pixels, or near-duplicates of each other, across all sources. A group that touches a
published split follows it; a group that touches two is a leak, and the stage fails unless params allow it for the
sources that cause it.

A file that two sources hold is one image: the row of the source whose name comes first stays, the published splits
and the patients of both count, and the questions of both are kept. Of a near-uniform file (an empty slice, a
placeholder) the first row alone counts.

All sources are read twice: what decides the splits, as numbers (`pipelines.split.rows`); then whole rows side by side,
a few at a time, into the tables (`pipelines.split.merge`). Thumbnails and questions wait on the disk between.

Reads   data/ingest/<source>/images.parquet, annotations.parquet, questions.parquet of every source in `ingest.sources`
Writes  data/split/images.parquet, annotations.parquet, questions.parquet, near_duplicates.parquet (also before it fails
        on a leak), and data/summaries/split.json
Alone   python -m pipelines.split
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.config import load, load_section
from pipelines.errors import UserError
from pipelines.files import atomic_folder
from pipelines.records import NEAR_DUPLICATES, SPLITS, NearDuplicateRow
from pipelines.split import near_duplicates
from pipelines.split.assign import claims_of, deal_out, follow_groups, mixed_groups, source_splits
from pipelines.split.config import NearDuplicates, SplitConfig
from pipelines.split.groups import group_names
from pipelines.split.leaks import in_several_splits, refuse_leaks
from pipelines.split.merge import write_annotations, write_images, write_questions
from pipelines.split.pairs import LISTED
from pipelines.split.rows import ReadRows, check_annotations, image_id, read_questions, read_rows
from pipelines.split.sides import SideVotes
from pipelines.stage import SUMMARIES, Summary


def main() -> None:
    sources = load_section("ingest").get("sources")
    if not isinstance(sources, dict) or not sources:
        raise UserError("params.yaml: ingest.sources names no source; add one")
    # By name: DVC sees no change where params.yaml lists the same sources in another order.
    with atomic_folder(Path("data/split")) as folder:
        run(load(SplitConfig, "split"), sorted(sources), out=folder)


def run(
    config: SplitConfig,
    sources: list[str],
    ingest: Path = Path("data/ingest"),
    out: Path = Path("data/split"),
    summaries: Path = SUMMARIES,
) -> dict[str, Any]:
    """Split the images of all sources.

    Args:
        config: Section `split`.
        sources: Names of the sources; of a file that two hold, the first one's row stays.
        ingest: Folder with one folder per source.
        out: Folder for the four tables.
        summaries: Folder for split.json.

    Raises:
        UserError: No image, an unknown name in `allow_leaks`, or a leak that is not allowed.
        ValueError: An annotation or question of an image that its source's table lacks.
    """
    if unknown := [name for name in config.allow_leaks if name not in sources]:
        raise UserError(f"split.allow_leaks names {unknown[0]!r}: choose from the sources {', '.join(sources)}")
    summary = Summary("split")
    out.mkdir(parents=True, exist_ok=True)
    decided = _decide(config, sources, ingest, out)
    images = decided.images
    votes = SideVotes()
    left_out = write_annotations(sources, ingest, images, votes, out / "annotations.parquet")
    write_questions(sources, ingest, out / "questions.parquet")
    unread = write_images(sources, ingest, images, votes, out / "images.parquet")

    summary.ok(len(images))
    if duplicates := decided.inputs - len(images):
        summary.duplicate("same_file_in_another_source", duplicates)
    _, sizes = np.unique(images["group"], return_counts=True)
    summary.extra = {
        "images": {name: _per_split(images[images["source"] == place]) for place, name in enumerate(sources)},
        "followed_published": _per_source(images[images["followed"]], sources),
        "groups": len(sizes),
        "largest_group": int(sizes.max()),
        "near_duplicate_pairs": _pair_counts(decided.pairs, sources),
        "near_duplicates_at_limit": _at_limit(decided.pairs),
        "annotations_of_duplicates": left_out,
        **unread,
        "near_uniform": _per_source(images[images["near_uniform"]], sources),
        "without_group_information": _per_source(images[images["alone"]], sources),
        "leaks": _leak_counts(images, decided.questions, sources),
        "sides": votes.told(),
    }
    return summary.write(decided.inputs, summaries)


@dataclass(frozen=True, kw_only=True)
class _Decided:
    """What the tables are written by, as numbers (`pipelines.split.rows`).

    Attributes:
        inputs: Rows of all sources.
        images: One row an image, by image: source (whose row is kept), group, source_split, split, split_conflict,
            leak; near_uniform, whether the split followed a published one, and whether nobody says whose it is (alone).
        pairs: Near-duplicates.
        questions: Those with a published split of their own.
    """

    inputs: int
    images: pd.DataFrame
    pairs: pd.DataFrame
    questions: pd.DataFrame


def _decide(config: SplitConfig, sources: list[str], ingest: Path, out: Path) -> _Decided:
    """Group the images and deal them out; write the near-duplicates, and refuse leaks."""
    read = read_rows(sources, ingest, out)
    check_annotations(sources, ingest, read.rows)
    questions = read_questions(sources, ingest, read.rows)

    rows = read.rows[~(read.rows["near_uniform"] & read.rows["image"].duplicated())]
    pairs = _pairs(rows, read, config.near_duplicates)
    NEAR_DUPLICATES.write(out / "near_duplicates.parquet", _pair_rows(pairs, sources))
    rows = rows.assign(group=group_names(rows, pairs))
    claims = claims_of(rows, questions)
    refuse_leaks(claims, sources, config.allow_leaks, out / "near_duplicates.parquet")

    images = rows.drop_duplicates("image").sort_values("image", ignore_index=True)
    published = source_splits(images, claims)
    followed = follow_groups(images, published)
    images = images[["image", "source", "group", "near_uniform"]].assign(
        split_conflict=images["image"].isin(in_several_splits(claims)),
        source_split=published,
        split=deal_out(images, followed, len(sources), config),
        leak=images["group"].isin(mixed_groups(claims)),
        followed=(published < 0) & (followed >= 0),
        alone=_stands_alone(images),
    )
    return _Decided(inputs=len(read.rows), images=images, pairs=pairs, questions=questions)


def _pairs(rows: pd.DataFrame, read: ReadRows, config: NearDuplicates) -> pd.DataFrame:
    """Near-duplicates among the images: columns image, source, other, other_source, distance, correlation."""
    informative = rows[~rows["near_uniform"]].drop_duplicates("image").sort_values("image")
    number = informative.index.to_numpy()
    found = near_duplicates.find(read.words[number], lambda some: read.thumbnails[number[some]], config)
    images = informative[["image", "source"]]
    ends = {end: images.take(found[end].to_numpy()).reset_index(drop=True) for end in ("left", "right")}
    other = ends["right"].rename(columns={"image": "other", "source": "other_source"})
    return pd.concat([ends["left"], other, found[["distance", "correlation"]]], axis=1)


def _pair_rows(pairs: pd.DataFrame, sources: list[str]) -> Iterator[NearDuplicateRow]:
    pair: Any
    for pair in pairs.itertuples():
        yield NearDuplicateRow(
            image_id=image_id(pair.image),
            other_id=image_id(pair.other),
            source=sources[pair.source],
            other_source=sources[pair.other_source],
            distance=pair.distance,
            correlation=pair.correlation,
        )


def _stands_alone(images: pd.DataFrame) -> pd.Series:
    """Images of which nobody says whose they are: no patient, no study, no other slice of their file."""
    return (images["patient"] == 0) & (images["study"] == 0) & ~images["file"].duplicated(keep=False)


def _per_split(images: pd.DataFrame) -> dict[str, int]:
    return {split: int((images["split"] == rank).sum()) for rank, split in enumerate(SPLITS)}


def _per_source(images: pd.DataFrame, sources: list[str]) -> dict[str, int]:
    return _named(np.bincount(images["source"], minlength=len(sources)), sources)


def _named(counts: NDArray[Any], sources: list[str]) -> dict[str, int]:
    return {name: int(count) for name, count in sorted(zip(sources, counts, strict=True)) if count}


def _pair_counts(pairs: pd.DataFrame, sources: list[str]) -> dict[str, dict[str, int]]:
    """Pairs within each source, and across two (in alphabetical order)."""
    within = pairs["source"] == pairs["other_source"]
    ends = np.sort(pairs.loc[~within, ["source", "other_source"]].to_numpy(), axis=1)
    two, counts = np.unique(ends, axis=0, return_counts=True)
    names = [" + ".join(sorted(sources[place] for place in places)) for places in two.tolist()]
    return {
        "within": _per_source(pairs[within], sources),
        "across": dict(sorted(zip(names, counts.tolist(), strict=True))),
    }


def _at_limit(pairs: pd.DataFrame) -> int:
    """Images that have as many pairs as are surely listed: further ones may be left out."""
    _, listed = np.unique(pd.concat([pairs["image"], pairs["other"]]), return_counts=True)
    return int((listed >= LISTED).sum())


def _leak_counts(images: pd.DataFrame, questions: pd.DataFrame, sources: list[str]) -> dict[str, dict[str, int]]:
    """Per source: images in leaking groups, images in several splits, questions in another split than their image."""
    used = images["split"].to_numpy()[np.searchsorted(images["image"], questions["image"])]
    elsewhere = questions[questions["split"] != used]
    counts = np.bincount(elsewhere["source"], weights=elsewhere["questions"], minlength=len(sources))
    return {
        "images": _per_source(images[images["leak"]], sources),
        "images_in_several_splits": _per_source(images[images["split_conflict"]], sources),
        "questions_in_another_split": _named(counts, sources),
    }

"""Puts every image of all sources into train, validation or test, and refuses splits that leak.

A split that a source publishes is kept. The rest is split by group (`pipelines.split.groups`): images of one patient,
study or file, with the same pixels, or near-duplicates of each other, across all sources. A group that touches a
published split follows it; a group that touches two is a leak, and the stage fails unless params allow it for the
sources that cause it.

A file that two sources hold is one image: the row of the source whose name comes first stays, the published splits
and the patients of both count, and the questions of both are kept. Of a near-uniform file (an empty slice, a
placeholder) the first row alone counts.

Reads   data/ingest/<source>/images.parquet, annotations.parquet, questions.parquet of every source in `ingest.sources`
Writes  data/split/images.parquet, annotations.parquet, questions.parquet, near_duplicates.parquet (also before it fails
        on a leak), and data/summaries/split.json
Alone   python -m pipelines.split
"""

from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.config import load, load_section
from pipelines.errors import UserError
from pipelines.files import atomic_folder
from pipelines.images import is_near_uniform
from pipelines.records import ANNOTATIONS, IMAGES, NEAR_DUPLICATES, QUESTIONS, SPLIT_IMAGES, SPLITS
from pipelines.split import near_duplicates
from pipelines.split.assign import claims_of, deal_out, follow_groups, mixed_groups, source_splits
from pipelines.split.config import SplitConfig
from pipelines.split.groups import file_names, group_names
from pipelines.split.hidden import hide_in_all
from pipelines.split.pairs import LISTED
from pipelines.split.sides import decide_sides
from pipelines.stage import SUMMARIES, Summary
from pipelines.tables import BATCH_ROWS, Table

SHOWN = 2  # leaking groups that the error message names, of each combination of sources


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
    rows = _read(IMAGES, sources, ingest, "images")
    if rows.empty:
        raise UserError(f"no image left in {', '.join(sources)}: see rejected.parquet under {ingest} for the reasons")
    annotations = _read(ANNOTATIONS, sources, ingest, "annotations", rows)
    questions = _read(QUESTIONS, sources, ingest, "questions", rows)

    inputs = len(rows)
    rows["near_uniform"] = rows["thumbnail"].map(is_near_uniform).astype(bool)
    again = rows["image_id"].duplicated()
    of_duplicates = {
        "texts_of_duplicates": _texts(rows[again]),
        "look_alikes_of_duplicates": sum(map(len, rows.loc[again, "look_alikes"])),
        "attributes_of_duplicates": sum(map(len, rows.loc[again, "attributes"])),
    }
    rows = rows[~(again & rows["near_uniform"])]
    informative = rows[~rows["near_uniform"]].drop_duplicates("image_id")
    pairs = near_duplicates.find(informative, config.near_duplicates)
    batches = (pairs[start : start + BATCH_ROWS] for start in range(0, len(pairs), BATCH_ROWS))
    NEAR_DUPLICATES.write(
        out / "near_duplicates.parquet", (row for batch in batches for row in NEAR_DUPLICATES.from_frame(batch))
    )
    rows = rows.drop(columns="thumbnail")
    rows["group"] = group_names(rows, pairs)
    claims = claims_of(rows, questions)
    _refuse_leaks(claims, config.allow_leaks, out)

    images = rows.drop_duplicates("image_id").sort_values("image_id", ignore_index=True)
    images["split_conflict"] = images["image_id"].isin(_in_several_splits(claims)).astype("bool[pyarrow]")
    images["source_split"] = source_splits(images, claims)
    followed = follow_groups(images, images["source_split"])
    images["split"] = deal_out(images, followed, sources, config)
    images["leak"] = images["group"].isin(mixed_groups(claims)).astype("bool[pyarrow]")

    kept = pd.MultiIndex.from_frame(images[["image_id", "source"]])
    of_kept = pd.MultiIndex.from_frame(annotations[["image_id", "source"]]).isin(kept)
    kept_annotations = ANNOTATIONS.from_frame(annotations[of_kept].sort_values(["image_id", "n"]))
    hiding = rows[rows["burned_in"] == "hidden"].to_dict("records")
    image_rows, sides = decide_sides(hide_in_all(SPLIT_IMAGES.from_frame(images), hiding), kept_annotations)
    ANNOTATIONS.write(out / "annotations.parquet", kept_annotations)
    QUESTIONS.write(out / "questions.parquet", QUESTIONS.from_frame(questions.sort_values(["source", "question_id"])))
    SPLIT_IMAGES.write(out / "images.parquet", image_rows)

    summary.ok(len(images))
    if duplicates := inputs - len(images):
        summary.duplicate("same_file_in_another_source", duplicates)
    sizes = images["group"].value_counts()
    summary.extra = {
        "images": {name: _per_split(images[images["source"] == name]) for name in sources},
        "followed_published": _per_source(images[images["source_split"].isna() & followed.notna()]),
        "groups": len(sizes),
        "largest_group": int(sizes.max()),
        "near_duplicate_pairs": _pair_counts(pairs),
        "near_duplicates_at_limit": _at_limit(pairs),
        "annotations_of_duplicates": int((~of_kept).sum()),
        **of_duplicates,
        "near_uniform": _per_source(images[images["near_uniform"]]),
        "without_group_information": _per_source(images[_stands_alone(images)]),
        "leaks": _leak_counts(images, questions),
        "sides": sides,
    }
    return summary.write(inputs, summaries)


def _read(
    table: Table[Any], sources: list[str], ingest: Path, name: str, images: pd.DataFrame | None = None
) -> pd.DataFrame:
    """One table of all sources as a frame; with `images`, every row must belong to an image of its source."""
    rows = table.frame(row for source in sources for row in table.read(ingest / source / f"{name}.parquet"))
    if images is not None:
        known = pd.MultiIndex.from_frame(images[["image_id", "source"]])
        lost = rows[~pd.MultiIndex.from_frame(rows[["image_id", "source"]]).isin(known)]
        if len(lost):
            raise ValueError(f"{len(lost)} {name} belong to no image, the first to {lost['image_id'].iloc[0]}")
    return rows


def _texts(rows: pd.DataFrame) -> int:
    """How many reports the rows have."""
    return int(rows["report"].notna().sum()) + sum(map(len, rows["other_reports"]))


def _stands_alone(images: pd.DataFrame) -> pd.Series:
    """Images of which nobody says whose they are: no patient, no study, no other slice of their file."""
    of_file = images.groupby(file_names(images))["image_id"].transform("size")
    return images["patient"].isna() & images["study"].isna() & (of_file == 1)


def _in_several_splits(claims: pd.DataFrame) -> set[str]:
    """Images that one source, or two sources between them, publish in several splits."""
    of_images = claims[~claims["of_question"]]
    splits = of_images.groupby("image_id")["split"].nunique()
    return set(splits.index[splits > 1]) | set(of_images.loc[of_images["split_conflict"].astype(bool), "image_id"])


def _refuse_leaks(claims: pd.DataFrame, allowed: list[str], out: Path) -> None:
    """Fail where the published splits of the sources that are not `allowed` to leak contradict each other."""
    claims = claims[~claims["source"].isin(allowed)]
    leaks = mixed_groups(claims)
    if not leaks:
        return
    alike: dict[str, list[str]] = {}
    for _, group in claims[claims["group"].isin(leaks)].groupby("group"):
        alike.setdefault(" and ".join(sorted(group["source"].unique())), []).append(_leak_text(group))
    found = "; ".join(f"{len(texts)} in {where}, such as {', '.join(texts[:SHOWN])}" for where, texts in alike.items())
    raise UserError(
        f"split: leaks (one patient or one image in more than one published split): {len(leaks)}, {found}. "
        "To keep the published splits and have the leaks counted, add the sources that may leak to split.allow_leaks; "
        f"{out / 'near_duplicates.parquet'} lists the near-duplicates"
    )


def _leak_text(group: pd.DataFrame) -> str:
    """One image for each published split of a leaking group."""
    if group["split_conflict"].any():
        first = group[group["split_conflict"].astype(bool)].sort_values("image_id").iloc[0]
        return f"{first['image_id']} ({first['source']} lists it in several splits)"
    ends = group.sort_values(["split", "source", "image_id"]).drop_duplicates("split")
    return " with ".join(f"{end.image_id} ({end.source} {end.split})" for end in ends.itertuples())


def _per_split(images: pd.DataFrame) -> dict[str, int]:
    return {split: int((images["split"] == split).sum()) for split in SPLITS}


def _per_source(images: pd.DataFrame) -> dict[str, int]:
    return {str(name): int(count) for name, count in images["source"].value_counts().sort_index().items()}


def _pair_counts(pairs: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Pairs within each source, and across two (in alphabetical order)."""
    within = pairs["source"] == pairs["other_source"]
    across = [" + ".join(sorted(ends)) for ends in pairs.loc[~within, ["source", "other_source"]].values]
    return {
        "within": _per_source(pairs[within]),
        "across": {name: across.count(name) for name in sorted(set(across))},
    }


def _at_limit(pairs: pd.DataFrame) -> int:
    """Images that have as many pairs as are surely listed: further ones may be left out."""
    listed = pd.concat([pairs["image_id"], pairs["other_id"]]).value_counts()
    return int((listed >= LISTED).sum())


def _leak_counts(images: pd.DataFrame, questions: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Per source: images in leaking groups, images in several splits, questions in another split than their image."""
    used = questions["image_id"].map(images.set_index("image_id")["split"])
    return {
        "images": _per_source(images[images["leak"]]),
        "images_in_several_splits": _per_source(images[images["split_conflict"]]),
        "questions_in_another_split": _per_source(questions[questions["split"].notna() & (questions["split"] != used)]),
    }

"""Decides each image's split: published splits first, then what touches them, then the rest by fractions."""

import hashlib
from dataclasses import astuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.records import SPLITS
from pipelines.split.config import SplitConfig


def claims_of(rows: pd.DataFrame, questions: pd.DataFrame) -> pd.DataFrame:
    """Everything that is published about where an image belongs.

    Args:
        rows: Rows of the tables `images` of all sources, with their `group`.
        questions: Rows of the tables `questions` of all sources.

    Returns:
        Columns image_id, source, group, split (null only where split_conflict), split_conflict, of_question. A
        question's own split is a claim on its image.
    """
    published = rows[rows["split"].notna() | rows["split_conflict"]]
    columns = ["image_id", "source", "group", "split", "split_conflict"]
    asked = questions.loc[questions["split"].notna(), ["image_id", "source", "split"]].drop_duplicates()
    group = rows.drop_duplicates("image_id").set_index("image_id")["group"]
    asked = asked.assign(group=asked["image_id"].map(group), split_conflict=False)
    return pd.concat(
        [published[columns].assign(of_question=False), asked[columns].assign(of_question=True)], ignore_index=True
    )


def mixed_groups(claims: pd.DataFrame) -> set[str]:
    """Groups with claims on more than one split, or with an image that its source lists in several."""
    splits = claims.groupby("group")["split"].nunique()
    return set(splits.index[splits > 1]) | set(claims.loc[claims["split_conflict"].astype(bool), "group"])


def source_splits(images: pd.DataFrame, claims: pd.DataFrame) -> pd.Series:
    """The published split of every image (null where there is none), in the index of `images`.

    Where an image is published in two splits, by two sources or by its questions, the more protected one counts (test
    before validation before train): one image can be used in one split only, and training loses least by it. What is
    said of an image goes before what is said of its questions.
    """
    published = pd.Series(None, index=images.index, dtype=images["split"].dtype)
    for of_question in (False, True):
        some = claims[(claims["of_question"] == of_question) & claims["split"].notna()]
        rank = some["split"].map(SPLITS.index).groupby(some["image_id"]).max()
        published = published.fillna(_named(images["image_id"].map(rank), published))
    return published


def follow_groups(images: pd.DataFrame, published: pd.Series) -> pd.Series:
    """`published`, and for every other image the published split that its group touches, if any.

    A group touches two of them only where params allow that leak. Its images without a published split then go to
    the less protected one: the others' test images are known to training already and are marked as leaks; in test,
    these would add more of the kind to the score.
    """
    rank = published.dropna().map(SPLITS.index)
    return published.fillna(_named(images["group"].map(rank.groupby(images["group"]).min()), published))


def deal_out(images: pd.DataFrame, split: pd.Series, sources: list[str], config: SplitConfig) -> pd.Series:
    """`split`, and for every other image a split by whole groups, so that each source comes near the fractions.

    Groups of a source are put in the order of a seeded hash of their names and dealt out along it, first to train, then
    to validation, then to test, as much as each of them lacks. The order of rows does not matter, and the images of
    one source move those of another only where they touch their groups. A group of several sources is dealt
    out with the one that `sources` lists first.

    Returns:
        No nulls, in the index of `images`.
    """
    fractions = np.array(astuple(config.fractions))
    split = split.copy()
    for source in sources:
        own = images["source"] == source
        free = images[own & split.isna()].groupby("group").size()
        if free.empty:
            continue
        names = sorted(free.index, key=lambda name: hashlib.sha256(f"{config.seed} {name}".encode()).digest())
        taken = np.array([(split[own] == name).sum() for name in SPLITS])
        wanted = (fractions * own.sum() - taken).clip(min=0)
        chosen = dict(zip(names, _along(free[names].to_numpy(), wanted), strict=True))
        undecided = split.isna()
        split[undecided] = _named(images.loc[undecided, "group"].map(chosen), split)
    return split


def _along(sizes: NDArray, wanted: NDArray) -> NDArray[np.intp]:
    """For each group, in order, the number of the split in whose stretch the group's middle lies."""
    middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    ends = np.cumsum(wanted) / wanted.sum()
    return np.searchsorted(ends[:-1], middle, side="right")


def _named(ranks: pd.Series, like: pd.Series) -> pd.Series:
    """Split names for numbers, null for null."""
    names = [None if pd.isna(rank) else SPLITS[int(rank)] for rank in ranks]
    return pd.Series(names, index=ranks.index, dtype=like.dtype)

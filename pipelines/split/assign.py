"""Decides each image's split: published splits first, then what touches them, then the rest by fractions.

A split is its place in `pipelines.records.SPLITS`, -1 where there is none. Images, groups and sources are numbers, as
`pipelines.split.rows` makes them.
"""

import hashlib
from dataclasses import astuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.records import SPLITS
from pipelines.split.config import SplitConfig
from pipelines.split.rows import image_id

Ranks = NDArray[np.int8]


def claims_of(rows: pd.DataFrame, questions: pd.DataFrame) -> pd.DataFrame:
    """Everything that is published about where an image belongs.

    Args:
        rows: Rows of all sources, with their `group`.
        questions: Questions with a split of their own (`pipelines.split.rows.read_questions`).

    Returns:
        Columns image, source, group, split (-1 only where split_conflict), split_conflict, of_question. A question's
        own split is a claim on its image.
    """
    columns = ["image", "source", "group", "split", "split_conflict"]
    published = rows.loc[(rows["split"] >= 0) | rows["split_conflict"], columns]
    asked = questions[["image", "source", "split"]]
    images = rows[["image", "group"]].drop_duplicates("image").sort_values("image")
    group = images["group"].to_numpy()[np.searchsorted(images["image"], asked["image"])]
    asked = asked.assign(group=group, split_conflict=False)
    return pd.concat([published.assign(of_question=False), asked[columns].assign(of_question=True)], ignore_index=True)


def mixed_groups(claims: pd.DataFrame) -> NDArray[np.uint64]:
    """Groups with claims on more than one split, or with an image that its source lists in several."""
    splits = claims[claims["split"] >= 0].groupby("group")["split"]
    lowest, highest = splits.min(), splits.max()
    several = lowest.index[lowest != highest].to_numpy(dtype=np.uint64)
    return np.union1d(several, claims.loc[claims["split_conflict"], "group"])


def source_splits(images: pd.DataFrame, claims: pd.DataFrame) -> Ranks:
    """The published split of every image, by image.

    Where an image is published in two splits, by two sources or by its questions, the more protected one counts (test
    before validation before train): one image can be used in one split only, and training loses least by it. What is
    said of an image goes before what is said of its questions.
    """
    published = np.full(len(images), -1, dtype=np.int8)
    for of_question in (False, True):
        some = claims[claims["of_question"] == of_question]
        said = np.full(len(images), -1, dtype=np.int8)
        np.maximum.at(said, np.searchsorted(images["image"], some["image"]), some["split"])
        published = np.where(published < 0, said, published)
    return published


def follow_groups(images: pd.DataFrame, published: Ranks) -> Ranks:
    """`published`, and for every other image the published split that its group touches, if any.

    A group touches two of them only where params allow that leak. Its images without a published split then go to
    the less protected one: the others' test images are known to training already and are marked as leaks; in test,
    these would add more of the kind to the score.
    """
    groups, of_image = np.unique(images["group"], return_inverse=True)
    touched = np.full(len(groups), len(SPLITS), dtype=np.int8)
    np.minimum.at(touched, of_image[published >= 0], published[published >= 0])
    touched[touched == len(SPLITS)] = -1
    return np.where(published < 0, touched[of_image], published)


def deal_out(images: pd.DataFrame, split: Ranks, sources: int, config: SplitConfig) -> Ranks:
    """`split`, and for every other image a split by whole groups, so that each source comes near the fractions.

    Groups of a source are put in the order of a seeded hash of their names and dealt out along it, first to train, then
    to validation, then to test, as much as each of them lacks. The order of rows does not matter, and the images of
    one source move those of another only where they touch their groups. A group of several sources is dealt
    out with the first of the `sources` (how many there are).

    Returns:
        None is -1.
    """
    fractions = np.array(astuple(config.fractions))
    source, group = images["source"].to_numpy(), images["group"].to_numpy()
    split = split.copy()
    for place in range(sources):
        own = source == place
        free, sizes = np.unique(group[own & (split < 0)], return_counts=True)
        if not len(free):
            continue
        names = (f"{config.seed} {image_id(name)}".encode() for name in free.tolist())
        digests = np.fromiter((hashlib.sha256(name).digest() for name in names), dtype="S32", count=len(free))
        order = np.argsort(digests, kind="stable")
        taken = np.array([(split[own] == rank).sum() for rank in range(len(SPLITS))])
        wanted = (fractions * own.sum() - taken).clip(min=0)
        chosen = np.empty(len(free), dtype=np.int8)
        chosen[order] = _along(sizes[order], wanted)
        undecided = np.flatnonzero((split < 0) & np.isin(group, free))
        split[undecided] = chosen[np.searchsorted(free, group[undecided])]
    return split


def _along(sizes: NDArray, wanted: NDArray) -> NDArray[np.intp]:
    """For each group, in order, the number of the split in whose stretch the group's middle lies."""
    middle = (np.cumsum(sizes) - sizes / 2) / sizes.sum()
    ends = np.cumsum(wanted) / wanted.sum()
    return np.searchsorted(ends[:-1], middle, side="right")

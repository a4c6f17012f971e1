"""Candidates: the proposals that the joint score is fitted on and applied to, and the images that they lie on.

Both are columns of numbers, about a hundred bytes a candidate: what selection, fitting and decisions need of all
candidates at once. Rows are read an image at a time, and again when the regions are written.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.geometry import Box, box_ious
from pipelines.columns import Numbers, SortedValues
from pipelines.records import PROPOSALS, SPLIT_IMAGES, ProposalRow, Split, SplitImageRow
from pipelines.regions.config import RegionsConfig
from pipelines.regions.limits import broken_limit, names_absent_class
from pipelines.tables import beside, of_images

_IMAGE_COLUMNS = ("image_id", "source", "width", "height", "modality", "labels", "group", "split")
_REALS = ("x0", "y0", "x1", "y1", "score", "area_fraction", "mask_quality", "mask_stability", "box_agreement")
_PROPOSAL_COLUMNS = (
    "image_id",
    "n",
    "proposer",
    "label",
    "sees_annotations",
    "own_phrases",
    "truth_iou",
    "reason",
    *_REALS,
)

CORRECT_IOU = 0.5  # IoU with an annotated region from which a proposal is correct

Reals = NDArray[np.float64]
Integers = NDArray[np.int32]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class AllImages:
    """All images in the order of their ids; each array has the shape (images,).

    Attributes:
        ids: Their ids, in ASCII.
        split: Where each is used.
        modality: Kind of each; the categories are those that occur, in alphabetical order.
        source: Name of each one's source.
        group: Number of each one's group, in the order of the groups' names.
        width: In pixels.
        height: In pixels.
        annotated: Whether the source annotated it: it marked regions, or it says that there is no finding.
    """

    ids: NDArray[np.bytes_]
    split: pd.Categorical
    modality: pd.Categorical
    source: pd.Categorical
    group: Integers
    width: Integers
    height: Integers
    annotated: Flags

    def __len__(self) -> int:
        return len(self.ids)

    def id_of(self, index: int) -> str:
        return self.ids[index].decode("ascii")

    def index_of(self, image_id: str) -> int | None:
        """Where an image stands; None where there is none of this id."""
        wanted = image_id.encode()
        index = bisect_left(self.ids, wanted)
        return index if index < len(self) and self.ids[index] == wanted else None

    def in_split(self, split: Split) -> Flags:
        """Which images a split has."""
        return np.asarray(self.split == split)


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The proposals that never saw the annotations and break no hard limit, by image and number.

    Each array has the shape (candidates,); numbers that are missing are NaN.

    Attributes:
        images: All images.
        image: Index of each candidate's image.
        n: As in `ProposalRow`, like all that follow.
        x0: Left edge.
        y0: Upper edge.
        x1: Right edge.
        y1: Lower edge.
        score: Of the proposer.
        area_fraction: Of the mask, or of the box where there is none.
        mask_quality: The segmenter's estimate.
        mask_stability: Of the mask at two thresholds.
        box_agreement: Of box and mask.
        agreement: Largest IoU (0 to 1) of its box with a box of another proposer in the same image; NaN where the table
            has only one proposer.
        proposer: Plug-in that gave it; the categories are those that occur, in alphabetical order.
        own_phrases: Searched with phrases of this image's labels or report.
        names_absent_class: Named as a finding that the image's source denies (`limits.names_absent_class`).
        correct: 1 where its IoU with the truth is at least `CORRECT_IOU`, 0 where it is less, -1 where nobody annotated
            the image.
    """

    images: AllImages
    image: Integers
    n: Integers
    x0: Reals
    y0: Reals
    x1: Reals
    y1: Reals
    score: Reals
    area_fraction: Reals
    mask_quality: Reals
    mask_stability: Reals
    box_agreement: Reals
    agreement: Reals
    proposer: pd.Categorical
    own_phrases: Flags
    names_absent_class: Flags
    correct: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def first(self) -> Indices:
        """Index of each image's first candidate, and at the end the number of all; shape (images + 1,)."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.image, minlength=len(self.images)))])

    def of_image(self, image: int) -> Indices:
        """Indices of the candidates of an image, by number."""
        return np.arange(self.first[image], self.first[image + 1])

    def of_images(self, images: NDArray[np.integer]) -> Indices:
        """Indices of the candidates of some images, in the order of these."""
        start, counts = self.first[images], self.first[images + 1] - self.first[images]
        return np.repeat(start - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())

    def by_image(self) -> Iterator[tuple[int, Indices]]:
        """The images that have candidates, and the indices of these."""
        for image in np.flatnonzero(np.diff(self.first)):
            yield int(image), self.of_image(int(image))

    def boxes(self, indices: Indices) -> list[Box]:
        """Boxes of some candidates."""
        columns = (column[indices].tolist() for column in (self.x0, self.y0, self.x1, self.y1))
        return list(zip(*columns, strict=True))

    def in_split(self, split: Split) -> Flags:
        """Which candidates lie on images of a split."""
        return self.images.in_split(split)[self.image]

    def correctness(self) -> Reals:
        """1 where a candidate is correct, 0 where it is wrong, NaN where nobody annotated its image."""
        return np.where(self.correct < 0, np.nan, self.correct)

    def take(self, indices: Indices) -> "Candidates":
        """Some of the candidates, of the same images."""
        names = [column.name for column in fields(self) if column.name != "images"]
        return replace(self, **{name: getattr(self, name)[indices] for name in names})


def images_with_proposals(split: Path, proposals: Path) -> Iterator[tuple[SplitImageRow, list[ProposalRow]]]:
    """Each image of a table `SPLIT_IMAGES` with its proposals in a table `PROPOSALS`, one image at a time.

    Raises:
        UserError: A table is missing, or there are proposals of images that the first table lacks.
    """
    return beside(SPLIT_IMAGES.rows(split), PROPOSALS.groups(proposals), _mismatch(split, proposals))


def _mismatch(split: Path, proposals: Path) -> str:
    return f"{proposals} has images that {split} lacks: run dvc repro proposals"


def select_candidates(split: Path, proposals: Path, config: RegionsConfig) -> Candidates:
    """The candidates, by image and number.

    Args:
        split: The table `SPLIT_IMAGES`.
        proposals: The table `PROPOSALS`.
        config: Gives the hard limits.

    Raises:
        UserError: As `images_with_proposals`.
    """
    images, candidates = _GrowingImages(), _GrowingCandidates()
    image_rows = SPLIT_IMAGES.parts(split, _IMAGE_COLUMNS)
    proposal_rows = of_images(PROPOSALS.parts(proposals, _PROPOSAL_COLUMNS))
    for index, (image, of_image) in enumerate(beside(image_rows, proposal_rows, _mismatch(split, proposals))):
        images.add(image, is_annotated(image, of_image))
        usable = [
            proposal
            for proposal in of_image
            if not proposal.sees_annotations
            and proposal.reason is None
            and broken_limit(proposal, image, config) is None
        ]
        usable.sort(key=lambda proposal: proposal.n)
        for proposal, agreement in zip(usable, _agreements(usable), strict=True):
            candidates.add(index, image, proposal, agreement)
    return candidates.finish(images.finish())


def is_annotated(image: SplitImageRow, proposals: Iterable[ProposalRow]) -> bool:
    """Whether the source annotated an image: it marked regions, or it says that there is no finding."""
    says_nothing_found = image.labels is not None and not image.labels
    return says_nothing_found or any(proposal.truth_iou is not None for proposal in proposals)


def _agreements(proposals: Sequence[ProposalRow]) -> list[float]:
    """Largest IoU of each box with a box of another proposer, of the proposals of one image."""
    if len({proposal.proposer for proposal in proposals}) < 2:
        return [0.0] * len(proposals)
    boxes = [(proposal.x0, proposal.y0, proposal.x1, proposal.y1) for proposal in proposals]
    names = np.array([proposal.proposer for proposal in proposals])
    ious = box_ious(boxes, boxes)
    ious[names[:, None] == names[None, :]] = 0.0
    best: list[float] = ious.max(axis=1).tolist()
    return best


class _GrowingImages:
    """`AllImages` while their table is read."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._numbers = Numbers(width="i", height="i", annotated="?")
        self._splits, self._modalities = SortedValues[str](), SortedValues[str]()
        self._sources, self._groups = SortedValues[str](), SortedValues[str]()

    def add(self, image: SplitImageRow, annotated: bool) -> None:
        self._ids += image.image_id.encode("ascii")
        self._numbers.append(width=image.width, height=image.height, annotated=annotated)
        self._splits.append(image.split)
        self._modalities.append(image.modality)
        self._sources.append(image.source)
        self._groups.append(image.group)

    def finish(self) -> AllImages:
        _, group = self._groups.finish()
        return AllImages(
            ids=np.frombuffer(self._ids, dtype="S16"),
            group=group,
            split=_categorical(self._splits),
            modality=_categorical(self._modalities),
            source=_categorical(self._sources),
            **self._numbers.arrays(),
        )


class _GrowingCandidates:
    """`Candidates` while their table is read."""

    def __init__(self) -> None:
        flags = {"own_phrases": "?", "names_absent_class": "?", "correct": "b"}
        self._numbers = Numbers(image="i", n="i", agreement="d", **dict.fromkeys(_REALS, "d"), **flags)
        self._proposers = SortedValues[str]()

    def add(self, index: int, image: SplitImageRow, proposal: ProposalRow, agreement: float) -> None:
        values = ((name, getattr(proposal, name)) for name in _REALS)
        self._proposers.append(proposal.proposer)
        self._numbers.append(
            image=index,
            n=proposal.n,
            agreement=agreement,
            own_phrases=proposal.own_phrases,
            names_absent_class=names_absent_class(proposal, image),
            correct=-1 if proposal.truth_iou is None else proposal.truth_iou >= CORRECT_IOU,
            **{name: np.nan if value is None else value for name, value in values},
        )

    def finish(self, images: AllImages) -> Candidates:
        proposer, columns = _categorical(self._proposers), self._numbers.arrays()
        if len(proposer.categories) < 2:
            columns["agreement"] = np.full(len(proposer), np.nan)
        return Candidates(images=images, proposer=proposer, **columns)


def _categorical(texts: SortedValues[str]) -> pd.Categorical:
    values, codes = texts.finish()
    return pd.Categorical.from_codes(codes, pd.Index(values, dtype=object))

"""What a source yields, and the words that all sources share.

A source is a class `Name(root: Root, options: dict)` with `records() -> Iterator[SourceRecord | UnusableRow]`. It reads
listings and file names, no pixels: the stage opens every image and mask itself. Names of files are as the data set
writes them, relative to the root; they may lead into an archive (`batch1.zip/a.png`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from models.geometry import Box
from pipelines.cuts import AXES, Axis, Cut
from pipelines.errors import Rejected
from pipelines.records import MODALITIES, SPLITS, VIEWS

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_VIEW_WORDS = {
    **dict.fromkeys(("frontal", "pa", "ap", "ap supine", "ap erect"), "frontal"),
    **dict.fromkeys(("lateral", "l", "ll", "rl"), "lateral"),
}


@dataclass(frozen=True, kw_only=True)
class Region:
    """Something that the source marks in an image.

    Attributes:
        label: The source's word for it; None where it has none.
        adjective: The source's word for its shape or appearance.
        box: (x0, y0, x1, y1) in pixels, x1 and y1 exclusive; None: taken from the mask.
        box_size: (width, height) of the image in whose pixels the box is given; None: the image itself.
        mask: Name of the mask's file.
        mask_value: Its grey value in the mask; None: the mask shows one region (`pipelines.ingest.masks`).
        rle: Its mask where a listing and no file holds it: COCO's compressed run-length code. `pipelines.masks` makes
            one of pixels (`encode`) and of the lengths of runs (`encode_runs`).
        rle_size: (width, height) of the mask that `rle` is the code of; that of the image, or the row is rejected.
        phrase: The source's own sentence about it.
        look_alike: It looks like a finding and is none that the source names: no annotation, its label and texts are
            not kept, and nothing but the scores of localisation ever sees where it is.
    """

    label: str | None = None
    adjective: str | None = None
    box: Box | None = None
    box_size: tuple[int, int] | None = None
    mask: str | None = None
    mask_value: int | None = None
    rle: str | None = None
    rle_size: tuple[int, int] | None = None
    phrase: str | None = None
    look_alike: bool = False

    def __post_init__(self) -> None:
        if self.rle is not None and (self.mask is not None or self.rle_size is None):
            raise ValueError("a region has a mask's file, or a code with its size")


@dataclass(frozen=True, kw_only=True)
class MarkedMask:
    """A region that mask files show and that may be empty.

    Attributes:
        label: What it marks; None where nobody said.
        files: Their pixels together are the region; without a file nobody said whether there is any.
    """

    label: str | None
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about an image; `answer_type` is closed or open, `split` the question's own published one."""

    question_id: str
    question: str
    answer: str
    answer_type: str
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """One row of a source: an image and what is said of it. Several rows may show the same image.

    Attributes:
        row: Where it is listed, such as `metadata.csv:17`.
        name: The image's file.
        frame: Slice or frame from 0; None where there is one.
        axis: As `pipelines.cuts.Cut`; axial slices of a volume other than a DICOM series have None.
        volume: Of a file with several volumes: which, from 0.
        split: Split that the source gives (`pipelines.records.SPLITS`), None where it gives none.
        patient: The source's patient id, as it stands; the stage hashes it.
        modality: One of `pipelines.records.MODALITIES`.
        view: One of `pipelines.records.VIEWS`.
        report: Free text.
        labels: Findings; () where the source says that there is none; None where nobody said.
        mask: Mask of everything that is marked in the image.
        mask_label: What the mask marks, instead of `labels` and `regions`: where the mask is not empty it is the
            image's label and that of the region which the mask shows; an empty mask says that there is no finding.
        mask_classes: Grey value and label of each class, where `mask` is a label map: each becomes a region.
        masks: Masks of files of their own, instead of `labels`, `mask` and `regions`: those that are not empty are
            regions, and their labels the image's. Where all are empty, the source says that there is no finding.
        regions: Marked one by one.
        attributes: What is known of the whole image beside its findings, such as the patient's age, by name.
        questions: Asked about the image.
        left_out: Reason codes of parts that the row lost, such as a question that cannot be read.
    """

    row: str
    name: str
    modality: str
    frame: int | None = None
    axis: Axis | None = None
    volume: int | None = None
    split: str | None = None
    patient: str | None = None
    view: str | None = None
    report: str | None = None
    labels: tuple[str, ...] | None = None
    mask: str | None = None
    mask_label: str | None = None
    mask_classes: tuple[tuple[int, str], ...] = ()
    masks: tuple[MarkedMask, ...] = ()
    regions: tuple[Region, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    questions: tuple[Question, ...] = ()
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES or self.split not in (None, *SPLITS) or self.view not in (None, *VIEWS):
            raise ValueError(f"{self.row}: modality, split or view is none of the words of pipelines.records")
        if self.axis not in (None, *AXES):
            raise ValueError(f"{self.row}: axis is none of {', '.join(AXES)}")

    @property
    def cut(self) -> Cut:
        """The part of the file that the row shows."""
        return Cut(frame=self.frame, axis=self.axis, volume=self.volume)


@dataclass(frozen=True, kw_only=True)
class UnusableRow:
    """A row, or a file that no row lists, which the source itself cannot use.

    Attributes:
        row: Where it is listed, such as `metadata.csv:17`; the file's name where no row lists it.
        reason: Reason code.
        detail: The column and the fault; no value of the row and no file's name (`pipelines.ingest.details`).
        path: The file's name, for the workspace's table alone.
    """

    row: str
    reason: str
    detail: str
    path: str | None = None


class Source(Protocol):
    """What the stage asks of a plug-in, beside `__init__(root, options)`.

    It may have attributes too, which the stage looks for when all records are read: `sides`, `patient` or `image`,
    whose left and right its texts mean, unless params say otherwise; `listings`
    (`pipelines.ingest.tables.Listings`), with which it reads its listings, so that their lines are counted and their
    files are known; `warnings`, sentences for the log, the summary and the report; and, for `pipelines.ingest.inspect`,
    `readers`, a column of its listings -> what a cell of it means, and `counts`, a title -> a value -> how often it is
    found in the source's files.
    """

    def records(self) -> Iterator[SourceRecord | UnusableRow]: ...


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a source that has none."""


def split_of(word: str | None, column: str = "split") -> str | None:
    """Our name for a published split; `Rejected` for a word that names none."""
    return _word(word, _SPLIT_WORDS, "split", column)


def view_of(word: str | None, column: str = "view") -> str | None:
    """Frontal or lateral for the projection's usual names."""
    return _word(word, _VIEW_WORDS, "view", column)


def modality_of(word: str, column: str = "modality") -> str:
    if word.strip() not in MODALITIES:
        raise Rejected("unknown_modality", f"{column} is none of {', '.join(MODALITIES)}")
    return word.strip()


def check_words(modality: str, view: str | None) -> None:
    """Check what an adapter's options say of all images; `ValueError` that lists the right words."""
    try:
        modality_of(modality)
        view_of(view)
    except Rejected as error:
        raise ValueError(error.detail) from None


def _word(word: str | None, known: dict[str, str], kind: str, column: str) -> str | None:
    if word is None or not word.strip():
        return None
    if word.strip().lower() not in known:
        raise Rejected(f"unknown_{kind}", f"{column} is none of {', '.join(known)}")
    return known[word.strip().lower()]

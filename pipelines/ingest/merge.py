"""Rows of one source that show the same pixels become one image.

The first row gives file and modality; of view, report, mask, patient and regions counts the first row that has any;
every question stays. Findings that any row names outrank a row that says there is none. Of several published splits the
most protected one counts (test, validation, train), and `split_conflict` is set. Two patient ids that share an image
are one patient from then on, so that no split parts them.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import cast

from pipelines.errors import Rejected
from pipelines.ingest.annotations import DecodedMask, DecodedRegion, RowAnnotations
from pipelines.ingest.record import SourceRecord
from pipelines.records import AnnotationRow, ImageRow, Modality, QuestionRow, Split, View

_PROTECTION = ("test", "validation", "train", None)


def most_protected(splits: Iterable[str | None]) -> str | None:
    """The split that an image listed in all of these belongs to."""
    return min(splits, key=_PROTECTION.index)


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """What a file and its pixels say; the fields are columns of the table of images."""

    image_id: str
    path: str
    member: str | None
    frame: int | None
    sha256: str
    pixel_sha256: str
    perceptual_hash: str
    thumbnail: bytes
    width: int
    height: int


@dataclass(kw_only=True)
class _MergedImage:
    """One image as its rows come in."""

    file: ImageFile
    modality: str
    rows: int = 0
    split: str | None = None
    split_conflict: bool = False
    view: str | None = None
    patient: str | None = None
    report: str | None = None
    labels: tuple[str, ...] | None = None
    mask: DecodedMask | None = None
    regions: tuple[DecodedRegion, ...] = ()

    def add(self, record: SourceRecord, patient: str | None, annotations: RowAnnotations) -> None:
        self.rows += 1
        self.split_conflict |= None not in (self.split, record.split) and self.split != record.split
        self.split = most_protected((self.split, record.split))
        self.view = record.view if self.view is None else self.view
        self.patient = patient if self.patient is None else self.patient
        self.report = record.report if self.report is None else self.report
        self.mask = annotations.mask if self.mask is None else self.mask
        self.regions = self.regions or annotations.regions
        if annotations.labels is not None:
            self.labels = self.labels or annotations.labels


class ImageMerger:
    """The images of one source as they are read.

    Args:
        source: Its name.
        hash_patient: The hash that stands for a patient id; nothing but the column `patient` may depend on it.

    Attributes:
        clipped_boxes: How many boxes of the annotations reached over an edge.
        labels_differ: Rows whose labels are not those that the image already had.
        questions_repeated: Questions that stood there already, word for word.
    """

    def __init__(self, source: str, hash_patient: Callable[[str], str]) -> None:
        self._source = source
        self._hash_patient = hash_patient
        self._images: dict[str, _MergedImage] = {}
        self._questions: dict[str, QuestionRow] = {}
        self._same_patient: dict[str, str] = {}
        self.clipped_boxes = 0
        self.labels_differ = 0
        self.questions_repeated = 0

    def add(self, file: ImageFile, record: SourceRecord, annotations: RowAnnotations) -> bool:
        """Take in one row.

        Args:
            file: What the file and its pixels say.
            record: The row.
            annotations: Its annotations, decoded and checked.

        Returns:
            Whether these pixels are new.

        Raises:
            Rejected: repeated_question_id; nothing of the row is taken in.
        """
        known = self._images.get(file.pixel_sha256)
        image = known or _MergedImage(file=file, modality=record.modality)
        self._add_questions(image.file.image_id, record)
        self._images[file.pixel_sha256] = image
        patient = None if record.patient is None else self._hash_patient(record.patient)
        if patient is not None and image.patient is not None:
            self._join(patient, image.patient)
        if annotations.labels is not None:
            self.labels_differ += image.labels not in (None, annotations.labels)
        if not image.regions:
            self.clipped_boxes += annotations.clipped_boxes
        image.add(record, patient, annotations)
        return known is None

    @property
    def images(self) -> list[ImageRow]:
        """Rows of the table of images, by image_id."""
        rows = [
            ImageRow(
                **asdict(image.file),
                source=self._source,
                modality=cast(Modality, image.modality),  # the row checks the words
                view=cast(View | None, image.view),
                patient=self._first_hash(image.patient),
                split=cast(Split | None, image.split),
                split_conflict=image.split_conflict,
                report=image.report,
                labels=image.labels,
                mask_path=None if image.mask is None else image.mask.path,
                mask_sha256=None if image.mask is None else image.mask.sha256,
                rows=image.rows,
            )
            for image in self._images.values()
        ]
        return sorted(rows, key=lambda row: row.image_id)

    @property
    def annotations(self) -> list[AnnotationRow]:
        """Rows of the table of annotations, by image_id and n; an image's mask stands where it has no regions."""
        rows = [
            self._annotation(image.file.image_id, n, region)
            for image in self._images.values()
            for n, region in enumerate(image.regions or _region_of_mask(image.mask))
        ]
        return sorted(rows, key=lambda row: (row.image_id, row.n))

    @property
    def questions(self) -> list[QuestionRow]:
        """Rows of the table of questions, by image_id and question_id."""
        return sorted(self._questions.values(), key=lambda row: (row.image_id, row.question_id))

    @property
    def patients_joined(self) -> int:
        """Patient ids that turned out to be another one's."""
        return len(self._same_patient)

    def _annotation(self, image_id: str, n: int, region: DecodedRegion) -> AnnotationRow:
        x0, y0, x1, y1 = region.box or (None, None, None, None)
        return AnnotationRow(
            image_id=image_id,
            source=self._source,
            n=n,
            label=region.label,
            adjective=region.adjective,
            x0=x0,
            y0=y0,
            x1=x1,
            y1=y1,
            mask=None if region.mask is None else region.mask.rle,
            mask_path=None if region.mask is None else region.mask.path,
            mask_value=None if region.mask is None else region.mask.value,
            mask_sha256=None if region.mask is None else region.mask.sha256,
        )

    def _add_questions(self, image_id: str, record: SourceRecord) -> None:
        rows = {
            question.question_id: QuestionRow(image_id=image_id, source=self._source, **asdict(question))
            for question in record.questions
        }
        repeated = rows.keys() & self._questions.keys()
        other = sorted(key for key in repeated if self._questions[key] != rows[key])
        if other or len(rows) < len(record.questions):
            where = "in other rows, with other words" if other else "in this row"
            raise Rejected("repeated_question_id", f"questions: an id stands twice, {where}: ids must be unique")
        self.questions_repeated += len(repeated)
        self._questions |= rows

    def _first_hash(self, patient: str | None) -> str | None:
        """The hash that stands for all ids of one patient."""
        while patient in self._same_patient:
            patient = self._same_patient[patient]
        return patient

    def _join(self, patient: str, other: str) -> None:
        first, second = sorted((str(self._first_hash(patient)), str(self._first_hash(other))))
        if first != second:
            self._same_patient[second] = first


def _region_of_mask(mask: DecodedMask | None) -> tuple[DecodedRegion, ...]:
    if mask is None or mask.is_empty:
        return ()
    return (DecodedRegion(label=None, adjective=None, box=None, mask=mask),)

"""Rows of one source that show the same pixels become one image.

The first row gives file and modality; of view, mask, patient, regions, look-alikes and each attribute counts the first
row that has any; every question and every different report stays. Findings that any row names outrank a row that says
there is none. Of several published splits the most protected one counts (test, validation, train), and `split_conflict`
is set. Two patient ids that share an image are one patient from then on, so that no split parts them; so are two
studies or volumes.

Near-uniform images (`pipelines.images.is_near_uniform`) are compared by their file instead, for their pixels say
nothing about who is in them. A file of that kind belongs to the row that names it first: its copy under another name,
or of another patient, is rejected.

Reason codes of `Rejected`: repeated_question_id, near_uniform_copy.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import cast

from pipelines.cuts import Axis
from pipelines.errors import Rejected
from pipelines.images import HeaderIds, PixelBox, is_near_uniform
from pipelines.ingest.aliases import Aliases
from pipelines.ingest.annotations import DecodedMask, DecodedRegion, RowAnnotations
from pipelines.ingest.identity import Patients
from pipelines.ingest.patients import PatientHasher
from pipelines.ingest.record import SourceRecord
from pipelines.records import AnnotationRow, BurnedIn, ImageRow, Modality, QuestionRow, Split, View

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
    axis: Axis | None
    volume: int | None
    sha256: str
    burned_in: BurnedIn | None
    hidden: tuple[PixelBox, ...]
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
    study: str | None = None
    reports: list[str] = field(default_factory=list)
    labels: tuple[str, ...] | None = None
    mask: DecodedMask | None = None
    regions: tuple[DecodedRegion, ...] = ()
    look_alikes: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)

    def add(self, record: SourceRecord, patient: str | None, study: str | None, annotations: RowAnnotations) -> None:
        self.rows += 1
        self.split_conflict |= None not in (self.split, record.split) and self.split != record.split
        self.split = most_protected((self.split, record.split))
        self.view = record.view if self.view is None else self.view
        self.patient = patient if self.patient is None else self.patient
        self.study = study if self.study is None else self.study
        if record.report is not None and record.report.strip() and record.report not in self.reports:
            self.reports.append(record.report)
        self.mask = annotations.mask if self.mask is None else self.mask
        self.regions = self.regions or annotations.regions
        self.look_alikes = self.look_alikes or annotations.look_alikes
        self.attributes = {**record.attributes, **self.attributes}
        if annotations.labels is not None:
            self.labels = self.labels or annotations.labels

    def is_of(self, file: ImageFile, patient: str | None) -> bool:
        """Whether a row of this file's name, and of this patient or of none, adds to the image."""
        return file.path == self.file.path and (patient == self.patient or None in (patient, self.patient))


def _key(file: ImageFile) -> str:
    """What two rows of one image share: its pixels, or its file where those say nothing."""
    return file.image_id if is_near_uniform(file.thumbnail) else file.pixel_sha256


class ImageMerger:
    """The images of one source as they are read.

    Args:
        source: Its name.
        hasher: Gives the hashes of patients and studies; nothing but the columns `patient` and `study` may depend on
            it.

    Attributes:
        clipped_boxes: How many boxes of the annotations reached over an edge.
        labels_differ: Rows whose labels are not those that the image already had.
        questions_repeated: Questions that stood there already, word for word.
        from_header: Rows whose patient their DICOM header names, for the listing names none.
        dropped: What later rows of an image say and the tables do not keep, by column: reports that stood there
            already, word for word; another modality, view or mask; other values of attributes; further regions and
            look-alikes.
    """

    def __init__(self, source: str, hasher: PatientHasher) -> None:
        self._source = source
        self._hasher = hasher
        self._images: dict[str, _MergedImage] = {}
        self._questions: dict[str, QuestionRow] = {}
        self._patients = Patients(hasher)
        self._patients_of_rejected: dict[str, set[str]] = defaultdict(set)
        self.from_header = 0
        self._studies = Aliases()
        self.clipped_boxes = 0
        self.labels_differ = 0
        self.questions_repeated = 0
        self.dropped: Counter[str] = Counter()

    def add(self, file: ImageFile, record: SourceRecord, annotations: RowAnnotations, header: HeaderIds) -> bool:
        """Take in one row.

        Args:
            file: What the file and its pixels say.
            record: The row.
            annotations: Its annotations, decoded and checked.
            header: What the file's header says of patient and study; its patient counts where the row names none, and
                joins such rows with those that name one beside it.

        Returns:
            Whether this image is new.

        Raises:
            Rejected: As the module says; nothing of the row is taken in.
        """
        key = _key(file)
        known = self._images.get(key)
        named, in_header = self._patients.of(record.patient, header)
        patient = named or in_header
        if key == file.image_id and known and not known.is_of(file, patient):
            raise Rejected("near_uniform_copy", "nearly empty, and the same file has another name or patient already")
        self.from_header += named is None and in_header is not None
        if named is not None and in_header is not None:
            self._patients.stand_together(named, in_header)
        image = known or _MergedImage(file=file, modality=record.modality)
        self._add_questions(image.file.image_id, record)
        self._images[key] = image
        study = self._study(file, header)
        if known:
            self._join(image, file, patient, study)
            self._count_dropped(image, record, annotations)
        if not image.regions and not image.look_alikes:
            self.clipped_boxes += annotations.clipped_boxes
        image.add(record, patient, study, annotations)
        return known is None

    def note_patient(self, file: ImageFile, record: SourceRecord, header: HeaderIds) -> None:
        """Of a row that is rejected for another reason: that this image is of this patient, too."""
        key = _key(file)
        if key != file.image_id:
            patients = self._patients.of(record.patient, header)
            self._patients_of_rejected[key].update(patient for patient in patients if patient is not None)

    def join_patients(self) -> None:
        """Join whom headers and rejected rows prove to be one patient; called when all rows were added."""
        for key, patients in self._patients_of_rejected.items():
            image = self._images.get(key)
            of_image = set() if image is None or image.patient is None else {image.patient}
            first = min(patients | of_image, default=None)
            for patient in sorted(patients | of_image):
                self._patients.join(patient, str(first))
        self._patients.join_headers({image.patient for image in self._images.values()})

    def _study(self, file: ImageFile, header: HeaderIds) -> str | None:
        """The hash of a study; for a slice of another kind of volume the volume itself, which may prove another's."""
        if header.study is not None:
            study = self._hasher.study(header.study)
            self._studies.join(study, study)
            return study
        return None if file.frame is None else file.sha256[:16]

    def _join(self, image: _MergedImage, file: ImageFile, patient: str | None, study: str | None) -> None:
        """Patients and studies of an image and of another row that shows it are the same."""
        if patient is not None and image.patient is not None:
            self._patients.join(patient, image.patient)
        if study is not None and file.image_id != image.file.image_id:
            self._studies.join(study, image.study or study)

    def _count_dropped(self, image: _MergedImage, record: SourceRecord, annotations: RowAnnotations) -> None:
        if annotations.labels is not None:
            self.labels_differ += image.labels not in (None, annotations.labels)
        self.dropped["report"] += record.report in image.reports
        self.dropped["modality"] += record.modality != image.modality
        self.dropped["view"] += None not in (record.view, image.view) and record.view != image.view
        self.dropped["mask"] += None not in (annotations.mask, image.mask) and _shape(annotations.mask) != _shape(
            image.mask
        )
        if image.regions and list(map(_content, annotations.regions)) != list(map(_content, image.regions)):
            self.dropped["regions"] += len(annotations.regions)
        if image.look_alikes and annotations.look_alikes != image.look_alikes:
            self.dropped["look_alikes"] += len(annotations.look_alikes)
        self.dropped["attributes"] += sum(
            image.attributes.get(name, value) != value for name, value in record.attributes.items()
        )

    @property
    def header_patients_ignored(self) -> int:
        """PatientIDs of headers that stand beside too many patients of the listing (`pipelines.ingest.identity`)."""
        return self._patients.headers_ignored

    @property
    def images(self) -> list[ImageRow]:
        """Rows of the table of images, by image_id."""
        rows = [
            ImageRow(
                **asdict(image.file),
                source=self._source,
                modality=cast(Modality, image.modality),  # the row checks the words
                view=cast(View | None, image.view),
                patient=None if image.patient is None else self._patients.first(image.patient),
                study=self._study_of(image),
                split=cast(Split | None, image.split),
                split_conflict=image.split_conflict,
                report=next(iter(image.reports), None),
                other_reports=tuple(image.reports[1:]),
                labels=image.labels,
                attributes=dict(sorted(image.attributes.items())),
                look_alikes=image.look_alikes,
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
        return len(self._patients)

    @property
    def near_uniform(self) -> int:
        """Images whose pixels join them with no other."""
        return sum(key == image.file.image_id for key, image in self._images.items())

    @property
    def several_reports(self) -> int:
        """Images with more than one report."""
        return sum(len(image.reports) > 1 for image in self._images.values())

    def _study_of(self, image: _MergedImage) -> str | None:
        # A volume that no other proved to be one with needs no name: its file joins its slices.
        return self._studies.first(image.study) if image.study in self._studies.joined else None

    def _annotation(self, image_id: str, n: int, region: DecodedRegion) -> AnnotationRow:
        x0, y0, x1, y1 = region.box or (None, None, None, None)
        return AnnotationRow(
            image_id=image_id,
            source=self._source,
            n=n,
            label=region.label,
            adjective=region.adjective,
            phrase=region.phrase,
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


def _shape(mask: DecodedMask | None) -> str | None:
    return None if mask is None else mask.rle


def _content(region: DecodedRegion) -> tuple[object, ...]:
    """What a region says, whatever file says it."""
    return region.label, region.adjective, region.phrase, region.box, _shape(region.mask)


def _region_of_mask(mask: DecodedMask | None) -> tuple[DecodedRegion, ...]:
    if mask is None or mask.is_empty:
        return ()
    return (DecodedRegion(label=None, adjective=None, phrase=None, box=None, mask=mask),)

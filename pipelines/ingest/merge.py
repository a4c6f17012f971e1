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
from collections.abc import Iterator
from pathlib import Path

from pipelines.errors import Rejected
from pipelines.images import HeaderIds
from pipelines.ingest.aliases import Aliases
from pipelines.ingest.annotations import DecodedRegion, RowAnnotations
from pipelines.ingest.asked import Questions
from pipelines.ingest.identity import Patients
from pipelines.ingest.mask_files import DecodedMask
from pipelines.ingest.merged import ImageFile, MergedImage, MergedImages
from pipelines.ingest.patients import PatientHasher
from pipelines.ingest.record import SourceRecord
from pipelines.records import AnnotationRow, BurnedIn, ImageRow, QuestionRow, Sides


class ImageMerger:
    """The images of one source as they are read.

    Args:
        source: Its name.
        hasher: Gives the hashes of patients and studies; nothing but the columns `patient` and `study` may depend on
            it.
        folder: Where images and questions lie while they are needed, in files without a name.

    Attributes:
        counts: Of the tables so far: `annotations`, `look_alikes`, images `with_attributes`, with `several_reports`,
            and those that say that there is no finding and have annotations (`no_finding_with_annotations`).
        burned_in: Images with text in their pixels, by what is known of it.
        near_uniform: Images whose pixels join them with no other.
        has_patients: Whether any image has a patient.
        questions: Those of all rows.
        clipped_boxes: How many boxes of the annotations reached over an edge.
        labels_differ: Rows whose labels are not those that the image already had.
        from_header: Rows whose patient their DICOM header names, for the listing names none.
        dropped: What later rows of an image say and the tables do not keep, by column: reports that stood there
            already, word for word; another modality, view or mask; other values of attributes; further regions and
            look-alikes.
    """

    def __init__(self, source: str, hasher: PatientHasher, folder: Path) -> None:
        self._source = source
        self._hasher = hasher
        self._images = MergedImages(folder)
        self._patients = Patients(hasher)
        self._patients_of_rejected: dict[str, set[str]] = defaultdict(set)
        self._studies = Aliases()
        self.counts: Counter[str] = Counter()
        self.burned_in: Counter[BurnedIn] = Counter()
        self.near_uniform = 0
        self.has_patients = False
        self.questions = Questions(folder)
        self.from_header = 0
        self.clipped_boxes = 0
        self.labels_differ = 0
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._images)

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
        key = file.key()
        known = self._images.get(key)
        named, in_header = self._patients.of(record.patient, header)
        patient = named or in_header
        if key == file.image_id and known and not known.is_of(file, patient):
            raise Rejected("near_uniform_copy", "nearly empty, and the same file has another name or patient already")
        self.from_header += named is None and in_header is not None
        if named is not None and in_header is not None:
            self._patients.stand_together(named, in_header)
        image = known or MergedImage(key=key, file=file, modality=record.modality)
        self.questions.add(image.file.image_id, record.questions)
        study = self._study(file, header)
        if known:
            self.counts.subtract(known.counts())
            self._join(image, file, patient, study)
            self._count_dropped(image, record, annotations)
        if not image.regions and not image.look_alikes:
            self.clipped_boxes += annotations.clipped_boxes
        image.add(record, patient, study, annotations)
        self.counts.update(image.counts())
        self.has_patients |= patient is not None
        if known is None:
            self.near_uniform += key == file.image_id
            if file.burned_in is not None:
                self.burned_in[file.burned_in] += 1
            self._images.add(image)
        return known is None

    def note_patient(self, file: ImageFile, record: SourceRecord, header: HeaderIds) -> None:
        """Of a row that is rejected for another reason: that this image is of this patient, too."""
        key = file.key()
        if key != file.image_id:
            patients = {patient for patient in self._patients.of(record.patient, header) if patient is not None}
            if patients:
                self._patients_of_rejected[key] |= patients

    def join_patients(self) -> None:
        """Join whom headers and rejected rows prove to be one patient; called when all rows were added."""
        for key, patients in self._patients_of_rejected.items():
            image = self._images.get(key)
            of_image = set() if image is None or image.patient is None else {image.patient}
            first = min(patients | of_image, default=None)
            for patient in sorted(patients | of_image):
                self._patients.join(patient, str(first))
        headers = self._patients.in_headers
        used = {image.patient for image in self._images if image.patient in headers} if headers else set()
        self._patients.join_headers(used)

    def _study(self, file: ImageFile, header: HeaderIds) -> str | None:
        """The hash of a study; for a slice of another kind of volume the volume itself, which may prove another's."""
        if header.study is not None:
            study = self._hasher.study(header.study)
            self._studies.join(study, study)
            return study
        return None if file.frame is None else file.sha256[:16]

    def _join(self, image: MergedImage, file: ImageFile, patient: str | None, study: str | None) -> None:
        """Patients and studies of an image and of another row that shows it are the same."""
        if patient is not None and image.patient is not None:
            self._patients.join(patient, image.patient)
        if study is not None and file.image_id != image.file.image_id:
            self._studies.join(study, image.study or study)

    def _count_dropped(self, image: MergedImage, record: SourceRecord, annotations: RowAnnotations) -> None:
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

    def images(self, sides: Sides | None) -> Iterator[ImageRow]:
        """Rows of the table of images, by image_id.

        Args:
            sides: Whose left and right the source's texts mean.
        """
        for image in self._images.by_image_id():
            patient = None if image.patient is None else self._patients.first(image.patient)
            yield image.image_row(self._source, patient, self._study_of(image), sides)

    def annotations(self) -> Iterator[AnnotationRow]:
        """Rows of the table of annotations, by image_id and n; an image's mask stands where it has no regions."""
        for image in self._images.by_image_id():
            yield from image.annotation_rows(self._source)

    def question_rows(self) -> Iterator[QuestionRow]:
        """Rows of the table of questions, by image_id and question_id."""
        return self.questions.rows(self._source)

    @property
    def patients_joined(self) -> int:
        """Patient ids that turned out to be another one's."""
        return len(self._patients)

    def _study_of(self, image: MergedImage) -> str | None:
        # A volume that no other proved to be one with needs no name: its file joins its slices.
        return self._studies.first(image.study) if image.study in self._studies.joined else None


def _shape(mask: DecodedMask | None) -> str | None:
    return None if mask is None else mask.rle


def _content(region: DecodedRegion) -> tuple[object, ...]:
    """What a region says, whatever file says it."""
    return region.label, region.adjective, region.phrase, region.box, _shape(region.mask)

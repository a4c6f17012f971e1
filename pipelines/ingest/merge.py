"""Rows of one source that show the same pixels become one image.

The first row gives file and modality; of view, report, mask, patient and regions counts the first row that has any;
every question stays. Findings that any row names outrank a row that says there is none. Of several published splits the
most protected one counts (test, validation, train), and `split_conflict` is set. Two patient ids that share a picture
are one patient from then on, so that no split parts them.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from pipelines.errors import Rejected
from pipelines.ingest.annotations import Annotations
from pipelines.ingest.record import SourceRecord

_PROTECTION = ("test", "validation", "train", None)


def most_protected(splits: Iterable[str | None]) -> str | None:
    """The split that an image listed in all of these belongs to."""
    return min(splits, key=_PROTECTION.index)


class Pictures:
    """The images of one source as they are found.

    Attributes:
        regions: Rows of the table of given regions.
        boxes_clipped: How many boxes of `regions` reached over an edge.
        labels_differ: Rows whose labels are not those that the picture already had.
        questions_repeated: Questions that stood there already, word for word.
        patients_joined: Patient ids that turned out to be another one's.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._images: dict[str, dict[str, Any]] = {}
        self._with_regions: set[str] = set()
        self._questions: dict[str, dict[str, Any]] = {}
        self._same_patient: dict[str, str] = {}
        self.regions: list[dict[str, Any]] = []
        self.boxes_clipped = 0
        self.labels_differ = 0
        self.questions_repeated = 0

    def add(self, look: dict[str, Any], record: SourceRecord, said: Annotations) -> bool:
        """Take in one row.

        Args:
            look: What the file and its pixels say: the columns of the table of images from image_id to height.
            record: The row.
            said: Its annotations, checked.

        Returns:
            Whether these pixels are new.

        Raises:
            Rejected: repeated_question_id; nothing of the row is taken in.
        """
        known = self._images.get(look["pixel_sha256"])
        image_id = (known or look)["image_id"]
        self._add_questions(image_id, record)
        if known is None:
            image = {**look, "source": self._source, "modality": record.modality, "split_conflict": False, "rows": 0}
            self._images[look["pixel_sha256"]] = image
        else:
            image = known
        image["rows"] += 1
        patient = None if record.patient is None else self._hash(record.patient)
        if patient is not None and image.get("patient") is not None:
            self._join(patient, image["patient"])
        split = image.get("split")
        image["split_conflict"] |= None not in (split, record.split) and split != record.split
        image["split"] = most_protected((split, record.split))
        values = {
            "view": record.view,
            "patient": patient,
            "report": record.report,
            "mask_path": record.mask,
            "mask_sha256": said.mask_sha256,
        }
        image.update({column: value for column, value in values.items() if image.get(column) is None})
        if said.labels is not None:
            self.labels_differ += image.get("labels") not in (None, list(said.labels))
            image["labels"] = image.get("labels") or list(said.labels)
        if said.regions and image_id not in self._with_regions:
            self._with_regions.add(image_id)
            identity = {"image_id": image_id, "source": self._source}
            self.regions += [{**identity, "n": n, **region} for n, region in enumerate(said.regions)]
            self.boxes_clipped += said.boxes_clipped
        return known is None

    @property
    def images(self) -> list[dict[str, Any]]:
        """Rows of the table of images."""
        return [{**image, "patient": self._one(image["patient"])} for image in self._images.values()]

    @property
    def questions(self) -> list[dict[str, Any]]:
        """Rows of the table of questions."""
        return list(self._questions.values())

    @property
    def patients_joined(self) -> int:
        return len(self._same_patient)

    def _add_questions(self, image_id: str, record: SourceRecord) -> None:
        rows = {
            asked.question_id: {
                "image_id": image_id,
                "source": self._source,
                "question_id": asked.question_id,
                "question": asked.question,
                "answer": asked.answer,
                "answer_type": asked.answer_type,
                "split": asked.split,
            }
            for asked in record.questions
        }
        repeated = rows.keys() & self._questions.keys()
        other = sorted(key for key in repeated if self._questions[key] != rows[key])
        if other or len(rows) < len(record.questions):
            raise Rejected("repeated_question_id", f"{', '.join(other) or 'twice in this row'}: ids must be unique")
        self.questions_repeated += len(repeated)
        self._questions |= rows

    def _hash(self, patient: str) -> str:
        return hashlib.sha256(f"{self._source}\0{patient}".encode()).hexdigest()[:16]

    def _one(self, patient: str | None) -> str | None:
        """The hash that stands for all ids of one patient."""
        while patient in self._same_patient:
            patient = self._same_patient[patient]
        return patient

    def _join(self, patient: str, other: str) -> None:
        first, second = sorted((str(self._one(patient)), str(self._one(other))))
        if first != second:
            self._same_patient[second] = first

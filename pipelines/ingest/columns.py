"""Which of our columns a column of another name is likely to be: told to the user, never taken for granted."""

import difflib
import re
from collections.abc import Iterable

from pipelines.ingest.cells import is_normal

# Usual names of other data sets, in small letters with _ between words.
_USUAL = {
    "file_name": "file filename filepath file_path image images img image_path image_name image_file path image_index "
    "dicom dicom_path png jpg",
    "text": "caption captions report reports description findings impression sentence prompt note notes clinical_notes "
    "comment comments report_text",
    "labels": "label finding finding_labels diagnosis diagnoses disease diseases class classes category pathology "
    "finding_label",
    "split": "set subset fold partition phase dataset_split",
    "patient_id": "patient patientid subject subject_id subjectid pid mrn patient_number person_id",
    "modality": "image_type imaging_modality",
    "view": "view_position viewposition projection position",
    "frame": "slice slice_index slice_number frame_number",
    "axis": "plane orientation slice_axis slice_orientation",
    "volume": "volume_index time timepoint time_point phase_index",
    "mask": "masks segmentation seg mask_path mask_name mask_file",
    "objects": "bbox bboxes boxes annotations regions bounding_boxes",
    "attributes": "attribute traits properties",
    "questions": "qa question question_answers",
}
_OURS = {word: ours for ours, words in _USUAL.items() for word in words.split()}


def near_name(column: str, taken: Iterable[str] = ()) -> str | None:
    """Our column, or the option `label_columns`, that a column of a listing is likely to be.

    Args:
        column: Its name.
        taken: Our columns that the listing has already.
    """
    if is_normal(column):
        return "label_columns"
    word = re.sub(r"[\W_]+", "_", column.casefold()).strip("_")
    ours = _OURS.get(word) or next(iter(difflib.get_close_matches(word, _USUAL, n=1, cutoff=0.8)), None)
    return None if ours in set(taken) else ours

"""VQA-RAD (Lau et al., Scientific Data 5, 180251, 2018) as published on OSF: questions about radiology images.

    VQA_RAD Dataset Public.json      one object a question
    VQA_RAD Image Folder/*.jpg       images

A question belongs to the published test split where its `phrase_type` begins with `test_`; nearly every image of that
split is asked about in the training split too. Answers that are numbers become text; `answer_type` has stray spaces.
The data name the organ, not the kind of image, so the modality is `other`; they hold neither reports nor labels.
"""

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.archives import list_files
from pipelines.config import parse
from pipelines.ingest.record import NoOptions, Question, SourceRecord, UnusableRow
from pipelines.ingest.tables import read_json_list

LISTING = "VQA_RAD Dataset Public.json"
FOLDER = "VQA_RAD Image Folder"

_NEEDED = ("qid", "phrase_type", "image_name", "question", "answer", "answer_type")


class VqaRad:
    """One record a question; an image that no question names is a rejected row."""

    def __init__(self, root: Path, options: dict[str, Any]) -> None:
        parse(NoOptions, options, "options")
        self._root = root

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        unasked = set(list_files(self._root, FOLDER))
        for number, item in enumerate(read_json_list(self._root, LISTING, "questions")):
            place = f"{LISTING}:{number}"
            missing = [key for key in _NEEDED if not isinstance(item, dict) or item.get(key) in (None, "")]
            if missing:
                yield UnusableRow(row=place, reason="bad_row", detail=f"without {', '.join(missing)}")
                continue
            name = posixpath.join(FOLDER, str(item["image_name"]))
            unasked.discard(name)
            kind = str(item["answer_type"]).strip().lower()
            if kind not in ("closed", "open"):
                yield UnusableRow(
                    row=place, path=name, reason="bad_questions", detail="answer_type is neither closed nor open"
                )
                continue
            split = "test" if str(item["phrase_type"]).startswith("test_") else "train"
            question = Question(
                question_id=str(item["qid"]),
                question=str(item["question"]),
                answer=str(item["answer"]),
                answer_type=kind,
                split=split,
            )
            yield SourceRecord(row=place, name=name, split=split, modality="other", questions=(question,))
        for name in sorted(unasked):
            yield UnusableRow(row=name, path=name, reason="unlisted_file", detail="no question names it")

"""VQA-RAD (Lau et al., Scientific Data 5, 180251, 2018) as published on OSF: questions about radiology images.

    VQA_RAD Dataset Public.json      one object a question
    VQA_RAD Image Folder/*.jpg       images

A question belongs to the published test split where its `phrase_type` begins with `test_`; nearly every image of that
split is asked about in the training split too. Answers that are numbers become text; `answer_type` has stray spaces.
The data name the organ, not the kind of image, so the modality is `other`; they hold neither reports nor labels.
"""

import posixpath
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

from pipelines.archives import list_files
from pipelines.config import parse
from pipelines.errors import Rejected, item_boundary
from pipelines.ingest import cells
from pipelines.ingest.record import NoOptions, Question, SourceRecord, UnusableRow
from pipelines.ingest.tables import Listings
from pipelines.storage import Root

LISTING = "VQA_RAD Dataset Public.json"
FOLDER = "VQA_RAD Image Folder"

_NEEDED = ("qid", "phrase_type", "image_name", "question", "answer", "answer_type")


class VqaRad:
    """One record a question; an image that no question names is a rejected row."""

    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {
        key: partial(cells.text, column=key, null_words=False) for key in _NEEDED
    }

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        parse(NoOptions, options, "options")
        self._root = root
        self.listings = Listings(root)

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        unasked = set(list_files(self._root, FOLDER))
        for number, item in enumerate(self.listings.json_list(LISTING, "questions")):
            place = f"{LISTING}:{number}"
            try:
                with item_boundary("bad_row"):
                    values = _values(item)
            except Rejected as error:
                yield UnusableRow(row=place, reason=error.reason, detail=error.detail)
                continue
            name = posixpath.join(FOLDER, values["image_name"])
            unasked.discard(name)
            kind = values["answer_type"].strip().lower()
            if kind not in ("closed", "open"):
                yield UnusableRow(
                    row=place, path=name, reason="bad_questions", detail="answer_type is neither closed nor open"
                )
                continue
            split = "test" if values["phrase_type"].startswith("test_") else "train"
            question = Question(
                question_id=values["qid"],
                question=values["question"],
                answer=values["answer"],
                answer_type=kind,
                split=split,
            )
            yield SourceRecord(row=place, name=name, split=split, modality="other", questions=(question,))
        for name in sorted(unasked):
            yield UnusableRow(row=name, path=name, reason="unlisted_file", detail="no question names it")


def _values(item: Any) -> dict[str, str]:
    """What is needed of a question, as text; an answer may well be `none`."""
    if not isinstance(item, dict):
        raise Rejected("bad_row", "not an object")
    values = {key: VqaRad.readers[key](item.get(key)) for key in _NEEDED}
    if missing := [key for key, value in values.items() if value is None]:
        raise Rejected("bad_row", f"without {', '.join(missing)}")
    return {key: value for key, value in values.items() if value is not None}

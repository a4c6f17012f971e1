"""SLAKE (Liu et al., arXiv:2102.09542): questions about CT, MRI and X-ray pictures, with boxes of what they show.

    {train,validate,test}.json      one object a question, English and Chinese
    imgs/xmlab<N>/source.jpg        picture
    imgs/xmlab<N>/detection.json    boxes: [{<label>: [x, y, width, height]}, ...]
    imgs/xmlab<N>/mask.png          label map

Choices:
- A question is a row, and so is a picture's detection.json: what is wrong with a box costs no question. A split belongs
  to a question; a picture asked about in several goes to the most protected one (`pipelines.ingest.merge`).
- Boxes mark organs and findings alike, so that they name regions and no labels of the picture.
- The values of a label map are known where `mask_classes` names them. Without it masks are not read, and each is
  counted as left out (mask_without_classes).
- `location` is an attribute of the picture; `modality` is CT, MRI or X-Ray.

Reason codes: bad_row, bad_questions, bad_box, bad_objects, unknown_modality, unlisted_file (no question names it).
"""

import json
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from pipelines.archives import list_tree, locate, read_bytes
from pipelines.config import parse
from pipelines.errors import Rejected, UserError, item_boundary
from pipelines.ingest import cells, warning_texts
from pipelines.ingest.record import Question, Region, SourceRecord, UnusableRow
from pipelines.ingest.tables import Listings
from pipelines.storage import Root

LISTINGS = {"train.json": "train", "validate.json": "validation", "test.json": "test"}
FOLDER = "imgs"
PICTURE, BOXES, MASK = "source.jpg", "detection.json", "mask.png"

_NEEDED = ("qid", "img_name", "question", "answer", "answer_type", "q_lang", "modality")
_MODALITIES = {"ct": "ct", "mri": "mri", "x-ray": "radiograph"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the adapter.

    Attributes:
        languages: Words of `q_lang`; questions in others are left out and counted.
        mask_classes: Grey value of the label maps -> label.
    """

    languages: list[str] = field(default_factory=lambda: ["en"])
    mask_classes: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.languages:
            raise ValueError("languages: name one, such as en or zh")


@dataclass(frozen=True, kw_only=True)
class _Picture:
    """What the questions say of a picture."""

    modality: str
    attributes: dict[str, str]


class Slake:
    """One record a question, and one for the boxes and the mask of each picture.

    Attributes:
        warnings: How many questions were left out for their language.
    """

    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {
        **{key: partial(cells.text, column=key, null_words=False) for key in _NEEDED},
        "location": partial(cells.text, column="location"),
    }

    def __init__(self, root: Root, options: dict[str, Any]) -> None:
        self._root = root
        self._options = parse(Options, options, "options")
        self.listings = Listings(root)
        self.warnings: list[str] = []

    def records(self) -> Iterator[SourceRecord | UnusableRow]:
        files = set(list_tree(self._root, FOLDER))
        pictures: dict[str, _Picture] = {}
        languages: dict[str, int] = {}
        for listing, split in LISTINGS.items():
            for number, item in enumerate(self.listings.json_list(listing, "questions")):
                place, path = f"{listing}:{number}", None
                try:
                    with item_boundary("bad_row"):
                        values = _values(item)
                        path = posixpath.normpath(posixpath.join(FOLDER, values["img_name"]))
                        languages[values["q_lang"]] = languages.get(values["q_lang"], 0) + 1
                        picture = pictures.setdefault(path, _picture(values, item))
                        if values["q_lang"] not in self._options.languages:
                            continue
                        question = _question(values, split)
                except Rejected as error:
                    yield UnusableRow(row=place, path=path, reason=error.reason, detail=error.detail)
                    continue
                yield SourceRecord(
                    row=place,
                    name=path,
                    split=split,
                    modality=picture.modality,
                    attributes=picture.attributes,
                    questions=(question,),
                )
        if unknown := [word for word in self._options.languages if word not in languages]:
            raise UserError(f"options.languages: no question is in {unknown[0]}: choose from {', '.join(languages)}")
        if others := sum(count for word, count in languages.items() if word not in self._options.languages):
            self.warnings = [f"{warning_texts.OTHER_LANGUAGES}{others}"]
        for path, picture in pictures.items():
            yield from self._marked(path, picture, files)
        for path in sorted(name for name in files if posixpath.basename(name) == PICTURE and name not in pictures):
            yield UnusableRow(row=path, path=path, reason="unlisted_file", detail="no question names it")

    def _marked(self, path: str, picture: _Picture, files: set[str]) -> Iterator[SourceRecord | UnusableRow]:
        """A picture's boxes and its mask."""
        boxes, mask = (posixpath.join(posixpath.dirname(path), name) for name in (BOXES, MASK))
        if boxes not in files and mask not in files:
            return
        classes = tuple(sorted(self._options.mask_classes.items()))
        has_mask = mask in files
        try:
            regions = self._regions(boxes) if boxes in files else ()
        except Rejected as error:
            yield UnusableRow(row=boxes, path=boxes, reason=error.reason, detail=error.detail)
            return
        yield SourceRecord(
            row=boxes if boxes in files else mask,
            name=path,
            modality=picture.modality,
            attributes=picture.attributes,
            regions=regions,
            mask=mask if has_mask and classes else None,
            mask_classes=classes if has_mask else (),
            left_out=("mask_without_classes",) if has_mask and not classes else (),
        )

    def _regions(self, name: str) -> tuple[Region, ...]:
        data = read_bytes(self._root, *locate(self._root, name))
        self.listings.files.add(name)
        with item_boundary("bad_objects", "not JSON"):
            items = json.loads(data)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise Rejected("bad_objects", "not a list of objects {label: [x, y, width, height]}")
        return tuple(_region(label, box) for item in items for label, box in item.items())


def _values(item: Any) -> dict[str, str]:
    """What is needed of a question, as text; an answer may well be `none`."""
    if not isinstance(item, dict):
        raise Rejected("bad_row", "not an object")
    values = {key: Slake.readers[key](item.get(key)) for key in _NEEDED}
    if missing := [key for key, value in values.items() if value is None]:
        raise Rejected("bad_row", f"without {', '.join(missing)}")
    return values


def _picture(values: dict[str, str], item: dict[str, Any]) -> _Picture:
    modality = _MODALITIES.get(values["modality"].strip().lower())
    if modality is None:
        raise Rejected("unknown_modality", "modality is none of CT, MRI, X-Ray")
    location = Slake.readers["location"](item.get("location"))
    attributes = {} if location is None else {"location": location.strip()}
    return _Picture(modality=modality, attributes=attributes)


def _question(values: dict[str, str], split: str) -> Question:
    kind = values["answer_type"].strip().lower()
    if kind not in ("closed", "open"):
        raise Rejected("bad_questions", "answer_type is neither closed nor open")
    return Question(
        question_id=values["qid"],
        question=values["question"],
        answer=values["answer"],
        answer_type=kind,
        split=split,
    )


def _region(label: str, box: Any) -> Region:
    numbers = box if isinstance(box, list) and len(box) == 4 else ()
    if not numbers or not all(isinstance(edge, int | float) and not isinstance(edge, bool) for edge in numbers):
        raise Rejected("bad_box", "one is not four numbers x, y, width, height")
    x, y, width, height = map(float, numbers)
    return Region(label=label, box=(x, y, x + width, y + height))

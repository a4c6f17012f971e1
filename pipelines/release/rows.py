"""The columns of the released Parquet files, and the row of an image.

Names of raw files, ids of the sources and hashes of patients are in none of them: an image has its `image_id`, a
question a number of its own, and images of one patient share `group`, which is called after one of these images.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow

from models.data.format import usual_sides
from pipelines.records import CaptionRow, QuestionRow, RegionRow, SplitImageRow
from pipelines.release.contents import Contents

_TEXT, _TEXTS = pyarrow.string(), pyarrow.list_(pyarrow.string())
_REAL, _BOOL = pyarrow.float64(), pyarrow.bool_()

# Column -> Arrow type and what it says, for the card and for Croissant.
REGION_COLUMNS: dict[str, tuple[pyarrow.DataType, str]] = {
    "region_id": (_TEXT, "image_id and a number"),
    "role": (_TEXT, "input: a model may see it; truth: annotations of validation and test images, for scores alone"),
    "label": (_TEXT, "finding; null: nobody named it"),
    "box": (pyarrow.list_(_REAL), "x0, y0, x1, y1 in pixels of the image, x1 and y1 exclusive"),
    "mask": (_TEXT, "COCO compressed run-length code, height x width of the image; null: a box alone"),
    "area": (pyarrow.int64(), "pixels of the mask, or of the box where there is none"),
    "proposer": (_TEXT, "what gave the box; annotations: the source itself, review: a person"),
    "segmenter": (_TEXT, "what gave the mask; null: the proposer, or no mask"),
    "score": (_REAL, "the proposer's confidence, 0 to 1; 1 for annotations"),
    "probability": (_REAL, "estimated probability that its IoU with the truth is at least 0.5; null: not estimated"),
    "certified": (_BOOL, "the guarantee of risk control in the card covers it, which says of what precision it is"),
    "review": (_TEXT, "a person's decision; null: nobody looked"),
    "status": (_TEXT, "of its caption: ok, no_finding, rejected or failed"),
    "caption": (_TEXT, "adjective | term | position"),
    "phrase": (_TEXT, "the source's own sentence about it; null: none"),
    "adjective": (_TEXT, "shape or appearance"),
    "term": (_TEXT, "finding as the caption names it; region where neither source nor model names it"),
    "position": (_TEXT, "<left|right|center> <upper|middle|lower>; whose left and right: the image's sides"),
    "negatives": (_TEXTS, "captions that differ in the adjective alone, and are wrong"),
    "basis": (_TEXT, "what the caption was made from: report, labels, annotation, proposal or pixels"),
    "oracle": (_BOOL, "the caption was made from annotations of a validation or test image: never score with it"),
    "contradiction": (_TEXT, "code where the caption contradicts the measured geometry; null: it does not"),
}
QUESTION_COLUMNS: dict[str, tuple[pyarrow.DataType, str]] = {
    "question_id": (_TEXT, "image_id and a number"),
    "question": (_TEXT, "as the source has it"),
    "answer": (_TEXT, "as the source has it"),
    "answer_type": (_TEXT, "closed or open"),
    "published_split": (_TEXT, "of the question, where the source has one"),
}
ATTRIBUTE_COLUMNS: dict[str, tuple[pyarrow.DataType, str]] = {
    "name": (_TEXT, "what is known, such as the patient's age"),
    "value": (_TEXT, "as the source has it"),
}
_IMAGE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", _TEXT)])


def _listed(columns: Mapping[str, tuple[pyarrow.DataType, str]]) -> pyarrow.DataType:
    return pyarrow.list_(pyarrow.struct([(name, kind) for name, (kind, _) in columns.items()]))


COLUMNS: dict[str, tuple[pyarrow.DataType, str]] = {
    "image": (_IMAGE, "PNG, grey or RGB, at the original size, without the metadata of the file it came from"),
    "image_id": (_TEXT, "the same in all formats of this release"),
    "source": (_TEXT, "data set that it came from"),
    "licence": (_TEXT, "of that source"),
    "group": (_TEXT, "images of one patient, study or scene share it; a group is in one split"),
    "modality": (_TEXT, "kind of image"),
    "view": (_TEXT, "frontal or lateral; null: unknown"),
    "sides": (_TEXT, "whose left and right the texts mean: patient or image"),
    "width": (pyarrow.int64(), "pixels"),
    "height": (pyarrow.int64(), "pixels"),
    "labels": (_TEXTS, "findings; empty: the source says that there is none; null: nobody said"),
    "status": (_TEXT, "of the texts: ok, no_finding, unannotated (nobody said anything), rejected or failed"),
    "basis": (_TEXT, "what the texts were made from"),
    "oracle": (_BOOL, "the texts were made from annotations of a validation or test image: never score with them"),
    "summary": (_TEXT, "one sentence; null: none"),
    "report": (_TEXT, "the source's own report, or the captioner's where it has none; null: none"),
    "other_reports": (_TEXTS, "further reports of the source"),
    "regions": (_listed(REGION_COLUMNS), "accepted regions"),
    "attributes": (_listed(ATTRIBUTE_COLUMNS), "what the source says of the whole image beside its findings"),
    "look_alikes": (_TEXTS, "masks of what looks like a finding and is none: codes as in regions; for scores alone"),
    "questions": (_listed(QUESTION_COLUMNS), "questions with their answers, where the source has them"),
}
# Columns of `regions` that stand in the table of regions under the same name; the others are of its captions.
_OF_REGION = ("region_id", "role", "label", "mask", "area", "proposer", "segmenter", "score", "probability")
_OF_CAPTION = ("status", "phrase", "adjective", "term", "position", "basis", "oracle", "contradiction")


def arrow_schema() -> pyarrow.Schema:
    """With the features under the key `huggingface`, from which `datasets` knows that `image` is one."""
    info = {"info": {"features": {name: _feature(kind) for name, (kind, _) in COLUMNS.items()}}}
    metadata = {"huggingface": json.dumps(info)}
    return pyarrow.schema([(name, kind) for name, (kind, _) in COLUMNS.items()], metadata=metadata)


def _feature(kind: pyarrow.DataType) -> dict[str, Any]:
    """A type as `datasets` writes its features in JSON."""
    if kind == _IMAGE:
        return {"_type": "Image"}
    if pyarrow.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pyarrow.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": {"double": "float64"}.get(str(kind), str(kind)), "_type": "Value"}


def image_rows(contents: Contents, split: str) -> Iterator[tuple[SplitImageRow, dict[str, Any]]]:
    """Each image of a split with its row, of which `image` is missing."""
    for row in contents.images[split]:
        yield row, _image_row(contents, row)


def _image_row(contents: Contents, row: SplitImageRow) -> dict[str, Any]:
    texts = contents.captions[row.image_id]
    return {
        "image_id": row.image_id,
        "source": row.source,
        "licence": contents.licence(row.source),
        "group": contents.groups[row.group],
        "modality": row.modality,
        "view": row.view,
        "sides": row.sides or usual_sides(row.view),
        "width": row.width,
        "height": row.height,
        "labels": row.labels,
        **{name: getattr(texts, name) for name in ("status", "basis", "oracle", "summary", "report", "other_reports")},
        "regions": [
            region_row(region, contents.captions[region.region_id]) for region in contents.regions.get(row.image_id, ())
        ],
        "attributes": [{"name": name, "value": value} for name, value in row.attributes.items()],
        "look_alikes": row.look_alikes,
        "questions": [
            _question_row(row.image_id, number, question)
            for number, question in enumerate(contents.questions.get(row.image_id, ()))
        ],
    }


def region_row(region: RegionRow, texts: CaptionRow) -> dict[str, Any]:
    """A region with its texts, by the names of `REGION_COLUMNS`."""
    found = {name: getattr(region, name) for name in (*_OF_REGION, "certified", "review")}
    found |= {name: getattr(texts, name) for name in _OF_CAPTION}
    return found | {"box": list(region.box), "caption": texts.region_caption, "negatives": texts.negatives}


def _question_row(image_id: str, number: int, question: QuestionRow) -> dict[str, Any]:
    found = {name: getattr(question, name) for name in ("question", "answer", "answer_type")}
    return {"question_id": f"{image_id}-{number}", "published_split": question.split, **found}

"""The data contract: every table's columns, types, units and checks.

Tables are Parquet. They are read into pandas with Arrow types, so that an integer column with nulls stays integer and
a list stays a list. `rows_of` gives plain Python values, with None for null.

Boxes are (x0, y0, x1, y1) in pixels of the original image, x to the right, y downwards, x1 and y1 exclusive.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pandera
import pyarrow
import pyarrow.parquet
from pandera.pandas import Check, Column

from pipelines.errors import UserError
from pipelines.files import atomic_path

SPLITS = ("train", "validation", "test")
MODALITIES = ("radiograph", "ct", "mri", "ultrasound", "endoscopy", "dermatology", "fundus", "pathology", "other")
VIEWS = ("frontal", "lateral")
NO_FINDING = "No Finding"

_TEXT = pd.ArrowDtype(pyarrow.string())
_TEXTS = pd.ArrowDtype(pyarrow.list_(pyarrow.string()))
_INT = pd.ArrowDtype(pyarrow.int64())
_REAL = pd.ArrowDtype(pyarrow.float64())
_BOOL = pd.ArrowDtype(pyarrow.bool_())
_IMAGE_ID = Check.str_matches(r"^[0-9a-f]{16}$")
_REGION_ID = Check.str_matches(r"^[0-9a-f]{16}-\d+$")
_SHA256 = Check.str_matches(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class Table:
    """A table's name and contract.

    Attributes:
        name: What error messages call it.
        contract: Columns in order, with types, nullability, checks and descriptions.
    """

    name: str
    contract: pandera.DataFrameSchema

    @property
    def arrow_schema(self) -> pyarrow.Schema:
        return pyarrow.schema(
            [(name, column.dtype.type.pyarrow_dtype) for name, column in self.contract.columns.items()]
        )

    def frame(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Rows of plain Python values as a checked data frame; a missing key is null, an unknown key an error."""
        for row in rows:
            if unknown := row.keys() - self.contract.columns.keys():
                raise ValueError(f"table {self.name} has no column {sorted(unknown)}")
        table = pyarrow.Table.from_pylist(rows, schema=self.arrow_schema)
        return self.check(table.to_pandas(types_mapper=pd.ArrowDtype))

    def check(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return `frame` unchanged when it keeps the contract.

        Raises:
            ValueError: It does not; the message names the first columns, checks and values at fault.
        """
        try:
            return self.contract.validate(frame, lazy=True)
        except pandera.errors.SchemaErrors as error:
            cases = error.failure_cases[["column", "check", "failure_case"]].head(5).to_dict("records")
            raise ValueError(f"table {self.name} breaks its contract: {cases}") from None

    def write(self, frame: pd.DataFrame, path: Path) -> None:
        """Check and write atomically. The same frame gives the same bytes."""
        table = pyarrow.Table.from_pandas(self.check(frame), schema=self.arrow_schema, preserve_index=False)
        with atomic_path(path) as temporary:
            pyarrow.parquet.write_table(table.replace_schema_metadata(None), temporary, compression="zstd")

    def read(self, path: Path) -> pd.DataFrame:
        if not path.is_file():
            raise UserError(f"{path} not found: run `dvc repro` to make the table '{self.name}'")
        return self.check(
            pyarrow.parquet.read_table(path, schema=self.arrow_schema).to_pandas(types_mapper=pd.ArrowDtype)
        )


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table as dicts of plain Python values, null as None."""
    return pyarrow.Table.from_pandas(frame, preserve_index=False).to_pylist()


def _table(name: str, columns: dict[str, Column], unique: list[str] | None = None) -> Table:
    return Table(name, pandera.DataFrameSchema(columns, strict=True, ordered=True, unique=unique))


def _column(
    dtype: pd.ArrowDtype, description: str, *checks: Check, nullable: bool = False, unique: bool = False
) -> Column:
    return Column(dtype, list(checks), nullable=nullable, unique=unique, description=description)


_WHERE = {
    "image_id": _column(_TEXT, "First 16 hex digits of SHA-256 over file bytes, member and frame", _IMAGE_ID),
    "source": _column(_TEXT, "Name of the source in params.yaml"),
}

_IMAGE_COLUMNS = {
    **_WHERE,
    "path": _column(_TEXT, "File, relative to the source's root; '' where the root itself is the archive"),
    "member": _column(_TEXT, "Name inside the zip or tar file that `path` names", nullable=True),
    "frame": _column(_INT, "Slice or frame, counted from 0", Check.ge(0), nullable=True),
    "sha256": _column(_TEXT, "SHA-256 of the file's (or member's) bytes", _SHA256),
    "pixel_sha256": _column(
        _TEXT, "SHA-256 of the decoded pixels, equal for equal pictures in other containers", _SHA256
    ),
    "perceptual_hash": _column(_TEXT, "256-bit perceptual hash, hex", Check.str_matches(r"^[0-9a-f]{64}$")),
    "thumbnail": _column(pd.ArrowDtype(pyarrow.binary()), "32 x 32 grey bytes, to confirm near-duplicates"),
    "width": _column(_INT, "Pixels", Check.ge(1)),
    "height": _column(_INT, "Pixels", Check.ge(1)),
    "modality": _column(_TEXT, "Kind of image", Check.isin(MODALITIES)),
    "view": _column(_TEXT, "Projection of a radiograph", Check.isin(VIEWS), nullable=True),
    "patient": _column(_TEXT, "Salted hash of the source's patient id", nullable=True),
    "split": _column(_TEXT, "The split that the source gives", Check.isin(SPLITS), nullable=True),
    "split_conflict": _column(_BOOL, "The source lists this picture in more than one split"),
    "report": _column(_TEXT, "Free text as the source has it", nullable=True),
    "labels": _column(
        _TEXTS, "Findings; [] where the source says that there is none; null where nobody said", nullable=True
    ),
    "mask_path": _column(_TEXT, "Mask of the whole image, relative to the root", nullable=True),
    "mask_sha256": _column(_TEXT, "SHA-256 of the mask's bytes", _SHA256, nullable=True),
    "rows": _column(_INT, "How many rows of the source show this picture", Check.ge(1)),
}

IMAGES = _table("images", _IMAGE_COLUMNS, unique=["image_id"])

GIVEN_REGIONS = _table(
    "given regions",
    {
        **_WHERE,
        "n": _column(_INT, "Place among the image's given regions, from 0", Check.ge(0)),
        "label": _column(_TEXT, "What the source calls it (never guessed)", nullable=True),
        "adjective": _column(_TEXT, "Shape or appearance, where the source says", nullable=True),
        **{
            name: _column(_REAL, "Box edge in pixels; null: from the mask", nullable=True)
            for name in ("x0", "y0", "x1", "y1")
        },
        "mask_path": _column(_TEXT, "Mask of this region, relative to the root", nullable=True),
        "mask_value": _column(_INT, "Grey value of this region in the mask; null: every non-zero pixel", nullable=True),
        "mask_sha256": _column(_TEXT, "SHA-256 of the mask's bytes", _SHA256, nullable=True),
    },
    unique=["image_id", "n"],
)

QUESTIONS = _table(
    "questions",
    {
        **_WHERE,
        "question_id": _column(_TEXT, "Unique within the source"),
        "question": _column(_TEXT, "As the source has it"),
        "answer": _column(_TEXT, "As the source has it, numbers as text"),
        "answer_type": _column(_TEXT, "closed or open", Check.isin(["closed", "open"])),
        "split": _column(_TEXT, "The question's own published split", Check.isin(SPLITS), nullable=True),
    },
    unique=["source", "question_id"],
)

REJECTED = _table(
    "rejected",
    {
        "source": _column(_TEXT, "Name of the source in params.yaml"),
        "row": _column(_TEXT, "Where the source lists it, such as metadata.csv:17"),
        "path": _column(_TEXT, "File as the source names it", nullable=True),
        "reason": _column(_TEXT, "Reason code", Check.str_matches(r"^[a-z0-9_]+$")),
        "detail": _column(_TEXT, "What exactly was wrong"),
    },
)

SPLIT_IMAGES = _table(
    "split images",
    {
        **{name: column for name, column in _IMAGE_COLUMNS.items() if name not in ("split", "thumbnail")},
        "given_split": _column(_TEXT, "The split that the source gave", Check.isin(SPLITS), nullable=True),
        "group": _column(_TEXT, "Images of one patient or of one picture share it; never in two splits"),
        "split": _column(_TEXT, "Where the image is used", Check.isin(SPLITS)),
        "leak": _column(_BOOL, "Allowed in params: its published split shares its group with another split"),
    },
    unique=["image_id"],
)

NEAR_DUPLICATES = _table(
    "near duplicates",
    {
        "image_id": _column(_TEXT, "One picture", _IMAGE_ID),
        "other_id": _column(_TEXT, "The other", _IMAGE_ID),
        "source": _column(_TEXT, "Source of the one"),
        "other_source": _column(_TEXT, "Source of the other"),
        "distance": _column(_INT, "Differing bits of the perceptual hashes", Check.in_range(0, 256)),
        "correlation": _column(_REAL, "Pearson correlation of the thumbnails", Check.in_range(-1, 1)),
    },
)

_FOUND = {
    "segmenter": _column(_TEXT, "Plug-in that gave the mask; null: the proposer's own, or none", nullable=True),
    "label": _column(_TEXT, "Finding; null: nobody named it", nullable=True),
    "adjective": _column(_TEXT, "Shape or appearance as the source gives it", nullable=True),
    **{name: _column(_REAL, "Box edge in pixels", Check.ge(0)) for name in ("x0", "y0", "x1", "y1")},
    "mask": _column(_TEXT, "COCO compressed run-length code of the mask, height x width of the image", nullable=True),
    "area": _column(_INT, "Pixels of the mask, or of the box where there is none", Check.ge(0)),
    "area_fraction": _column(_REAL, "Area over image area", Check.in_range(0, 1)),
    "score": _column(_REAL, "The proposer's confidence; 1 for annotations", Check.in_range(0, 1)),
    "mask_quality": _column(_REAL, "The segmenter's own estimate", Check.in_range(0, 1), nullable=True),
    "mask_stability": _column(_REAL, "IoU of the masks at two thresholds", Check.in_range(0, 1), nullable=True),
    "box_agreement": _column(_REAL, "IoU of the box and the mask's own box", Check.in_range(0, 1), nullable=True),
}

PROPOSALS = _table(
    "proposals",
    {
        **_WHERE,
        "n": _column(_INT, "Place among the image's proposals, from 0", Check.ge(0)),
        "proposer": _column(_TEXT, "Plug-in that gave the box"),
        "sees_annotations": _column(_BOOL, "The proposer reads what the source drew"),
        "own_phrases": _column(_BOOL, "Looked for with phrases of this image's labels or report"),
        **_FOUND,
        "truth_iou": _column(
            _REAL,
            "Largest IoU with a region that the source drew, to fit and judge by; null: nobody annotated the image",
            Check.in_range(0, 1),
            nullable=True,
        ),
        "reason": _column(_TEXT, "Reason code of a proposal that can never be used", nullable=True),
    },
    unique=["image_id", "n"],
)

REGION_STATUS = ("accepted", "rejected", "failed")

REGIONS = _table(
    "regions",
    {
        "region_id": _column(_TEXT, "<image_id>-<n>", _REGION_ID, unique=True),
        **_WHERE,
        "n": _column(_INT, "Place among the image's regions, from 0", Check.ge(0)),
        "role": _column(_TEXT, "input: a method may see it; truth: only scores may", Check.isin(["input", "truth"])),
        "proposer": _column(_TEXT, "Plug-in that gave the box"),
        **_FOUND,
        "agreement": _column(
            _REAL, "Largest IoU with another proposer's box; null: no other looked", Check.in_range(0, 1), nullable=True
        ),
        "probability": _column(
            _REAL, "Joint score: that its IoU with the truth is at least 0.5", Check.in_range(0, 1), nullable=True
        ),
        "certified": _column(_BOOL, "The promise of params.yaml's regions.promise covers it"),
        "round": _column(_INT, "Round in which it was accepted; null: by no round", Check.ge(0), nullable=True),
        "review": _column(_TEXT, "A person's verdict", Check.isin(["accepted", "rejected"]), nullable=True),
        "status": _column(_TEXT, "Outcome", Check.isin(REGION_STATUS)),
        "reason": _column(_TEXT, "Reason code where not accepted", nullable=True),
    },
    unique=["image_id", "n"],
)

CAPTION_STATUS = ("ok", "no_finding", "unannotated", "rejected", "failed")

CAPTIONS = _table(
    "captions",
    {
        "item_id": _column(_TEXT, "image_id or region_id", unique=True),
        **_WHERE,
        "kind": _column(_TEXT, "What is described", Check.isin(["image", "region"])),
        "status": _column(
            _TEXT, "Outcome; unannotated: nobody said whether there is a finding", Check.isin(CAPTION_STATUS)
        ),
        "reason": _column(_TEXT, "Reason code where rejected or failed", nullable=True),
        "summary": _column(_TEXT, "One sentence of at most 15 words; below 10 a warning (image)", nullable=True),
        "report": _column(_TEXT, "Detailed report (image)", nullable=True),
        "region_caption": _column(_TEXT, "adjective | term | position (region), or No Finding (image)", nullable=True),
        "adjective": _column(_TEXT, "Shape or appearance (region)", nullable=True),
        "term": _column(
            _TEXT, "Lesion term of the source, or of a model that looked; 'region' where nobody named it", nullable=True
        ),
        "position": _column(_TEXT, "<left|right|center> <upper|middle|lower>", nullable=True),
        "size": _column(_TEXT, "small, medium or large, by area share", nullable=True),
        "negatives": _column(_TEXTS, "Five captions that differ in the adjective alone (region)", nullable=True),
        "basis": _column(
            _TEXT,
            "Made from: the source's report, its labels, its boxes or masks, a proposed region, or pixels alone",
            Check.isin(["report", "labels", "annotation", "proposal", "pixels"]),
            nullable=True,
        ),
        "oracle": _column(_BOOL, "Made from annotations of a validation or test image: never beside a paper's figure"),
        "contradiction": _column(
            _TEXT, "Reason code where the caption contradicts the region's measured geometry", nullable=True
        ),
        "warnings": _column(_TEXTS, "Codes of what is doubtful in an accepted answer", nullable=True),
        "raw_answer": _column(_TEXT, "What a model answered last, where it was rejected", nullable=True),
        "attempts": _column(_INT, "How often a model was asked; null: none was", Check.ge(1), nullable=True),
        "captioner": _column(_TEXT, "Plug-in"),
        "prompt_sha256": _column(_TEXT, "Digest of the prompt files that decided it", _SHA256),
    },
)

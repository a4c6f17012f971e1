"""The data contract: one row class for each table, from which its Arrow schema and its checks come.

A row is a frozen dataclass whose fields carry type, constraints and description. It is checked when it is built
(pydantic), so that a row which exists keeps the contract. Units: lengths and areas are pixels of the original image,
fractions lie between 0 and 1, boxes are as `models.geometry` defines them. A field of None is null in the table.
"""

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict
from pydantic.dataclasses import dataclass

from models.geometry import Box
from pipelines.cuts import Axis, Cut
from pipelines.tables import Table

Split = Literal["train", "validation", "test"]
Modality = Literal["radiograph", "ct", "mri", "ultrasound", "endoscopy", "dermatology", "fundus", "pathology", "other"]
View = Literal["frontal", "lateral"]
Sides = Literal["patient", "image"]
ReportSide = Literal["same", "opposite", "center"]
BurnedIn = Literal["stated", "found", "hidden"]
BurnedInPolicy = Literal["flag", "mask", "reject"]
RegionRole = Literal["input", "truth"]
RegionStatus = Literal["accepted", "rejected", "failed"]
ReviewDecision = Literal["accepted", "rejected"]
CaptionKind = Literal["image", "region"]
CaptionStatus = Literal["ok", "no_finding", "unannotated", "rejected", "failed"]
Basis = Literal["report", "labels", "annotation", "proposal", "pixels"]

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MODALITIES: tuple[Modality, ...] = Modality.__args__  # type: ignore[attr-defined]
VIEWS: tuple[View, ...] = ("frontal", "lateral")
REGION_STATUS: tuple[RegionStatus, ...] = ("accepted", "rejected", "failed")
CAPTION_STATUS: tuple[CaptionStatus, ...] = ("ok", "no_finding", "unannotated", "rejected", "failed")
NO_FINDING = "No Finding"
MOST_OUTPUT = 8_192  # characters of an answer that is kept
KEYED = frozenset({"patient", "study"})  # columns whose values depend on the key for confidential ids
ANNOTATIONS_PROPOSER = "annotations"  # the proposer that hands on what the source annotated

# Strict: no text passes for a number, and no unknown column. Lists become tuples, for Arrow gives lists.
_STRICT = ConfigDict(strict=True, extra="forbid")

_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
_ImageId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_Count = Annotated[int, Field(ge=0)]
_Pixels = Annotated[int, Field(ge=1)]
_Fraction = Annotated[float, Field(ge=0, le=1)]
_Edge = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_ReasonCode = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
_Texts = Annotated[tuple[str, ...], Strict(False)]
_PixelBoxes = Annotated[tuple[Annotated[tuple[_Count, _Count, _Pixels, _Pixels], Strict(False)], ...], Strict(False)]


def _as_dict(value: Any) -> Any:
    """A map of Arrow, which is a list of pairs there."""
    return dict(value) if isinstance(value, list) else value


_TextByName = Annotated[dict[str, str], BeforeValidator(_as_dict)]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ImageKeyRow:
    """What identifies the image that a row is about."""

    image_id: Annotated[_ImageId, Field(description="First 16 hex digits of SHA-256 over file bytes, member and frame")]
    source: Annotated[str, Field(description="Name of the source in params.yaml")]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ImageColumnsRow(ImageKeyRow):
    """Columns that the tables `images` and `split images` share."""

    path: Annotated[str, Field(description="File, relative to the source's root; '' where the root is the archive")]
    member: Annotated[str | None, Field(description="Name inside the zip or tar file that `path` names")] = None
    frame: Annotated[_Count | None, Field(description="Slice or frame, counted from 0")] = None
    axis: Annotated[
        Axis | None,
        Field(
            description="Along which the slices of a volume are counted; null: axial, or no volume. Where it is set, a "
            "DICOM file stands for the volume of its series or frames"
        ),
    ] = None
    volume: Annotated[_Count | None, Field(description="Of a file with several volumes: which, counted from 0")] = None
    sha256: Annotated[
        _Sha256,
        Field(
            description="SHA-256 of the file's (or member's) bytes; of a pair the header's, then the voxels'; of a "
            "DICOM series all slices' in their order"
        ),
    ]
    burned_in: Annotated[
        BurnedIn | None,
        Field(
            description="Text in the pixels: stated by the DICOM header, found, or found and hidden; null: none, or "
            "nobody looked"
        ),
    ] = None
    hidden: Annotated[
        _PixelBoxes,
        Field(description="Boxes (x0, y0, x1, y1) in pixels that every reader paints black, x1, y1 exclusive"),
    ] = ()
    pixel_sha256: Annotated[_Sha256, Field(description="SHA-256 of the decoded pixels (hidden ones black)")]
    perceptual_hash: Annotated[_Sha256, Field(description="256-bit perceptual hash, hex")]
    width: Annotated[_Pixels, Field(description="Pixels")]
    height: Annotated[_Pixels, Field(description="Pixels")]
    modality: Annotated[Modality, Field(description="Kind of image")]
    view: Annotated[View | None, Field(description="Projection of a radiograph")] = None
    patient: Annotated[
        str | None, Field(description="Hash of the source's patient id, or of the PatientID in a DICOM header")
    ] = None
    study: Annotated[
        str | None,
        Field(description="Hash of a DICOM header's study or series; images that share it belong to one patient"),
    ] = None
    split_conflict: Annotated[bool, Field(description="The source lists this image in more than one split")]
    report: Annotated[str | None, Field(description="Free text as the source has it; of several, the first")] = None
    other_reports: Annotated[_Texts, Field(description="Further texts that the source has of this image")] = ()
    labels: Annotated[
        _Texts | None,
        Field(description="Findings; empty where the source says that there is none; null where nobody said"),
    ] = None
    attributes: Annotated[
        _TextByName, Field(description="What the source says of the whole image beside its findings, by name")
    ] = field(default_factory=dict)
    look_alikes: Annotated[
        _Texts,
        Field(description="What looks like a finding and is none, no annotation: COCO run-length codes of its masks"),
    ] = ()
    mask_path: Annotated[
        str | None,
        Field(description="Mask of the whole image, relative to the root; the image is annotated where it is set"),
    ] = None
    mask_sha256: Annotated[
        _Sha256 | None, Field(description="SHA-256 of the mask's bytes; of several files, of their digests")
    ] = None
    sides: Annotated[
        Sides | None,
        Field(description="Whose left and right the texts mean: declared (images); declared or voted (split images)"),
    ] = None
    rows: Annotated[int, Field(ge=1, description="How many rows of the source show this image")]

    @property
    def cut(self) -> Cut:
        """The part of the file that the image shows."""
        return Cut(frame=self.frame, axis=self.axis, volume=self.volume)

    @property
    def pixel_key(self) -> list[Any]:
        """What decides the pixels, for keys of the result cache; only hidden boxes make it longer."""
        key = [self.sha256, self.member, *self.cut.key]
        return [*key, list(map(list, self.hidden))] if self.hidden else key


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ImageRow(ImageColumnsRow):
    """One image of one source."""

    split: Annotated[Split | None, Field(description="The split that the source publishes")] = None
    thumbnail: Annotated[bytes, Field(description="32 x 32 grey bytes, to confirm near-duplicates")]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class SplitImageRow(ImageColumnsRow):
    """One image of the whole dataset with its split."""

    source_split: Annotated[Split | None, Field(description="The split that the source publishes")] = None
    group: Annotated[str, Field(description="Images of one patient or of one scene share it; never in two splits")]
    split: Annotated[Split, Field(description="Where the image is used")]
    leak: Annotated[bool, Field(description="Allowed in params: its published split shares its group with another")]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class AnnotationRow(ImageKeyRow):
    """One region that the source annotated: a box, a mask, or both."""

    n: Annotated[_Count, Field(description="Index among the image's annotations, from 0")]
    label: Annotated[str | None, Field(description="What the source calls it (never guessed)")] = None
    adjective: Annotated[str | None, Field(description="Shape or appearance, where the source says")] = None
    phrase: Annotated[str | None, Field(description="The source's own sentence about it")] = None
    x0: Annotated[float | None, Field(description="Left edge in pixels; null: the mask alone says where")] = None
    y0: Annotated[float | None, Field(description="Upper edge in pixels")] = None
    x1: Annotated[float | None, Field(description="Right edge in pixels, exclusive")] = None
    y1: Annotated[float | None, Field(description="Lower edge in pixels, exclusive")] = None
    mask: Annotated[
        str | None, Field(description="COCO compressed run-length code, height x width of the image; null: a box alone")
    ] = None
    mask_path: Annotated[
        str | None, Field(description="File that the mask was decoded from; null: a listing holds the mask itself")
    ] = None
    mask_value: Annotated[int | None, Field(description="Grey value of this region in that file")] = None
    mask_sha256: Annotated[
        _Sha256 | None, Field(description="SHA-256 of that file's bytes; of several, of their digests")
    ] = None

    @property
    def box(self) -> Box | None:
        """The annotated box; None where the source gives a mask alone."""
        if self.x0 is None or self.y0 is None or self.x1 is None or self.y1 is None:
            return None
        return self.x0, self.y0, self.x1, self.y1


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class QuestionRow(ImageKeyRow):
    """One question about an image with its answer."""

    question_id: Annotated[str, Field(description="Unique within the source")]
    question: Annotated[str, Field(description="As the source has it")]
    answer: Annotated[str, Field(description="As the source has it, numbers as text")]
    answer_type: Annotated[Literal["closed", "open"], Field(description="closed or open")]
    split: Annotated[Split | None, Field(description="The question's own published split")] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class RejectedRow:
    """One row or file of a source that cannot be used."""

    source: Annotated[str, Field(description="Name of the source in params.yaml")]
    row: Annotated[str, Field(description="Where the source lists it, such as metadata.csv:17")]
    path: Annotated[str | None, Field(description="File as the source names it")] = None
    reason: Annotated[_ReasonCode, Field(description="Reason code")]
    detail: Annotated[str, Field(description="What exactly was wrong")]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class NearDuplicateRow:
    """Two images that show the same scene."""

    image_id: Annotated[_ImageId, Field(description="The first image")]
    other_id: Annotated[_ImageId, Field(description="The second image")]
    source: Annotated[str, Field(description="Source of the first")]
    other_source: Annotated[str, Field(description="Source of the second")]
    distance: Annotated[int, Field(ge=0, le=256, description="Differing bits of the perceptual hashes")]
    correlation: Annotated[float, Field(ge=-1, le=1, description="Pearson correlation of the thumbnails")]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class DetectionRow(ImageKeyRow):
    """Columns that the tables `proposals` and `regions` share: where something is and how good the evidence is."""

    n: Annotated[_Count, Field(description="Index among the image's rows, from 0")]
    proposer: Annotated[str, Field(description="Plug-in that gave the box")]
    segmenter: Annotated[
        str | None, Field(description="Plug-in that gave the mask; null: the proposer's own, or no mask")
    ] = None
    label: Annotated[str | None, Field(description="Finding; null: nobody named it")] = None
    adjective: Annotated[str | None, Field(description="Shape or appearance as the source gives it")] = None
    phrase: Annotated[str | None, Field(description="The source's own sentence about it")] = None
    x0: Annotated[_Edge, Field(description="Left edge in pixels")]
    y0: Annotated[_Edge, Field(description="Upper edge in pixels")]
    x1: Annotated[_Edge, Field(description="Right edge in pixels, exclusive")]
    y1: Annotated[_Edge, Field(description="Lower edge in pixels, exclusive")]
    mask: Annotated[
        str | None, Field(description="COCO compressed run-length code of the mask, height x width of the image")
    ] = None
    area: Annotated[_Count, Field(description="Pixels of the mask, or of the box where there is none")]
    area_fraction: Annotated[_Fraction, Field(description="Area over image area")]
    score: Annotated[_Fraction, Field(description="The proposer's confidence; 1 for annotations")]
    mask_quality: Annotated[_Fraction | None, Field(description="The segmenter's own estimate")] = None
    mask_stability: Annotated[_Fraction | None, Field(description="IoU of the masks at two thresholds")] = None
    box_agreement: Annotated[_Fraction | None, Field(description="IoU of the box and the mask's own box")] = None

    @property
    def box(self) -> Box:
        return self.x0, self.y0, self.x1, self.y1


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ProposalRow(DetectionRow):
    """One candidate region of one proposer."""

    sees_annotations: Annotated[bool, Field(description="The proposer reads what the source annotated")]
    own_phrases: Annotated[bool, Field(description="Searched with phrases of this image's labels or report")]
    truth_iou: Annotated[
        _Fraction | None,
        Field(description="Largest IoU with an annotated region, to fit and evaluate by; null: image not annotated"),
    ] = None
    reason: Annotated[str | None, Field(description="Reason code of a proposal that can never be used")] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class RegionRow(DetectionRow):
    """One accepted or rejected region."""

    region_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}-\d+$", description="<image_id>-<n>")]
    role: Annotated[RegionRole, Field(description="input: a method may see it; truth: only scores may")]
    agreement: Annotated[
        _Fraction | None, Field(description="Largest IoU with another proposer's box; null: there is no other")
    ] = None
    probability: Annotated[
        _Fraction | None, Field(description="Joint score: probability that its IoU with the truth is at least 0.5")
    ] = None
    certified: Annotated[
        bool,
        Field(
            description="The guarantee of params.yaml's regions.risk_control covers it; its quantity says what that is"
        ),
    ]
    round: Annotated[
        _Count | None, Field(description="Round of self-training whose score accepts it first; null: none does")
    ] = None
    review: Annotated[ReviewDecision | None, Field(description="A reviewer's decision")] = None
    status: Annotated[RegionStatus, Field(description="Outcome")]
    reason: Annotated[str | None, Field(description="Reason code where not accepted")] = None


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class CaptionRow(ImageKeyRow):
    """The texts of one image or of one accepted region."""

    item_id: Annotated[str, Field(description="image_id or region_id")]
    kind: Annotated[CaptionKind, Field(description="What is described")]
    status: Annotated[CaptionStatus, Field(description="Outcome; unannotated: nobody said whether there is a finding")]
    reason: Annotated[str | None, Field(description="Reason code where rejected or failed")] = None
    summary: Annotated[
        str | None, Field(description="One sentence of at most 15 words; below 10 a warning (image)")
    ] = None
    report: Annotated[str | None, Field(description="Detailed report (image)")] = None
    other_reports: Annotated[_Texts, Field(description="Further reports that the source has of this image")] = ()
    region_caption: Annotated[
        str | None, Field(description="adjective | term | position (region), or No Finding (image)")
    ] = None
    phrase: Annotated[str | None, Field(description="The source's own sentence, as written (region)")] = None
    adjective: Annotated[str | None, Field(description="Shape or appearance (region)")] = None
    term: Annotated[
        str | None, Field(description="Lesion term of the source or of a model; 'region' where nobody named it")
    ] = None
    position: Annotated[str | None, Field(description="<left|right|center> <upper|middle|lower>")] = None
    size: Annotated[str | None, Field(description="small, medium or large, by area fraction")] = None
    negatives: Annotated[
        _Texts | None, Field(description="Five captions that differ in the adjective alone (region)")
    ] = None
    basis: Annotated[
        Basis | None,
        Field(description="Made from the source's report, its labels, its annotation, a proposed region, or pixels"),
    ] = None
    oracle: Annotated[
        bool, Field(description="Made from annotations of a validation or test image: never beside a paper's figure")
    ]
    contradiction: Annotated[
        str | None, Field(description="Reason code where the caption contradicts the region's measured geometry")
    ] = None
    report_side: Annotated[
        ReportSide | None,
        Field(description="Beside the one side that the image's report names (region); null: it names none or both"),
    ] = None
    warnings: Annotated[_Texts | None, Field(description="Codes of what is doubtful in an accepted answer")] = None
    raw_answer: Annotated[str | None, Field(description="Last answer of a model, where it was rejected")] = None
    attempts: Annotated[
        int | None, Field(ge=1, description="How often a model was asked; null: no model was asked")
    ] = None
    captioner: Annotated[str, Field(description="Plug-in")]
    prompt_sha256: Annotated[_Sha256, Field(description="Digest of the prompt files that decided it")]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class ItemRow(ImageKeyRow):
    """One value of one item that a task of `evaluate` scored, with what was asked and answered.

    `docs/operations.md` (Predictions that are kept) says what `output` holds of each task.
    """

    task: Annotated[str, Field(description="Name of the task in params.yaml")]
    metric: Annotated[str, Field(description="What the value is: a rank, a cosine difference, a Dice, ...")]
    item: Annotated[str, Field(description="image_id, region_id, or image_id and phrase")]
    modality: Annotated[Modality, Field(description="Kind of image")]
    label: Annotated[str | None, Field(description="The finding that it is about")] = None
    value: Annotated[float, Field(allow_inf_nan=False, description="In units of the metric")]
    truth: Annotated[
        int | None,
        Field(ge=0, le=1, description="Whether the image has the finding; null: no finding is scored"),
    ] = None
    prompt: Annotated[
        str | None, Field(description="Text that the method was asked with; null: it was shown the image alone")
    ] = None
    input_digest: Annotated[
        _ImageId | None,
        Field(description="First 16 hex digits of SHA-256 over image.jpg of the shards, and the prompt where one is"),
    ] = None
    preprocessing_digest: Annotated[
        _ImageId | None,
        Field(description="First 16 hex digits of SHA-256 over how the images were prepared (`input` of config.json)"),
    ] = None
    output: Annotated[
        str | None,
        Field(
            max_length=MOST_OUTPUT,
            description="The method's answer as JSON; null: it is the value, or an earlier row of the item has it",
        ),
    ] = None
    image_blind: Annotated[
        float | None,
        Field(allow_inf_nan=False, description="The item's value where the method sees another image"),
    ] = None


IMAGES = Table("images", ImageRow, unique=("image_id",), by_image=True)
ANNOTATIONS = Table("annotations", AnnotationRow, unique=("image_id", "n"), by_image=True)
QUESTIONS = Table("questions", QuestionRow, unique=("source", "question_id"), by_image=True)
REJECTED = Table("rejected", RejectedRow)
SPLIT_IMAGES = Table("split images", SplitImageRow, unique=("image_id",), by_image=True)
SPLIT_QUESTIONS = Table("questions", QuestionRow, unique=("source", "question_id"), by_key=True)
NEAR_DUPLICATES = Table("near duplicates", NearDuplicateRow)
PROPOSALS = Table("proposals", ProposalRow, unique=("image_id", "n"), by_image=True)
REGIONS = Table("regions", RegionRow, unique=("image_id", "n"), by_image=True)
CAPTIONS = Table("captions", CaptionRow, unique=("item_id",), by_image=True)
ITEMS = Table("items", ItemRow, unique=("task", "metric", "item", "label"))

"""The contract of a shard: what its tars and its manifest hold. `models/data/tars.py` writes and reads the tars by it.

A dataset has two families of shards with the same keys in the same order: `images` (pixels) and `captions` (texts). A
shard is a WebDataset tar: the members of a sample stand together and are called `<key>.<extension>`. Every sample of a
family has the same extensions, in the order of `EXTENSIONS`, so that webdataset and Hugging Face `datasets` both read
the tars. What a sample has in varying number (crops and masks of its regions) is packed into one member.
`manifest.json` is written last: a folder that has one is complete.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from models.data.json_fields import FieldError, field_values, read_fields
from models.geometry import Box
from models.preparation import InputFormat
from models.verified import read_bytes, seal

MANIFEST = "manifest.json"

IMAGE = "image.jpg"
TARGET = "target.png"
CROPS = "crops.bin"
MASKS = "masks.bin"
# JSON as text. `datasets` would decode a member that ends in .json and infer its columns from the first five samples:
# a field that is null in all of them makes it refuse the first sample that has a value.
META = "meta.json.txt"
CAPTIONS = "captions.json.txt"

# Family -> extensions of every sample, in stored order.
EXTENSIONS = {"images": (CROPS, IMAGE, MASKS, META, TARGET), "captions": (CAPTIONS,)}

# Offset and size in bytes of one part of a packed member.
Span = tuple[int, int]

T = TypeVar("T")


class ShardError(ValueError):
    """Shards that do not hold what their manifest or this contract says. One line that says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionMeta:
    """One region of an image.

    Attributes:
        region_id: `<image_id>-<n>`.
        role: `input` (a method may see it) or `truth` (only scores may).
        label: The finding; None where it has no name.
        score: Confidence of its proposer, 0 to 1.
        box: x0, y0, x1, y1 in units of the padded square, 0 to 1.
        crop: Its JPEG in `crops.bin`.
        mask: Its PNG in `masks.bin`; None where the region has only a box.
    """

    region_id: str
    role: str
    label: str | None
    score: float
    box: Box
    crop: Span
    mask: Span | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMeta:
    """`meta.json.txt` of one image.

    Attributes:
        image_id: The sample's key.
        source: Name of its source.
        split: train, validation or test.
        group: Images of one patient share it.
        modality: Kind of image.
        view: Projection of a radiograph; None where unknown.
        labels: Findings; empty where the source says that there is none; None where nobody said.
        width: Of the original image, in pixels.
        height: Of the original image, in pixels.
        has_target: Whether `target.png` shows all findings; False where nobody outlined them, and it is black.
        regions: In the order of the captions.
        sides: Whose left and right the texts mean, `patient` or `image`; None, and left out of the JSON, where it is as
            radiology has it: the patient's on frontal views, the image's elsewhere.
        attributes: What the source says of the whole image beside its findings, by name. No method sees it.
        look_alikes: Masks of what is in the image and looks like a finding, in `masks.bin`. They are no annotations: no
            label, region or target counts them, and no method sees them.
    """

    image_id: str
    source: str
    split: str
    group: str
    modality: str
    view: str | None
    labels: tuple[str, ...] | None
    width: int
    height: int
    has_target: bool
    regions: tuple[RegionMeta, ...]
    sides: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    look_alikes: tuple[Span, ...] = ()

    @property
    def patient_sides(self) -> bool:
        """Whether left and right are the patient's, who faces the viewer, so that they are swapped in the image."""
        return (self.sides or usual_sides(self.view)) == "patient"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionCaption:
    """Texts of one region; the columns of the table `captions`.

    `caption` is `adjective | term | position`, and `phrase` the source's own sentence about the region, as written.
    """

    region_id: str
    status: str
    caption: str | None
    adjective: str | None
    term: str | None
    position: str | None
    negatives: tuple[str, ...] | None
    basis: str | None
    oracle: bool
    phrase: str | None = None

    @property
    def triple(self) -> tuple[str, str, str]:
        """Adjective, term and position; every region of status `ok` has them."""
        if self.adjective is None or self.term is None or self.position is None:
            raise ShardError(f"region {self.region_id} of status {self.status} has no caption")
        return self.adjective, self.term, self.position


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageQuestion:
    """A question about an image with its answer, both as the source has them.

    `question_id` is `<image_id>-<n>`, `answer_type` is `closed` or `open`, and `published_split` is the split that the
    source gives the question, None where it gives none; the image may be in another one.
    """

    question_id: str
    question: str
    answer: str
    answer_type: str
    published_split: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCaptions:
    """`captions.json.txt` of one image; `regions` stand in the order of `ImageMeta.regions`.

    Where the source has several reports of the image, `report` is the first and `other_reports` are the others.
    `questions` are for evaluation alone: no method learns from them.
    """

    image_id: str
    status: str
    basis: str | None
    oracle: bool
    summary: str | None
    report: str | None
    regions: tuple[RegionCaption, ...]
    other_reports: tuple[str, ...] = ()
    questions: tuple[ImageQuestion, ...] = ()


def usual_sides(view: str | None) -> str:
    """Whose left and right radiologists mean: the patient's on frontal views, the image's elsewhere."""
    return "patient" if view == "frontal" else "image"


def to_json(value: Any) -> bytes:
    """A dataclass as compact JSON with sorted keys; a key that has a default is left out where it holds that."""
    values = field_values(value)
    for one in dataclasses.fields(value):
        default = one.default if one.default_factory is dataclasses.MISSING else one.default_factory()
        if values[one.name] == default:
            del values[one.name]
    text = json.dumps(
        values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=field_values
    )
    return text.encode()


def from_json(cls: type[T], data: bytes | str, file: str) -> T:
    """The dataclass `cls` that `to_json` wrote.

    Args:
        cls: ImageMeta, ImageCaptions or Manifest.
        data: The JSON document.
        file: Where it stands, for error messages.

    Raises:
        ShardError: It is not JSON, a key is unknown or missing, or a value has another type.
    """
    try:
        return read_fields(cls, json.loads(data))
    except FieldError as error:
        raise ShardError(f"{file}: {error}: run `dvc repro`") from None
    except (ValueError, RecursionError):
        raise ShardError(f"{file} is not JSON: run `dvc repro`") from None


def pack(parts: Iterable[bytes]) -> tuple[bytes, list[Span]]:
    """Parts one after the other as one member, and the span of each."""
    spans = []
    packed = bytearray()
    for part in parts:
        spans.append((len(packed), len(part)))
        packed += part
    return bytes(packed), spans


def unpack(packed: bytes, span: Span) -> bytes:
    """One part of a packed member.

    Raises:
        ShardError: The member is shorter.
    """
    offset, size = span
    part = packed[offset : offset + size]
    if len(part) != size:
        raise ShardError(
            f"a packed member of {len(packed)} bytes has no bytes {offset} to {offset + size}: run `dvc repro`"
        )
    return part


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFile:
    """One tar: its path relative to the family's folder, and what it holds."""

    file: str
    samples: int
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSplit:
    """One split. `keys_sha256` is the digest of its keys in stored order."""

    samples: int
    regions: int
    keys_sha256: str
    shards: list[ShardFile]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableDigest:
    """A table that the shards were made from."""

    sha256: str
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`manifest.json` of one family of shards.

    Attributes:
        family: `images` or `captions`.
        samples_per_shard: Images a tar, at most; fewer where some could not be opened.
        splits: By name; a split without images has no shards.
        tables: By name; for `captions` also the manifest of the images, under the name `shards`.
        left_out: Rows of the table `images` (family `captions`: of `captions`) that are in no shard, because the image
            could not be opened.
        image_size: Side of `image.jpg` in pixels (family `images`).
        crop_size: Side of a crop in pixels (family `images`).
        crop_margin: Context on each side of a crop, as a fraction of the longer side of the region's box (`images`).
        quality: JPEG quality (family `images`).
    """

    family: str
    samples_per_shard: int
    splits: dict[str, ManifestSplit]
    tables: dict[str, TableDigest] = field(default_factory=dict)
    left_out: int = 0
    image_size: int | None = None
    crop_size: int | None = None
    crop_margin: float | None = None
    quality: int | None = None

    @property
    def input_format(self) -> InputFormat:
        """How the images were prepared.

        Raises:
            ShardError: It is not recorded: the captions' manifest, or one of an earlier release.
        """
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(InputFormat)}
        if None in values.values():
            raise ShardError("the image shards do not say how their images were prepared: run `dvc repro image_shards`")
        return InputFormat(**values)

    @property
    def samples(self) -> int:
        return sum(split.samples for split in self.splits.values())

    @property
    def regions(self) -> int:
        return sum(split.regions for split in self.splits.values())


def keys_sha256(keys: Iterable[str]) -> str:
    """The digest by which the two families recognise each other: SHA-256 over the keys, a newline after each."""
    digest = hashlib.sha256()
    for key in keys:
        digest.update(f"{key}\n".encode())
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` and seal the folder; fields that are None are left out."""
    values = {key: value for key, value in dataclasses.asdict(manifest).items() if value is not None}
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    seal(folder, {shard.file: shard.sha256 for split in manifest.splits.values() for shard in split.shards})


def read_manifest(folder: Path) -> Manifest:
    """Read a family's manifest.

    Raises:
        ShardError: There is none, or it is not one.
        DamagedError: It is not the one that was written.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ShardError(f"{path} not found: the shards were not completed, run `dvc repro`")
    manifest = from_json(Manifest, read_bytes(path), str(path))
    if manifest.family not in EXTENSIONS:
        raise ShardError(f"{path}: family '{manifest.family}' is none of {', '.join(EXTENSIONS)}: run `dvc repro`")
    return manifest

"""Small sound inputs of every kind, from which the fuzzing starts."""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow
import pyarrow.parquet
import pydicom
from PIL import Image
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from .server import completion

NOISE = np.random.default_rng(0).integers(0, 256, (12, 18), dtype=np.uint8)
IMAGE_ID, OTHER_ID = "0" * 16, "1" * 16


def images() -> list[bytes]:
    """All raster formats, in several modes."""
    grey = Image.fromarray(NOISE)
    palette = grey.convert("P")
    pages = [Image.new("L", (5, 4), value) for value in (10, 200)]
    return [
        _saved(grey, "PNG"),
        _saved(grey.convert("RGBA"), "PNG"),
        _saved(palette, "PNG", transparency=3),
        _saved(Image.fromarray(NOISE.astype(np.uint16) * 200), "PNG"),
        _saved(grey.convert("1"), "PNG"),
        _saved(grey, "JPEG", quality=60),
        _saved(grey.convert("RGB"), "JPEG", quality=60, progressive=True),
        _saved(grey.convert("CMYK"), "JPEG", quality=60),
        _saved(grey, "TIFF"),
        _saved(grey.convert("RGB"), "TIFF", compression="tiff_lzw"),
        _saved(Image.fromarray(NOISE.astype(np.float32)), "TIFF"),
        _saved(pages[0], "TIFF", save_all=True, append_images=pages[1:]),
        _saved(Image.fromarray(NOISE.astype(np.int32)), "TIFF", compression="tiff_adobe_deflate"),
        _saved(grey, "BMP"),
        _saved(palette, "GIF"),
        _saved(pages[0], "GIF", save_all=True, append_images=pages[1:]),
        _saved(grey.convert("RGB"), "WEBP", quality=60),
        _saved(grey.convert("RGBA"), "WEBP", lossless=True),
        _saved(grey, "JPEG2000"),
        _saved(grey.convert("RGB"), "JPEG2000", no_jp2=True, irreversible=True),
    ]


def masks() -> list[bytes]:
    """Two values, soft edges, classes, a palette."""
    shape = np.zeros((12, 18), np.uint8)
    shape[3:8, 4:12] = 255
    soft = shape.copy()
    soft[2, 4:12] = 120
    classes = shape // 255 + np.eye(12, 18, dtype=np.uint8) * 2
    kinds = [Image.fromarray(values) for values in (shape, soft, classes)]
    return [
        *(_saved(kind, "PNG") for kind in kinds),
        _saved(kinds[0].convert("1"), "PNG"),
        _saved(kinds[2].convert("P"), "PNG"),
        _saved(kinds[0], "JPEG", quality=90),
        _saved(kinds[0], "TIFF", compression="packbits"),
    ]


def volumes() -> list[bytes]:
    """NIfTI of both versions, packed and not."""
    values = np.arange(4 * 5 * 3, dtype=np.int16).reshape(4, 5, 3)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    found = [
        nibabel.Nifti1Image(values, affine).to_bytes(),
        nibabel.Nifti1Image(values.astype(np.float32), affine[[2, 0, 1, 3]]).to_bytes(),
        nibabel.Nifti2Image(values, affine).to_bytes(),
    ]
    return [*found, gzip.compress(found[0], mtime=0)]


def dicoms() -> list[bytes]:
    """Grey, colour, frames, palettes and windows; plain, deflated and packed."""
    colour = np.stack([NOISE[:4, :5]] * 3, axis=-1)
    window: dict[str, Any] = {"WindowCenter": 100, "WindowWidth": 80, "RescaleSlope": 1, "RescaleIntercept": -5}
    small = NOISE[:4, :6]
    return [
        _dicom(small),
        _dicom(small.astype(np.uint16) * 9, **window),
        _dicom(small.astype(np.int16), PhotometricInterpretation="MONOCHROME1"),
        _dicom(colour),
        _dicom(np.stack([small, small])),
        _dicom(small, syntax=DeflatedExplicitVRLittleEndian),
        _dicom(small, compress=RLELossless),
    ]


def archives() -> list[bytes]:
    """Zip and tar with folders, links and packed members."""
    members = {"a.png": images()[0], "folder/b.txt": b"text " * 9}
    found = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as archive:
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data, compression)
        found.append(stream.getvalue())
    for mode in ("w", "w:gz"):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode=mode) as archive:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "../out"
            archive.addfile(link)
        found.append(stream.getvalue())
    return found


def tables() -> list[bytes]:
    """A letter that tells the suffix (see `fuzz_targets.tables`), then the table."""
    row: dict[str, Any] = {
        "file_name": "a.png",
        "text": "Opacity in the left, lower zone.",
        "labels": ["Mass", "Nodule"],
        "split": "train",
        "patient_id": 17,
        "modality": "ct",
        "view": "PA",
        "frame": 0,
        "mask": "m.png",
        "objects": {"bbox": [[1, 2, 3, 4]], "label": ["Mass"]},
        "questions": [{"question_id": "q", "question": "w?", "answer": "yes", "answer_type": "closed"}],
    }
    texts = {name: value if isinstance(value, str | int) else json.dumps(value) for name, value in row.items()}
    texts["labels"] = "Mass|Nodule"
    quoted = ['"' + str(value).replace('"', '""') + '"' for value in texts.values()]
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), parquet, compression="none")
    return [
        b"c" + ",".join(row).encode() + b"\r\n" + ",".join(quoted).encode() + b"\r\n",
        b"c" + b"file_name;text\na.png;Shadow\n",
        b"t" + "\t".join(row).encode() + b"\n" + "\t".join(map(str, texts.values())).encode() + b"\n",
        b"j" + json.dumps(row).encode() + b"\n" + json.dumps({"file_name": "b.png", "labels": []}).encode() + b"\n",
        b"p" + parquet.getvalue(),
    ]


def params(root: Path) -> list[bytes]:
    """The sections of the project's params.yaml one by one (whole, it is too long to be changed well), and overlays."""
    lines = (root / "params.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines) if line[0].isalpha()]
    sections = ["".join(lines[start:end]).encode() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return [*sections, b"shards: {image_size: 32, quality: 80}\n", b"train: {methods: {clip: null}}\n", b"a: &b [*b]\n"]


def answers(words: dict[str, Any]) -> list[bytes]:
    """A letter that says which part of the response follows (see `fuzz_targets`), then the part."""
    content = json.dumps(words).encode()
    return [b"b" + completion(content.decode()), b"c" + content, b"t" + b"polyp", b"b{}", b"b[[[", b"c```json\n{}\n```"]


def run_lengths() -> list[bytes]:
    """Codes of pycocotools for masks of 12 x 18."""
    from pipelines.masks import encode

    full, box = np.ones((12, 18), bool), np.zeros((12, 18), bool)
    box[2:9, 3:11] = True
    return [encode(mask).encode() for mask in (full, ~full, box, NOISE > 128)]


def templates(root: Path) -> list[bytes]:
    """The project's prompt files, and what their language can do."""
    files = sorted((root / "prompts").rglob("*.txt"))
    return [
        *(file.read_bytes() for file in files),
        b"{% for word in labels %}{{ word|upper }}{% else %}none{% endfor %}",
        b"{{ width // 2 }} {{ height % 3 }} {{ name[:2] }} {{ name * 3 }}",
        b"{% set x = namespace(n=0) %}{% macro m(a) %}{{ a }}{% endmacro %}{{ m(x.n) }} {{ range(3)|list }}",
    ]


def reviews() -> list[bytes]:
    """Label Studio's and COCO's exports."""
    data = {"image_id": IMAGE_ID, "regions": [{"region_id": f"{IMAGE_ID}-0", "x0": 1, "y0": 2, "x1": 9, "y1": 8}]}
    value = {"x": 10.0, "y": 20.0, "width": 50.0, "height": 30.0, "rotation": 0, "rectanglelabels": ["finding"]}
    result = {"id": "r", "type": "rectanglelabels", "original_width": 18, "original_height": 12, "value": value}
    task = {"data": data, "annotations": [{"was_cancelled": False, "result": [result]}]}
    attributes = {"region_id": f"{IMAGE_ID}-0", "exported_box": [1, 2, 9, 8], "decision": "accepted"}
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 6], "attributes": attributes}
    coco = {
        "images": [{"id": 1, "image_id": OTHER_ID}],
        "categories": [{"id": 1, "name": "finding"}],
        "annotations": [annotation, {"id": 2, "image_id": 1, "category_id": 1, "bbox": [3, 3, 4, 4]}],
    }
    return [json.dumps([task]).encode(), json.dumps(coco).encode(), b"[]", b'{"images": [], "annotations": []}']


def dictionary() -> Iterator[bytes]:
    """Words that mean something to one reader or another."""
    yield from (b"file_name", b"labels", b"objects", b"bbox", b"No Finding", b"null", b"NaN", b"1e999", b"-0", b"true")
    yield from (b"\\ud800", b"\\u0000", b"\xff\xfe", b"\xed\xa0\x80", b'""', b"[[", b"{%", b"%}", b"{{", b"}}", b"**")
    yield from (b"choices", b"message", b"content", b"usage", b"finish_reason", b"stop", b"model", b"image_id")
    yield from (
        b"../",
        b"/etc/",
        b"BZh9",
        b"PK\x05\x06",
        b"ustar",
        b"DICM",
        b"n+1\0",
        b"IHDR",
        b"tRNS",
        b"PLTE",
        b"Exif",
    )
    yield from (struct.pack("<i", value) for value in (-1, 2**31 - 1, 65536))


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _dicom(
    values: np.ndarray, syntax: UID = ExplicitVRLittleEndian, compress: str | None = None, **elements: Any
) -> bytes:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid(entropy_srcs=["seed"])
    colour = values.ndim == 3 and values.shape[-1] == 3
    *frames, dataset.Rows, dataset.Columns = values.shape[:-1] if colour else values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
    if frames:
        dataset.NumberOfFrames = frames[0]
    dataset.BitsAllocated = dataset.BitsStored = values.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(values.dtype.kind == "i")
    dataset.add_new("PixelData", "OB" if dataset.BitsAllocated == 8 else "OW", values.tobytes())
    for name, value in elements.items():
        setattr(dataset, name, value)
    if compress:
        dataset.compress(compress, encoding_plugin="pydicom", generate_instance_uid=False)
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()

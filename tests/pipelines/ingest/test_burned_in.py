"""Text in pixels: what counts as text, what each policy makes of it, and that later readers see what was masked."""

import json
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
from scipy.ndimage import gaussian_filter

from pipelines.config import parse
from pipelines.errors import Rejected, UserError
from pipelines.images import decode, painted_over, pixel_sha256, states_text, thumbnail
from pipelines.ingest.burned_in import BurnedInText
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.inspect.look import look
from pipelines.ingest.stage import run
from pipelines.ingest.text_finder import TextFinder, is_text
from pipelines.raw_images import open_raw
from pipelines.records import IMAGES, REJECTED, SplitImageRow
from pipelines.sources import Sources
from tests.rows import values_of

SIZE = (320, 256)
# Where the text below is drawn: its box holds all letters.
PLACE, FOOTER = (20, 8, 250, 36), (60, 236, 270, 252)


def tissue(seed: int = 0) -> Image.Image:
    """Soft blobs with grain, as a radiograph without text has them."""
    draw = np.random.default_rng(seed)
    blobs = gaussian_filter(draw.normal(size=SIZE[::-1]), 24)
    grey = 90 + 60 * blobs / np.abs(blobs).max() + draw.normal(scale=4, size=SIZE[::-1])
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def written(words: str, place: tuple[int, int, int, int] = PLACE, size: int = 20, seed: int = 0) -> Image.Image:
    image = tissue(seed)
    ImageDraw.Draw(image).text(place[:2], words, fill=250, font=ImageFont.load_default(size=size))
    return image


def with_footer(words: str) -> Image.Image:
    """Dim letters of 8 pixels on a black bar below the picture, as publishers write them."""
    image = tissue()
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, FOOTER[1], SIZE[0], SIZE[1]), fill=0)
    draw.text(FOOTER[:2], words, fill=110, font=ImageFont.load_default(size=11))
    return image


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> TextFinder:
    pytest.importorskip("rapidocr_onnxruntime", reason="the extra ocr cannot be imported", exc_type=ImportError)
    return TextFinder(tmp_path_factory.mktemp("cache") / "results.sqlite")


def covers(boxes: Any, place: tuple[int, int, int, int], image: Image.Image) -> bool:
    """Whether no bright letter is left in a place once the boxes are black."""
    left = np.asarray(painted_over(image, boxes).crop(place))
    return bool(left.max() < 200)


@pytest.mark.parametrize(
    ("words", "confidence", "expected"),
    [
        ("DOE, JOHN", 0.9, True),
        ("03/31/2008", 0.9, True),
        ("1652781", 0.9, True),
        ("Palma", 0.9, True),  # no row of short marks
        ("Mr. Left", 0.9, True),
        ("LEE", 0.9, True),
        ("DOE, JOHN", 0.29, False),  # not read clearly
        ("L", 1.0, False),
        ("PA", 1.0, False),
        ("..-..", 1.0, False),  # neither letter nor digit
        ("AP SEMI-UPRIGHT", 0.9, False),
        ("EDPORTABLE", 0.9, False),
        ("portatil", 0.9, False),
        ("DCHA.", 0.9, False),
        ("120 mm", 0.9, False),
        ("W 400 : L 40", 0.9, False),
        ("WL: 40 WW: 400", 0.9, False),
    ],
)
def test_marks_and_what_is_short_or_unclear_are_no_text(words: str, confidence: float, expected: bool) -> None:
    assert is_text(words, confidence) is expected


def test_text_is_found_with_its_box_and_nothing_where_there_is_none(finder: TextFinder) -> None:
    image = written("DOE, JANE 1951-02-13")
    boxes = finder.boxes(image)
    assert covers(boxes, PLACE, image)
    assert sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes) < 3 * 230 * 28  # ... and not all of the picture
    assert finder.boxes(written("DOE, JANE 1951-02-13").convert("RGB")) == boxes
    assert finder.boxes(tissue()) == ()
    assert finder.boxes(written("L", size=40)) == ()
    gradient = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (200, 1)))
    assert finder.boxes(gradient) == ()


def test_a_picture_that_holds_no_three_letters_is_not_enlarged(finder: TextFinder) -> None:
    # Three pixels with a padding of 12 around them, enlarged to the model's size, took a minute.
    noise = np.random.default_rng(0).integers(0, 256, (3, 3), dtype=np.uint8)
    tracemalloc.start()
    assert finder.boxes(Image.fromarray(noise)) == ()
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


def test_a_small_dim_footer_is_found(finder: TextFinder) -> None:
    boxes = finder.boxes(with_footer("Uploader: Jane Q Doe, 02-13-1951"))
    assert boxes
    assert all(y1 > FOOTER[1] for _, _, _, y1 in boxes)


def test_each_policy(finder: TextFinder) -> None:
    image, clean = written("DOE, JANE 1951-02-13"), tissue()
    flagged = BurnedInText("flag", finder).examine(image, False)
    assert (flagged.burned_in, flagged.hidden) == ("found", ())
    assert flagged.pixels is image
    masked = BurnedInText("mask", finder).examine(image, False)
    assert masked.burned_in == "hidden"
    assert masked.pixels.tobytes() == painted_over(image, masked.hidden).tobytes()
    assert finder.boxes(masked.pixels) == ()
    assert covers(masked.hidden, PLACE, image)
    with pytest.raises(Rejected) as caught:
        BurnedInText("reject", finder).examine(image, False)
    assert caught.value.reason == "burned_in_text"
    assert "DOE" not in caught.value.detail
    for name in ("flag", "mask", "reject", None):
        examined = BurnedInText(name, finder).examine(clean, False)
        assert (examined.burned_in, examined.hidden) == (None, ())
        assert examined.pixels is clean


def test_a_header_that_states_text_is_believed(finder: TextFinder) -> None:
    clean = tissue()
    assert BurnedInText(None, finder).examine(clean, True).burned_in == "stated"
    assert BurnedInText("flag", finder).examine(clean, True).burned_in == "stated"
    with pytest.raises(Rejected, match="header states") as caught:
        BurnedInText("mask", finder).examine(clean, True)
    assert caught.value.reason == "burned_in_text_remains"
    with pytest.raises(Rejected) as caught:
        BurnedInText("reject", finder).examine(clean, True)
    assert caught.value.reason == "burned_in_text"
    text = written("DOE, JANE 1951-02-13")
    assert BurnedInText("mask", finder).examine(text, True).burned_in == "hidden"


def dicom(values: np.ndarray, stated: str | None) -> bytes:
    dataset = pydicom.Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(stated)])
    if stated is not None:
        dataset.BurnedInAnnotation = stated
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = values.tobytes()
    with pydicom.filebase.DicomBytesIO() as stream:
        dataset.save_as(stream, enforce_file_format=True)
        return stream.getvalue()


@pytest.mark.parametrize(
    ("stated", "expected"), [("YES", True), ("yes ", True), ("NO", False), ("", False), (None, False)]
)
def test_burned_in_annotation_of_a_header(stated: str | None, expected: bool) -> None:
    assert states_text(dicom(np.asarray(tissue()), stated)) is expected


def test_only_dicom_states_anything(tmp_path: Path) -> None:
    tissue().save(tmp_path / "a.png")
    assert states_text((tmp_path / "a.png").read_bytes()) is False


def source(root: Path, **settings: Any) -> IngestConfig:
    one = SourceConfig(adapter="table", root=str(root), patient_ids="public", **settings)
    return IngestConfig(sources={"here": one}, max_pixels=1_000_000, max_failed_fraction=0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures: one with text on its region, one without, and a DICOM file that states text and has none."""
    folder = tmp_path / "root"
    folder.mkdir()
    written("DOE, JANE 1951-02-13").save(folder / "text.png")
    tissue(1).save(folder / "clean.png")
    (folder / "stated.dcm").write_bytes(dicom(np.asarray(tissue(2)), "YES"))
    box = {"bbox": [[20, 8, 30, 30]], "label": ["nodule"]}
    rows = [{"file_name": "text.png", "objects": box}, {"file_name": "clean.png"}, {"file_name": "stated.dcm"}]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def outcome(tmp_path: Path, root: Path, **settings: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The summary, and the rows of images and of rejected ones by file."""
    cache = tmp_path / "cache" / "results.sqlite"
    summary = run("here", source(root, **settings), tmp_path / "out", tmp_path, cache)
    images, rejected = (
        {row["path"]: row for row in values_of(table, tmp_path / "out" / file)}
        for table, file in ((IMAGES, "images.parquet"), (REJECTED, "rejected.parquet"))
    )
    return summary, images, rejected


def test_by_default_a_header_is_noted_and_no_model_is_loaded(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)  # as where the extra is not installed
    summary, images, rejected = outcome(tmp_path, root)
    assert summary["burned_in_text"] == {"stated": 1}
    assert [sentence for sentence in summary["warnings"] if "DICOM" in sentence] == [
        "images whose DICOM header states that text is burned in, and burned_in says nothing of them: 1"
    ]
    assert {path: row["burned_in"] for path, row in images.items()} == {
        "text.png": None,
        "clean.png": None,
        "stated.dcm": "stated",
    }
    assert all(row["hidden"] == [] for row in images.values())
    assert rejected == {}
    assert not (tmp_path / "cache").exists()


def test_a_missing_extra_is_one_line(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install 'medregion\[ocr\]'") as caught:
        outcome(tmp_path, root, burned_in="flag")
    assert "\n" not in str(caught.value)


def test_a_library_of_the_system_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "libGL.so.1: cannot open shared object file: No such file or directory"
    (tmp_path / "rapidocr_onnxruntime.py").write_text(f"raise ImportError({said!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "rapidocr_onnxruntime", raising=False)
    with pytest.raises(UserError, match=r"libGL\.so\.1.*apt-get install libgl1"):
        TextFinder(tmp_path / "results.sqlite")


def test_a_mistyped_policy_is_an_error_that_lists_the_right_ones() -> None:
    with pytest.raises(UserError, match=r"flag.*mask.*reject"):
        parse(SourceConfig, {"adapter": "table", "root": "x", "burned_in": "hide"}, "ingest.sources.here")


def test_masked_pixels_are_what_every_later_reader_sees(tmp_path: Path, root: Path, finder: TextFinder) -> None:
    summary, images, rejected = outcome(tmp_path, root, burned_in="mask")
    assert summary["burned_in_text"] == {"hidden": 1}
    assert not any("DICOM" in sentence for sentence in summary["warnings"])
    assert {path: row["reason"] for path, row in rejected.items()} == {"stated.dcm": "burned_in_text_remains"}
    (row,) = (row for row in IMAGES.read(tmp_path / "out" / "images.parquet") if row.path == "text.png")
    stored = decode((root / "text.png").read_bytes())
    expected = painted_over(stored, row.hidden)
    assert row.burned_in == "hidden"
    assert row.pixel_sha256 == pixel_sha256(expected) != pixel_sha256(stored)
    assert row.thumbnail == thumbnail(expected)
    columns = {name: getattr(row, name) for name in IMAGES.columns if name not in ("thumbnail", "split")}
    split_row = SplitImageRow(**columns, group="g", split="train", leak=False)
    seen = open_raw(Sources(roots={"here": root}, max_pixels=1_000_000), split_row)
    assert seen.tobytes() == expected.tobytes()
    assert covers(row.hidden, PLACE, stored)
    assert split_row.pixel_key == [row.sha256, None, None, [list(box) for box in row.hidden]]
    assert replace(split_row, hidden=()).pixel_key == [row.sha256, None, None]  # no other key where nothing is hidden
    assert images["clean.png"]["hidden"] == []
    # The look before shows masked pixels, too, and takes the boxes from the cache.
    found = look("here", source(root, burned_in="mask"), None, tmp_path / "cache" / "results.sqlite")
    assert found.read.merger.burned_in == {"hidden": 1}
    assert {example.image.path: example.image.hidden for example in found.pictures}["text.png"] == row.hidden


def test_words_are_kept_nowhere(tmp_path: Path, root: Path, finder: TextFinder) -> None:
    outcome(tmp_path, root, burned_in="reject")
    written_files = [*(tmp_path / "out").iterdir(), *(tmp_path / "cache").iterdir(), *tmp_path.glob("*.json")]
    assert len(written_files) >= 6
    for file in written_files:
        assert b"DOE" not in file.read_bytes()
        assert b"JANE" not in file.read_bytes()

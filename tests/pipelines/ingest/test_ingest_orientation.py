"""Pictures with an EXIF orientation through the stage: boxes and masks in shown and in stored pixels; pages beside."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.geometry import box_of_mask
from models.orientation import turned
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.ingest.annotations import read_annotations
from pipelines.ingest.config import SourceConfig
from pipelines.ingest.record import Region, SourceRecord
from pipelines.masks import decode, encode
from pipelines.opened import open_file
from tests.pipelines.formats.test_orientation import exif
from tests.pipelines.ingest.test_ingest_stage import ingest, write_metadata

STORED = np.full((60, 100), 40, np.uint8)
STORED[10:40, 20:50] = 220  # x 20 to 50, y 10 to 40
SQUARE = STORED > 100


def xywh(mask: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = box_of_mask(mask)
    return [x0, y0, x1 - x0, y1 - y0]


def source(root: Path, orientation: int, **row: Any) -> None:
    root.mkdir(exist_ok=True)
    Image.fromarray(STORED).save(root / "a.jpg", exif=exif(orientation), quality=95)
    write_metadata(root, [{"file_name": "a.jpg", **row}])


def region(tables: dict[str, list[dict[str, Any]]]) -> tuple[Any, ...]:
    (found,) = tables["annotations"]
    return found["x0"], found["y0"], found["x1"], found["y1"]


def test_a_box_is_drawn_in_what_viewers_show(tmp_path: Path) -> None:
    source(tmp_path / "root", 6, objects=[{"bbox": [20, 20, 30, 30], "label": "lesion"}])
    summary, tables = ingest(tmp_path)
    (image,) = tables["images"]
    assert (image["width"], image["height"], region(tables)) == (60, 100, (20, 20, 50, 50))
    assert (summary["turned"], summary["clipped_boxes"]) == (1, 0)
    source(tmp_path / "root", 6, objects=[{"bbox": [5, 10, 30, 80], "label": "lesion"}])
    summary, tables = ingest(tmp_path)
    assert (region(tables), summary["clipped_boxes"]) == ((5, 10, 35, 90), 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pixels", ["shown", "stored"])
def test_boxes_and_masks_lie_on_the_square_that_they_mark(tmp_path: Path, orientation: int, pixels: Any) -> None:
    shown = turned(SQUARE, orientation)
    given = SQUARE if pixels == "stored" else shown
    root = tmp_path / "root"
    source(root, orientation, objects=[{"bbox": xywh(given)}, {"mask": "m.png"}])
    Image.fromarray(given).save(root / "m.png")
    summary, tables = ingest(tmp_path, annotated_pixels=pixels)
    (image,) = tables["images"]
    assert (image["height"], image["width"]) == shown.shape
    assert summary["turned"] == (orientation != 1)
    boxed, masked = tables["annotations"]
    assert (boxed["x0"], boxed["y0"], boxed["x1"], boxed["y1"]) == box_of_mask(shown)
    np.testing.assert_array_equal(decode(masked["mask"], *shown.shape), shown)


@pytest.mark.parametrize("pixels", ["shown", "stored"])
def test_a_mask_with_an_orientation_of_its_own_is_turned_by_it(tmp_path: Path, pixels: Any) -> None:
    source(tmp_path / "root", 6, mask="m.png")
    Image.fromarray(SQUARE).save(tmp_path / "root/m.png", exif=exif(6))
    _, tables = ingest(tmp_path, annotated_pixels=pixels)
    shown = turned(SQUARE, 6)
    np.testing.assert_array_equal(decode(tables["annotations"][0]["mask"], *shown.shape), shown)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_codes_of_stored_pixels_are_turned_too(tmp_path: Path, orientation: int) -> None:
    source(tmp_path, orientation)
    shown = turned(SQUARE, orientation)
    region = Region(label="lesion", rle=encode(SQUARE), rle_size=(100, 60))
    record = SourceRecord(row="1", name="a.jpg", modality="other", regions=(region,))
    size = shown.shape[1], shown.shape[0]
    found = read_annotations(tmp_path, record, open_file(tmp_path, "a.jpg"), *size, 10_000, orientation)
    assert found.regions[0].mask is not None
    np.testing.assert_array_equal(decode(found.regions[0].mask.rle, *shown.shape), shown)


def test_a_mask_of_stored_pixels_does_not_fit_what_is_shown(tmp_path: Path) -> None:
    source(tmp_path / "root", 6, mask="m.png")
    Image.fromarray(SQUARE).save(tmp_path / "root/m.png")
    with pytest.raises(UserError, match="mask_size_differs, mask of 100 x 60, image of 60 x 100 pixels"):
        ingest(tmp_path)


def test_a_mistyped_setting_is_an_error() -> None:
    with pytest.raises(UserError, match=r"annotated_pixels.*'shown' or 'stored'"):
        parse(SourceConfig, {"adapter": "table", "root": "x", "annotated_pixels": "seen"}, "ingest.sources.x")


def test_pages_that_no_row_names_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    pages = [Image.fromarray(np.roll(STORED, shift)) for shift in (0, 7, 19)]
    for name in ("stack.tif", "clip.gif"):
        pages[0].save(root / name, save_all=True, append_images=pages[1:])
    Image.fromarray(np.roll(STORED, 30)).save(root / "one.tif")
    write_metadata(root, [{"file_name": name} for name in ("stack.tif", "clip.gif", "one.tif")])
    summary, tables = ingest(tmp_path)
    assert summary["left_out"] == {"further_page": 4}
    # The first pages of both files are one picture.
    named = {(image["path"], image["frame"]) for image in tables["images"]}
    assert named == {("stack.tif", None), ("one.tif", None)}
    summary, tables = ingest(tmp_path, options={"frames": "all", "pages_are_frames": True})
    assert summary["left_out"] == {}
    named = {(image["path"], image["frame"]) for image in tables["images"]}
    assert named == {("stack.tif", 0), ("stack.tif", 1), ("stack.tif", 2), ("one.tif", None)}
    write_metadata(root, [{"file_name": "clip.gif", "frame": 1}])
    summary, tables = ingest(tmp_path)
    assert (summary["left_out"], tables["images"][0]["frame"]) == ({}, 1)

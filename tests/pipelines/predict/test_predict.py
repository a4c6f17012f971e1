"""`flows.predict` on small real files and real checkpoints."""

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from flows.predict import main
from models.verified import verify_folder
from pipelines.errors import UserError


def rows(out: str, table: str) -> list[dict]:
    if table in ("scores", "maps"):
        with Path(out, f"{table}.csv").open(newline="") as stream:
            return list(csv.DictReader(stream))
    return pyarrow.parquet.read_table(Path(out, f"{table}.parquet")).to_pylist()


def test_every_kind_of_file_has_its_row_and_the_counts_add_up(
    place: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(str(models / "clip"), "scans", "--out", "out", "--text", "red", "left upper", "--labels", "green", "blue")
    images = rows("out", "images")
    outcomes = {(row["file_name"], row["member"], row["frame"]): row["reason"] or row["status"] for row in images}
    assert outcomes == {
        ("scans/elsewhere", None, None): "linked_folder",
        ("scans/empty.png", None, None): "empty_file",
        ("scans/grey.png", None, None): "ok",
        ("scans/more.zip", "deep/broken.png", None): "truncated",
        ("scans/more.zip", "deep/inside.png", None): "ok",
        ("scans/notes.txt", None, None): "unsupported_type",
        ("scans/one.dcm", None, None): "ok",
        ("scans/pages.tif", None, 0): "ok",
        ("scans/pages.tif", None, 1): "ok",
        ("scans/sub/colour.jpg", None, None): "ok",
        ("scans/two.dcm", None, 0): "ok",
        ("scans/two.dcm", None, 1): "ok",
        **{("scans/volume.nii.gz", None, frame): "ok" for frame in range(3)},
    }
    assert [row["number"] for row in images] == list(range(15))
    summary = json.loads(Path("out/predict.json").read_text())
    assert (summary["inputs"], summary["ok"], summary["rejected"], summary["failed"]) == (15, 11, 4, 0)
    assert capsys.readouterr().out.startswith("out: 11 ok; 4 rejected (linked_folder 1, empty_file 1, truncated 1")
    by_place = dict(zip(outcomes, images, strict=True))
    same = [by_place["scans/grey.png", None, None], by_place["scans/more.zip", "deep/inside.png", None]]
    assert same[0]["image_embedding"] == same[1]["image_embedding"]
    assert np.linalg.norm(same[0]["image_embedding"]) == pytest.approx(1, abs=1e-5)
    # Ranked texts: the cosine of the embeddings that stand beside them, the best first.
    texts = {row["text"]: np.array(row["text_embedding"]) for row in rows("out", "texts")}
    scores = [row for row in rows("out", "scores") if row["number"] == "2" and row["kind"] == "text"]
    cosines = {text: float(np.array(images[2]["image_embedding"]) @ vector) for text, vector in texts.items()}
    assert [row["text"] for row in scores] == sorted(cosines, key=cosines.__getitem__, reverse=True)
    assert {row["text"]: float(row["score"]) for row in scores} == pytest.approx(cosines, abs=1e-6)
    labels = [row for row in rows("out", "scores") if row["number"] == "2" and row["kind"] == "label"]
    assert [row["rank"] for row in labels] == ["1", "2"]
    # Two texts for each of 11 images.
    maps = rows("out", "maps")
    assert len(maps) == 22
    for row in maps:
        picture, overlay = Image.open(Path("out", row["heat_map"])), Image.open(Path("out", row["overlay"]))
        size = (images[int(row["number"])]["width"], images[int(row["number"])]["height"])
        assert (picture.mode, picture.size, overlay.mode, overlay.size) == ("L", size, "RGB", size)
        assert float(row["heat_least"]) < float(row["heat_greatest"])
        assert (np.asarray(picture).min(), np.asarray(picture).max()) == (0, 255)
    verify_folder(Path("out"))


def test_a_table_names_images_texts_and_frames(place: Path, models: Path) -> None:
    lines = [
        "file_name,text,frame",
        "grey.png,Red left.,",
        "volume.nii.gz,,2",
        "volume.nii.gz,n/a,9",
        "more.zip/deep/inside.png,green,",
        "../params.yaml,,",
        ",green,",
        "grey.png,red",
    ]
    Path("scans/table.csv").write_text("\n".join(lines))
    main(str(models / "clip"), "scans/table.csv", "--out", "out", "--outputs", "similarity", "heat_map")
    images = rows("out", "images")
    outcomes = [(row["file_name"], row["member"], row["frame"], row["reason"] or row["status"]) for row in images]
    assert outcomes == [
        ("scans/grey.png", None, None, "ok"),
        ("scans/volume.nii.gz", None, 2, "ok"),
        ("scans/volume.nii.gz", None, 9, "missing_frame"),
        ("scans/more.zip", "deep/inside.png", None, "ok"),
        ("scans/../params.yaml", None, None, "path_outside_root"),
        ("table.csv:7", None, None, "missing_file_name"),
        ("table.csv:8", None, None, "bad_row"),
    ]
    assert [row["image_embedding"] for row in images] == [None] * 7  # it was not asked for
    found = {(row["number"], row["kind"], row["text"]) for row in rows("out", "scores")}
    assert found == {("0", "own_text", "Red left."), ("3", "own_text", "green")}
    assert [(row["number"], row["text"]) for row in rows("out", "maps")] == [("0", "Red left."), ("3", "green")]
    assert not Path("out/texts.parquet").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet"])
def test_regions_of_a_file_are_embedded_and_ranked(place: Path, models: Path, kind: str) -> None:
    mask = np.zeros((24, 40), np.uint8)
    mask[4:20, 10:30] = 255
    Image.fromarray(mask).save("scans/mask.png")
    given = [
        {"file_name": "grey.png", "x0": 10, "y0": 4, "x1": 30, "y1": 20, "mask": None},
        {"file_name": "more.zip/deep/inside.png", "x0": None, "y0": None, "x1": None, "y1": None, "mask": "mask.png"},
        {"file_name": "nobody.png", "x0": 0, "y0": 0, "x1": 1, "y1": 1, "mask": None},
    ]
    file = Path(f"scans/regions.{kind}")
    if kind == "csv":
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, given[0])
            writer.writeheader()
            writer.writerows(given)
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), file)
    else:
        lines = [json.dumps(row) for row in given]
        file.write_text("\n".join(lines) if kind == "jsonl" else f"[{','.join(lines)}]")
    main(str(models / "regionmed_clip"), "scans/grey.png", "scans/more.zip", "--regions", str(file), "--out", "out")
    regions = rows("out", "regions")
    assert [(row["file_name"], row["member"], row["region"]) for row in regions] == [
        ("scans/grey.png", None, 0),
        ("scans/more.zip", "deep/inside.png", 0),
    ]
    assert regions[0]["region_embedding"] == regions[1]["region_embedding"]
    assert [regions[1][edge] for edge in ("x0", "y0", "x1", "y1")] == [10, 4, 30, 20]
    assert json.loads(Path("out/predict.json").read_text())["regions_of_no_input"] == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("grey.png,1,2,three,4", r"regions\.csv:2: bad_box"),
        ("grey.png,5,2,5,4", r"regions\.csv:2: bad_box: .* has no area"),
        ("grey.png,5,2,,4", r"regions\.csv:2: bad_box: x1 is missing"),
        (",5,2,9,4", r"regions\.csv:2: missing_file_name"),
    ],
)
def test_a_region_that_cannot_be_read_ends_the_command(place: Path, models: Path, line: str, message: str) -> None:
    Path("scans/regions.csv").write_text(f"file_name,x0,y0,x1,y1\n{line}\n")
    with pytest.raises(UserError, match=message):
        main(str(models / "clip"), "scans/grey.png", "--regions", "scans/regions.csv", "--out", "out")


def test_a_region_outside_of_its_image_rejects_the_image_with_its_other_regions(place: Path, models: Path) -> None:
    Path("scans/regions.csv").write_text("file_name,x0,y0,x1,y1\ngrey.png,0,0,9,9\ngrey.png,40,0,50,9\n")
    main(str(models / "clip"), "scans/grey.png", "scans/one.dcm", "--regions", "scans/regions.csv", "--out", "out")
    assert [row["reason"] for row in rows("out", "images")] == ["bad_box", None]


def test_masks_are_of_the_size_of_the_images(place: Path, models: Path) -> None:
    main(str(models / "unet"), "scans/grey.png", "scans/volume.nii.gz", "--frame", "1", "--out", "out")
    maps = rows("out", "maps")
    assert [(row["file_name"], row["frame"]) for row in maps] == [("scans/grey.png", ""), ("scans/volume.nii.gz", "1")]
    sizes = [Image.open(Path("out", row["mask"])).size for row in maps]
    # The volume's first axis runs to the left, its second to the back: 24 columns and 40 rows.
    assert sizes == [(40, 24), (24, 40)]
    assert set(np.unique(np.asarray(Image.open(Path("out", maps[0]["mask"]))))) <= {0, 255}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("unet", ["--text", "red"], "UNet reads no text: leave --text out; it gives mask"),
        ("unet", ["--labels", "red"], "UNet cannot rank labels, .*; it gives mask"),
        ("unet", ["--regions", "regions.csv"], "UNet does not look at regions: .*; it gives mask"),
        ("clip", ["--outputs", "mask"], "Clip gives no mask; it gives image_embedding, text_embedding"),
        ("clip", ["--outputs", "masks"], "--outputs masks: choose from image_embedding"),
        ("clip", ["--outputs", "heat_map"], "--outputs heat_map needs a text: give --text, or a table"),
        ("clip", ["--outputs", "similarity", "heat_map", "--labels", "a"], "--outputs similarity needs a text"),
        (
            "clip",
            ["--labels", "No Finding"],
            "No Finding is the absence of the other labels: name at least one",
        ),
        ("clip", ["--text", "\udc80"], "--text or --labels: half a surrogate pair"),
    ],
)
def test_what_a_method_does_not_offer_is_one_line(
    place: Path, models: Path, model: str, options: list[str], message: str
) -> None:
    Path("regions.csv").write_text("file_name,x0,y0,x1,y1\nscans/grey.png,0,0,5,5\n")
    with pytest.raises(UserError, match=message) as told:
        main(str(models / model), "scans/grey.png", "--out", "out", *options)
    assert "\n" not in str(told.value)
    assert not Path("out").exists()


def test_a_second_run_replaces_the_first_and_nothing_else(place: Path, models: Path) -> None:
    main(str(models / "clip"), "scans", "--out", "out", "--text", "red")
    first = {file.relative_to("out"): file.read_bytes() for file in Path("out").rglob("*") if file.is_file()}
    main(str(models / "clip"), "scans", "--out", "out", "--text", "red")
    second = {file.relative_to("out"): file.read_bytes() for file in Path("out").rglob("*") if file.is_file()}
    assert first.keys() == second.keys()
    # The summary has the seconds, SHA256SUMS its digest.
    assert {str(name) for name in first if first[name] != second[name]} <= {"predict.json", "SHA256SUMS"}
    main(str(models / "clip"), "scans/grey.png", "--out", "out")
    assert not Path("out/heat_maps").exists()
    with pytest.raises(UserError, match="no prediction: 0 ok; 1 rejected"):
        main(str(models / "clip"), "scans/notes.txt", "--out", "out")
    assert [row["reason"] for row in rows("out", "images")] == ["unsupported_type"]


@pytest.mark.parametrize(("out", "message"), [("scans", "something else"), ("scans/sub/out", "lie in each other")])
def test_results_never_replace_other_files(place: Path, models: Path, out: str, message: str) -> None:
    before = sorted(Path("scans").rglob("*"))
    with pytest.raises(UserError, match=message):
        main(str(models / "clip"), "scans", "--out", out)
    assert sorted(Path("scans").rglob("*")) == before


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["scans/nothing.png"], r"scans/nothing\.png not found"),
        (["scans/listing.csv"], r"has no column file_name.*: rename 'image'"),
    ],
)
def test_mistakes_are_one_line(place: Path, models: Path, names: list[str], message: str) -> None:
    Path("scans/listing.csv").write_text("image,text\ngrey.png,red\n")
    with pytest.raises(UserError, match=message):
        main(str(models / "clip"), *names, "--out", "out")

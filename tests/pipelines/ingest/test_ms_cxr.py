"""MS-CXR beside images of MIMIC-CXR-JPG, as CSV and as JSON; ids and sentences are invented."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.ingest.record import Region
from pipelines.ingest.sources.ms_cxr import MsCxr
from tests.pipelines.ingest.chest_layouts import ingest, looked, rows, save, write

LISTING = "MS_CXR_Local_Alignment_v1.1.0"
COLUMNS = "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,split"
ONE = "files/p10/p10000001/s50000001/aaaa-1.jpg"
TWO = "files/p19/p19000002/s50000003/cccc-1.jpg"
BOXES = [
    (ONE, "Pneumonia", "patchy opacity on the left", (400, 300, 200, 100), "train"),
    (TWO, "Edema", "mild edema on both sides", (10, 20, 100, 200), "test"),
    (TWO, "Edema", "mild edema on both sides", (210, 20, 100, 200), "test"),
    (TWO, "Cardiomegaly", "The heart is enlarged.", (100, 150.5, 150, 100), "test"),
]


def line(path: str, category: str, text: str, box: tuple[float, ...], split: str | None) -> str:
    values = [Path(path).stem, category, text, path, *map(str, box), "800", "600", *([] if split is None else [split])]
    return ",".join(values)


def table(*lines: str, columns: str = COLUMNS) -> str:
    return "".join(f"{text}\n" for text in (columns, *lines))


def coco(with_split: bool = True) -> dict[str, Any]:
    names = ["Pneumonia", "Edema", "Cardiomegaly"]
    return {
        "images": [
            {"id": n, "file_name": Path(path).name, "path": path, "width": 800, "height": 600}
            for n, path in enumerate((ONE, TWO))
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names)],
        "annotations": [
            {
                "id": n,
                "image_id": (ONE, TWO).index(path),
                "category_id": names.index(category),
                "label_text": text,
                "bbox": list(box),
                **({"split": split} if with_split else {}),
            }
            for n, (path, category, text, box, split) in enumerate(BOXES)
        ],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "ms"
    write(root / f"{LISTING}.csv", table(*(line(*box) for box in BOXES)))
    write(root / f"{LISTING}.json", json.dumps(coco()))
    save(root / ONE, 1, 80, 60)  # resized to a tenth
    save(root / TWO, 2, 800, 600)
    return root


def region(label: str, phrase: str, *box: float) -> Region:
    return Region(label=label, phrase=phrase, box=box, box_size=(800, 600))  # type: ignore[arg-type]


def test_the_layout(root: Path) -> None:
    records, rejected = rows("ms_cxr", root)
    assert rejected == []
    one, two = records
    assert (one.row, one.name, one.patient, one.split) == (f"{LISTING}.csv:2", ONE, "10000001", "train")
    assert (two.row, two.name, two.patient, two.split) == (f"{LISTING}.csv:3", TWO, "19000002", "test")
    assert (one.labels, one.report) == (("Pneumonia",), "patchy opacity on the left.")
    assert two.labels == ("Edema", "Cardiomegaly")
    assert two.report == "mild edema on both sides. The heart is enlarged."
    assert one.regions == (region("Pneumonia", "patchy opacity on the left", 400, 300, 600, 400),)
    assert two.regions == (
        region("Edema", "mild edema on both sides", 10, 20, 110, 220),
        region("Edema", "mild edema on both sides", 210, 20, 310, 220),
        region("Cardiomegaly", "The heart is enlarged.", 100, 150.5, 250, 250.5),
    )


def test_csv_and_json_say_the_same(root: Path) -> None:
    in_csv, _ = rows("ms_cxr", root)
    (root / f"{LISTING}.csv").unlink()
    in_json, rejected = rows("ms_cxr", root)
    assert rejected == []
    assert [record.row for record in in_json] == [f"{LISTING}.json:0", f"{LISTING}.json:1"]
    said = [[vars(record) | {"row": None} for record in records] for records in (in_csv, in_json)]
    assert said[0] == said[1]


def test_annotations_in_json_that_cannot_be_used(root: Path) -> None:
    (root / f"{LISTING}.csv").unlink()
    broken = coco()
    first, second, third, fourth = broken["annotations"]
    first["bbox"] = [1, 2, 3]
    broken["annotations"] = [first, {**second, "image_id": 7}, "text", {**third, "label_text": 5}, fourth]
    write(root / f"{LISTING}.json", json.dumps(broken))
    records, rejected = rows("ms_cxr", root)
    places = [f"{LISTING}.json:{number}" for number in range(5)]
    assert rejected == [(places[1], "bad_row"), (places[2], "bad_row"), (places[0], "bad_box")]
    assert [(record.row, record.report) for record in records] == [(places[3], "5. The heart is enlarged.")]


def test_version_1_0_0_has_no_split(root: Path) -> None:
    for file in root.glob("*.*"):
        file.unlink()
    for text in (table(*(line(*box[:4], None) for box in BOXES), columns=COLUMNS.removesuffix(",split")), None):
        name = f"MS_CXR_Local_Alignment_v1.0.0.{'csv' if text else 'json'}"
        write(root / name, text or json.dumps(coco(with_split=False)))
        records, rejected = rows("ms_cxr", root)
        assert [record.split for record in records] == [None, None]
        assert rejected == []
        (root / name).unlink()


def test_a_split_that_does_not_count(root: Path) -> None:
    records, _ = rows("ms_cxr", root, published_split=False)
    assert [record.split for record in records] == [None, None]


def test_the_tables_and_what_inspect_says(root: Path, tmp_path: Path) -> None:
    summary, tables = ingest(tmp_path, "ms_cxr", root)
    assert (summary["inputs"], summary["ok"], summary["annotations"]) == (2, 2, 4)
    boxes = {(row["label"], row["x0"], row["y0"], row["x1"], row["y1"]) for row in tables["annotations"]}
    assert ("Pneumonia", 40, 30, 60, 40) in boxes  # a tenth of what the listing says
    assert ("Cardiomegaly", 100, 150.5, 250, 250.5) in boxes
    assert {image["sides"] for image in tables["images"]} == {"patient"}
    found = looked("ms_cxr", root)
    assert (found.rows, found.without_text, found.patients) == (2, 0, 2)
    assert {c.profile.name for c in found.columns if not c.is_used} == {"dicom_id"}
    assert found.counts["splits"] == {"test": 1, "train": 1}
    assert found.read.listed.files.suffixes == {".json": 1}


def test_rows_that_cannot_be_used(root: Path) -> None:
    one, two, three, four = (line(*box) for box in BOXES)
    lines = [
        one.replace(ONE, f"../{ONE}"),
        one.replace(ONE, ""),
        *(one.replace("aaaa-1.jpg", f"aaaa-{n}.jpg") for n in range(2, 8)),
        two,
        three.replace("210,20,100,200", "210,20,0,200"),
        four,
    ]
    faults = [
        ("400,300", "left,300"),
        ("400,300", ",300"),
        (",train", ",holdout"),
        ("Pneumonia", ""),
        (",800,600", ",0,600"),
    ]
    lines[2:7] = [text.replace(*fault) for text, fault in zip(lines[2:7], faults, strict=True)]
    for n in range(2, 7):
        save(root / ONE.replace("aaaa-1", f"aaaa-{n}"), n)
    write(root / f"{LISTING}.csv", table(*lines))
    records, rejected = rows("ms_cxr", root)
    assert records == []
    listed = [(int(place.rpartition(":")[2]), reason) for place, reason in rejected]
    assert listed == [
        (2, "missing_file_name"),
        (3, "missing_file_name"),
        (4, "bad_box"),
        (5, "bad_box"),
        (6, "unknown_split"),
        (7, "bad_row"),
        (8, "bad_box"),
        (9, "missing_file"),
        (11, "bad_box"),  # the image has two other boxes, and is rejected as a whole
    ]
    write(root / f"{LISTING}.csv", table(two, three.replace(",test", ",val"), one))
    assert rows("ms_cxr", root)[1] == [(f"{LISTING}.csv:2", "unknown_split")]


def test_where_listing_and_images_lie(root: Path, tmp_path: Path) -> None:
    expected, _ = rows("ms_cxr", root)
    physionet = tmp_path / "physionet"
    (physionet / "ms-cxr").mkdir(parents=True)
    shutil.move(root / f"{LISTING}.csv", physionet / "ms-cxr")
    shutil.move(root, physionet / "mimic-cxr-jpg")
    options = {"listing": f"ms-cxr/{LISTING}.csv", "images": "mimic-cxr-jpg"}
    records, _ = rows("ms_cxr", physionet, **options)
    assert [r.name for r in records] == [f"mimic-cxr-jpg/{record.name}" for record in expected]
    (physionet / "mimic-cxr-jpg" / TWO).unlink()
    assert rows("ms_cxr", physionet, **options)[1] == [(f"ms-cxr/{LISTING}.csv:3", "missing_file")]
    source = MsCxr(physionet, options | {"only_present": True})
    assert [item.row for item in source.records()] == [f"ms-cxr/{LISTING}.csv:2"]
    assert source.warnings == ["rows whose image is not under the root, which options.only_present leaves out: 1"]
    with pytest.raises(UserError, match=r"should hold MS_CXR_Local_Alignment_v1\.1\.0\.csv .* and has none"):
        MsCxr(physionet, {})


def test_listings_that_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"options\.image: unknown key; did you mean 'images'"):
        MsCxr(root, {"image": "x"})
    write(root / f"{LISTING}.csv", "path,x\na,1\n")
    with pytest.raises(UserError, match=r"v1\.1\.0\.csv has no column category_name, label_text, y"):
        list(MsCxr(root, {}).records())
    write(root / f"{LISTING}.json", json.dumps({"images": []}))
    with pytest.raises(UserError, match=r"v1\.1\.0\.json is not COCO's JSON"):
        list(MsCxr(root, {"listing": f"{LISTING}.json"}).records())
    write(root / "MS_CXR_Local_Alignment_v1.0.0.csv", table())
    with pytest.raises(UserError, match=r"has 2 of them .*: name the file in options\.listing"):
        MsCxr(root, {})

"""Sources of texts for segmentation: prompts in JSON lists, and MosMedData+ in LViT's layout."""

import dataclasses
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig, SourceConfig
from pipelines.ingest.record import SourceRecord, UnusableRow
from pipelines.ingest.sources.lvit import Lvit
from pipelines.ingest.sources.prompt_json import PromptJson
from pipelines.ingest.stage import run
from pipelines.records import ANNOTATIONS, IMAGES, REJECTED
from pipelines.shards.target import segmentation_target
from tests.pipelines.ingest.layouts import same_from_a_zip
from tests.pipelines.shards.conftest import region_row, split_image_row
from tests.rows import values_of

POLYPS = {"modality": "endoscopy", "label": "polyp"}
P6 = "one small pink circle polyp, located in right of the image"


def ingest(tmp_path: Path, adapter: str, root: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    source = SourceConfig(adapter=adapter, root=str(root), options=options, patient_ids="public")
    config = IngestConfig(sources={adapter: source}, max_pixels=1_000_000, max_failed_fraction=0.0)
    summary = run(adapter, config, tmp_path / "out", tmp_path)
    tables = {"images": IMAGES, "annotations": ANNOTATIONS, "rejected": REJECTED}
    return summary, {name: values_of(table, tmp_path / "out" / f"{name}.parquet") for name, table in tables.items()}


def target_of(image: dict[str, Any], *outlines: np.ndarray, label: str | None = None) -> np.ndarray | None:
    """The segmentation target of an ingested image with regions of these outlines."""
    row = split_image_row(image["image_id"], image["source"], "a.png", image["width"], image["height"], "train")
    labels = None if image["labels"] is None else tuple(image["labels"])
    regions = [
        region_row(image["image_id"], image["source"], n, "input", outline, label=label)
        for n, outline in enumerate(outlines)
    ]
    return segmentation_target(dataclasses.replace(row, labels=labels), regions)


def sorted_out(source: Any) -> tuple[list[SourceRecord], list[tuple[str, str]]]:
    items = list(source.records())
    records = [item for item in items if isinstance(item, SourceRecord)]
    return records, [(item.row, item.reason) for item in items if isinstance(item, UnusableRow)]


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def mask(*columns: int) -> np.ndarray:
    """White in these columns."""
    values = np.zeros((20, 30), np.uint8)
    values[5:10, columns] = 255
    return values


def entry(name: str, mask_name: str | None = None, **changes: Any) -> dict[str, Any]:
    prompts = {"p0": "", "p1": "polyp", "p6": P6, "p7": ["first of seven", "second of seven"], "p9": []}
    values = {"bbox": [3, 5, 8, 10], "img_name": name, "mask_name": mask_name or name, "segment_id": 0}
    return values | {"prompts": prompts} | changes


def write(root: Path, entries: list[Any], file: str = "anns/train.json") -> None:
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(json.dumps(entries))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three splits of one picture each."""
    folder = tmp_path / "root"
    for seed, (file, name) in enumerate([("train", "a.png"), ("val", "b.png"), ("test", "c.png")]):
        write(folder, [entry(name)], f"anns/{file}.json")
        save(folder / "images" / name, picture(seed))
        save(folder / "masks" / name, mask(3, 4, 5, 6, 7))
    return folder


def test_one_record_a_picture(root: Path) -> None:
    records, rejected = sorted_out(PromptJson(root, POLYPS))
    assert rejected == []
    assert records[1:2] == [
        SourceRecord(
            row="anns/val.json:0",
            name="images/b.png",
            split="validation",
            modality="endoscopy",
            report=P6,
            mask="masks/b.png",
            mask_label="polyp",
        )
    ]
    assert [(record.name, record.split) for record in records] == [
        ("images/a.png", "train"),
        ("images/b.png", "validation"),
        ("images/c.png", "test"),
    ]


def test_the_prompt_is_chosen_and_a_blank_one_is_no_report(root: Path) -> None:
    def reports(prompt: str) -> set[str | None]:
        records, rejected = sorted_out(PromptJson(root, POLYPS | {"prompt": prompt}))
        return {record.report for record in records} | {reason for _, reason in rejected}

    assert reports("p1") == {"polyp"}
    assert reports("p7") == {"first of seven"}
    assert reports("p0") == {None}
    # An empty list, and one that is not there.
    assert reports("p9") == reports("p5") == {"missing_prompt"}


def test_segments_with_masks_of_their_own_are_regions(root: Path, tmp_path: Path) -> None:
    save(root / "masks" / "a_1.png", mask(20, 21))
    other = {"p6": "one large polyp, located in left of the image"}
    write(root, [entry("a.png"), entry("a.png", "a_1.png", segment_id=1, prompts=other, bbox=None)])
    records, rejected = sorted_out(PromptJson(root, POLYPS))
    assert rejected == []
    record = records[0]
    assert (record.row, record.mask, record.labels) == ("anns/train.json:0", None, ("polyp",))
    assert record.report == f"{P6}. {other['p6']}"
    _, tables = ingest(tmp_path / "work", "prompt_json", root, POLYPS)
    (image,) = (image for image in tables["images"] if image["path"] == "images/a.png")
    regions = [region for region in tables["annotations"] if region["image_id"] == image["image_id"]]
    assert [(region["mask_path"], region["label"], region["phrase"]) for region in regions] == [
        ("masks/a.png", "polyp", P6),
        ("masks/a_1.png", "polyp", other["p6"]),
    ]
    # What is to be found is all of them together.
    outlines = [mask(*columns) > 0 for columns in ((3, 4), (20, 21))]
    assert np.array_equal(target_of(image, *outlines, label="polyp"), mask(3, 4, 20, 21) > 0)


def test_segments_that_share_a_mask_are_one(root: Path) -> None:
    write(root, [entry("a.png"), entry("a.png", segment_id=1), entry("a.png", segment_id=2, prompts={"p6": "More"})])
    records, rejected = sorted_out(PromptJson(root, POLYPS))
    assert (records[0].mask, records[0].regions, records[0].report) == ("masks/a.png", (), f"{P6}. More")
    assert (len(records), rejected) == (3, [])


def test_entries_that_cannot_be_used(root: Path) -> None:
    bad = [
        entry("a.png"),
        entry("a.png"),
        entry("a.png", segment_id=3, bbox=[1, 2, 3]),
        entry("a.png", segment_id=3, bbox=[1, 2, 3, "4"]),
        entry("a.png", segment_id=3, bbox=[9, 2, 3, 4]),
        entry("a.png", segment_id=3, bbox="1,2,3,4"),
        entry("a.png", segment_id=3, bbox=[1, 2, float("nan"), 4]),
        entry("a.png", segment_id=3, prompts={"p1": "polyp"}),
        entry("a.png", segment_id=3, prompts={"p6": 6}),
        entry("a.png", segment_id=3, prompts="polyp"),
        entry("a.png", img_name=None),
        entry("a.png", mask_name=["a.png"]),
        {"img_name": "a.png"},
        "a.png",
        entry("../a.png"),
        entry("/etc/hostname"),
        entry("a.png", "../../b.png"),
    ]
    write(root, bad)
    save(root / "images" / "unlisted.png", picture(7))
    records, rejected = sorted_out(PromptJson(root, POLYPS))
    assert [record.name for record in records] == ["images/a.png", "images/b.png", "images/c.png"]
    assert rejected == [
        ("anns/train.json:1", "repeated_entry"),
        *((f"anns/train.json:{number}", "bad_box") for number in range(2, 7)),
        *((f"anns/train.json:{number}", "missing_prompt") for number in range(7, 10)),
        *((f"anns/train.json:{number}", "bad_row") for number in range(10, 14)),
        *((f"anns/train.json:{number}", "path_outside_root") for number in range(14, 17)),
        ("images/unlisted.png", "unlisted_file"),
    ]


def test_files_that_the_stage_cannot_use(root: Path, tmp_path: Path) -> None:
    names = ("no_image.png", "no_mask.png", "coloured.png", "jpeg.png", "other_size.png", "empty.png")
    write(root, [entry("a.png"), *(entry(name) for name in names)])
    for seed, name in enumerate(names[1:]):
        save(root / "images" / name, picture(10 + seed))
    for name in (names[0], names[-1]):
        save(root / "masks" / name, mask())
    # As BKAI publishes its masks: red and green.
    save(root / "masks" / "coloured.png", np.dstack([mask(3), mask(4), mask()]))
    Image.fromarray(mask(3, 4)).save(root / "masks" / "jpeg.png", format="JPEG")
    save(root / "masks" / "other_size.png", mask(3)[:-1])
    summary, tables = ingest(tmp_path / "work", "prompt_json", root, POLYPS)
    assert {row["path"]: row["reason"] for row in tables["rejected"]} == {
        "images/no_image.png": "missing_file",
        "images/no_mask.png": "mask_missing_file",
        "images/coloured.png": "mask_unsupported_type",
        "images/other_size.png": "mask_size_differs",
    }
    assert (summary["inputs"], summary["ok"], summary["rejected"]) == (9, 5, 4)
    labels = {Path(image["path"]).stem: image["labels"] for image in tables["images"]}
    assert labels == {name: ["polyp"] for name in ("a", "b", "c", "jpeg")} | {"empty": []}


def test_a_listed_name_with_another_suffix_means_the_one_file_of_that_stem(root: Path, tmp_path: Path) -> None:
    """medvlsm lists .png for Kvasir-SEG, whose files are .jpg."""
    for kind, split in (("images", "a"), ("masks", "b"), ("images", "c"), ("masks", "c")):
        (root / kind / f"{split}.png").rename(root / kind / f"{split}.JPG")
    records, rejected = sorted_out(PromptJson(root, POLYPS))
    assert [(record.name, record.mask) for record in records] == [
        ("images/a.JPG", "masks/a.png"),
        ("images/b.png", "masks/b.JPG"),
        ("images/c.JPG", "masks/c.JPG"),
    ]
    assert rejected == []
    same_from_a_zip(PromptJson, root, POLYPS, tmp_path / "root.zip")
    summary, _ = ingest(tmp_path / "work", "prompt_json", root, POLYPS)
    assert (summary["ok"], summary["files"]["unlisted"]) == (3, 0)


def test_of_two_files_of_one_stem_neither_is_guessed(root: Path) -> None:
    for name in ("images/a", "masks/b"):
        for suffix in ("tif", "bmp"):
            (root / f"{name}.{suffix}").write_bytes((root / f"{name}.png").read_bytes())
        (root / f"{name}.png").unlink()
    (root / "images" / "c.tif").write_bytes((root / "images" / "c.png").read_bytes())
    records, rejected = sorted_out(PromptJson(root, POLYPS))
    # The file that has the listed name itself is meant, whatever lies beside it.
    assert [record.name for record in records] == ["images/c.png"]
    assert rejected == [
        ("anns/train.json:0", "several_images"),
        ("anns/val.json:0", "several_masks"),
        ("images/c.tif", "unlisted_file"),
    ]


def test_lists_of_other_images_are_told_with_the_reasons_counted(root: Path, tmp_path: Path) -> None:
    write(root, [entry(f"{number}.png") for number in range(5)])
    for file in ("val", "test"):
        write(root, [entry("a.png", "gone.png"), entry("../b.png"), "x"], f"anns/{file}.json")
    with pytest.raises(UserError) as caught:
        ingest(tmp_path / "work", "prompt_json", root, POLYPS)
    counts = "missing_file 5, bad_row 2, mask_missing_file 2, path_outside_root 2, unlisted_file 2; all are in"
    assert f"no image left of 13 rows in {root}: {counts}" in str(caught.value)
    rejected = values_of(REJECTED, tmp_path / "work" / "out" / "rejected.parquet")
    assert len(rejected) == 13


def test_a_picture_that_two_splits_list_goes_to_the_test_split(root: Path, tmp_path: Path) -> None:
    write(root, [entry("a.png"), entry("c.png")])
    summary, tables = ingest(tmp_path / "work", "prompt_json", root, POLYPS)
    assert summary["reasons"] == {"duplicates": {"same_file": 1}}
    (image,) = (image for image in tables["images"] if image["path"] == "images/c.png")
    assert (image["split"], image["split_conflict"], image["report"]) == ("test", True, P6)


def test_a_root_that_is_an_archive(root: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "root.zip", "w") as archive:
        for file in sorted(root.rglob("*.*")):
            archive.write(file, file.relative_to(root))
    in_folder, in_archive = (sorted_out(PromptJson(place, POLYPS)) for place in (root, tmp_path / "root.zip"))
    assert in_archive == in_folder
    summary, _ = ingest(tmp_path / "work", "prompt_json", tmp_path / "root.zip", POLYPS)
    assert summary["ok"] == 3


def test_other_names_and_mistakes_in_them(root: Path) -> None:
    (root / "images").rename(root / "pictures")
    (root / "anns" / "val.json").rename(root / "dev.json")
    options = POLYPS | {"images": "pictures/", "annotations": {"validation": "dev.json"}}
    records, rejected = sorted_out(PromptJson(root, options))
    assert [(record.name, record.mask, record.split) for record in records] == [
        ("pictures/b.png", "masks/b.png", "validation")
    ]
    assert rejected == [("pictures/a.png", "unlisted_file"), ("pictures/c.png", "unlisted_file")]
    frontal = {"modality": "radiograph", "label": "opacity", "view": "PA"}
    assert {
        record.view for record in sorted_out(PromptJson(root, frontal | {"annotations": options["annotations"]}))[0]
    } == {"frontal"}
    with pytest.raises(
        UserError, match=r"anns/val\.json cannot be read \(missing_file.*see options\.annotations"
    ) as gone:
        list(PromptJson(root, POLYPS).records())
    for text, message in (("{", "is not JSON"), ("{}", "should hold a list"), ("[" * 100_000, "is not JSON")):
        (root / "dev.json").write_text(text)
        with pytest.raises(UserError, match=rf"dev\.json {message}"):
            list(PromptJson(root, options).records())
    for wrong, message in [
        (POLYPS | {"annotations": {"val": "x.json"}}, "annotations: val is no split: choose from train"),
        (POLYPS | {"modality": "photo"}, "modality is none of radiograph"),
        (POLYPS | {"view": "above"}, "view is none of frontal"),
        (POLYPS | {"promt": "p1"}, r"options\.promt: unknown key; did you mean 'prompt'"),
        ({"modality": "endoscopy"}, r"options\.label: Field required"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            PromptJson(root, wrong)
        assert "\n" not in str(caught.value)
    assert "\n" not in str(gone.value)


NOTHING = "No pulmonary infection, zero infected areas."
SOMETHING = "Unilateral pulmonary infection, one infected areas, left lung and middle right lung."


@pytest.fixture
def mosmed(tmp_path: Path) -> Path:
    """MosMedData+ as it is published: a text file a split, with semicolons; masks have the names of the slices."""
    folders = {
        "Train": {
            "Jun_coronacases_case8_101": mask(3, 4),
            "Jun_radiopaedia_40_86625_0_case18_3": mask(9),
            "bjorke_7": mask(),
        },
        "Val": {"Morozov_study_0295_12": mask()},
        "Test": {"Jun_coronacases_case8_102": mask(5)},
    }
    for number, (folder, slices) in enumerate(folders.items()):
        lines = ["Image;text"]
        for seed, (stem, values) in enumerate(slices.items()):
            save(tmp_path / f"{folder}_Folder" / "img" / f"{stem}.png", picture(10 * number + seed))
            save(tmp_path / f"{folder}_Folder" / "labelcol" / f"{stem}.png", values)
            lines.append(f"{stem}.png;{SOMETHING if values.any() else NOTHING}")
        file = tmp_path / f"{folder}_Folder" / f"{folder}_text_MosMedData+ 1(in).csv"
        file.write_bytes("\ufeff".encode() + "\r\n".join(lines).encode() + b"\r\n")
    return tmp_path


CT = {"modality": "ct", "view": None}


def test_mosmed(mosmed: Path) -> None:
    records, rejected = sorted_out(Lvit(mosmed, CT))
    assert rejected == []
    found = {Path(record.name).stem: (record.split, record.patient, record.report, record.view) for record in records}
    assert found == {
        "Jun_coronacases_case8_101": ("train", "Jun_coronacases_case8", SOMETHING, None),
        "Jun_radiopaedia_40_86625_0_case18_3": ("train", "Jun_radiopaedia_40_86625_0_case18", SOMETHING, None),
        "bjorke_7": ("train", None, NOTHING, None),
        "Morozov_study_0295_12": ("validation", "Morozov_study_0295", NOTHING, None),
        "Jun_coronacases_case8_102": ("test", "Jun_coronacases_case8", SOMETHING, None),
    }
    assert {record.mask for record in records} == {record.name.replace("/img/", "/labelcol/") for record in records}


def test_an_empty_mask_of_mosmed_becomes_an_empty_target(mosmed: Path, tmp_path: Path) -> None:
    summary, tables = ingest(tmp_path / "work", "lvit", mosmed, CT)
    assert summary["ok"] == 5
    images = {Path(image["path"]).stem: image for image in tables["images"]}
    well, sick = images["bjorke_7"], images["Jun_coronacases_case8_101"]
    assert (well["labels"], well["report"]) == ([], NOTHING)
    assert (sick["labels"], sick["report"]) == (["pulmonary infection"], SOMETHING)
    assert images["Jun_coronacases_case8_102"]["patient"] == sick["patient"]
    of_well = [region for region in tables["annotations"] if region["image_id"] == well["image_id"]]
    assert of_well == []
    target = target_of(well)
    assert target is not None
    assert target.shape == (20, 30)
    assert not target.any()
    assert np.array_equal(target_of(sick, mask(3, 4) > 0, label="pulmonary infection"), mask(3, 4) > 0)
    # The same image without a mask: nobody said.
    assert target_of({**well, "labels": None}) is None

"""Pictures and masks in the layouts of Kvasir-SEG, ISIC, BUSI and Montgomery, and names that do not match."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.errors import Rejected, UserError
from pipelines.ingest.annotations import read_annotations
from pipelines.ingest.inspect.look import look, print_look
from pipelines.ingest.mask_names import MaskNames, stem_of
from pipelines.ingest.record import MarkedMask, SourceRecord
from pipelines.ingest.sources.image_mask_folders import ImageMaskFolders
from pipelines.masks import decode
from pipelines.opened import opened
from tests.pipelines.ingest.layouts import config, grey, ingest, mask, same_from_a_zip, save, sorted_out

POLYPS = {"modality": "endoscopy", "label": "polyp"}


def pixels(region: dict[str, Any]) -> np.ndarray:
    return decode(region["mask"], 20, 30)


def masks_of(record: SourceRecord) -> list[tuple[str | None, tuple[str, ...]]]:
    return [(marked.label, marked.files) for marked in record.masks]


def test_kvasir_as_it_is_published_has_no_split(tmp_path: Path) -> None:
    root = tmp_path / "Kvasir-SEG"
    for seed, name in enumerate(("cju0qkwl35piu", "cju0qoxqj9q6s")):
        save(root / "images" / f"{name}.jpg", grey(seed))
        save(root / "masks" / f"{name}.jpg", mask((4, 5)))
    (root / "kavsir_bboxes.json").write_text("{}")
    records, rejected = sorted_out(ImageMaskFolders(root, POLYPS))
    assert rejected == []
    assert [(record.name, record.split, masks_of(record)) for record in records] == [
        (f"images/{name}.jpg", None, [("polyp", (f"masks/{name}.jpg",))]) for name in ("cju0qkwl35piu", "cju0qoxqj9q6s")
    ]
    same_from_a_zip(ImageMaskFolders, root, POLYPS, tmp_path / "k.zip")
    summary, tables = ingest(tmp_path, "image_mask_folders", root, POLYPS)
    assert (summary["inputs"], summary["ok"], summary["files"]["unlisted_suffixes"]) == (2, 2, {".json": 1})
    assert [image["labels"] for image in tables["images"]] == [["polyp"]] * 2


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["train", "val", "test"], ["train", "validation", "test"]),
        (["Training", "valid"], ["train", "validation"]),
        (["TEST", "training", "Validation", "extra"], ["train", "validation", "test"]),
        (["dev", "testing"], ["validation", "test"]),
    ],
)
def test_folders_called_by_a_word_for_a_split_are_found(tmp_path: Path, folders: list[str], splits: list[str]) -> None:
    for seed, folder in enumerate(folders):
        save(tmp_path / "root" / folder / "images" / f"{seed}.png", grey(seed))
        save(tmp_path / "root" / folder / "masks" / f"{seed}.png", mask((1, 1)))
    records, rejected = sorted_out(ImageMaskFolders(tmp_path / "root", POLYPS))
    assert [record.split for record in records] == splits
    assert rejected == []
    same_from_a_zip(ImageMaskFolders, tmp_path / "root", POLYPS, tmp_path / "a.zip")


def test_two_folders_for_one_split_are_refused_unless_params_say_so(tmp_path: Path) -> None:
    for seed, folder in enumerate(("val", "valid")):
        save(tmp_path / folder / "images" / f"{seed}.png", grey(seed))
        save(tmp_path / folder / "masks" / f"{seed}.png", mask((1, 1)))
    with pytest.raises(UserError, match="the folders val and valid both mean validation: say in"):
        list(ImageMaskFolders(tmp_path, POLYPS).records())
    both = POLYPS | {"splits": {"val": "validation", "valid": "validation"}}
    assert len(sorted_out(ImageMaskFolders(tmp_path, both))[0]) == 2
    one = POLYPS | {"splits": {"valid": "test"}}
    assert [record.split for record in sorted_out(ImageMaskFolders(tmp_path, one))[0]] == ["test"]


ISIC = {
    "modality": "dermatology",
    "label": "skin lesion",
    "images": "ISIC2018_Task1-2_{folder}_Input",
    "masks": "ISIC2018_Task1_{folder}_GroundTruth",
    "mask_names": "{stem}_segmentation.png",
}


def test_isic(tmp_path: Path) -> None:
    root = tmp_path / "isic"
    for seed, (folder, name) in enumerate((("Training", "ISIC_0000000"), ("Validation", "ISIC_0012255"))):
        images = root / f"ISIC2018_Task1-2_{folder}_Input"
        save(images / f"{name}.jpg", grey(seed))
        (images / "ATTRIBUTION.txt").write_text("who")
        save(root / f"ISIC2018_Task1_{folder}_GroundTruth" / f"{name}_segmentation.png", mask((seed, 5)))
    records, rejected = sorted_out(ImageMaskFolders(root, ISIC))
    assert rejected == []
    assert [(Path(record.name).name, record.split, masks_of(record)) for record in records] == [
        (f"{name}.jpg", split, [("skin lesion", (f"ISIC2018_Task1_{folder}_GroundTruth/{name}_segmentation.png",))])
        for name, split, folder in (("ISIC_0000000", "train", "Training"), ("ISIC_0012255", "validation", "Validation"))
    ]
    same_from_a_zip(ImageMaskFolders, root, ISIC, tmp_path / "isic.zip")
    summary, _ = ingest(tmp_path, "image_mask_folders", root, ISIC)
    assert (summary["ok"], summary["rejected"], summary["files"]["unlisted_suffixes"]) == (2, 0, {".txt": 2})


def test_isic_attributes_are_a_mask_each_most_of_them_empty(tmp_path: Path) -> None:
    attributes = ("globules", "milia_like_cyst", "streaks")
    for seed, shown in enumerate(((), ("globules", "streaks"))):
        save(tmp_path / "in" / f"ISIC_{seed}.jpg", grey(seed))
        for place, name in enumerate(attributes):
            values = mask((8 * place, 2)) if name in shown else mask()
            save(tmp_path / "gt" / f"ISIC_{seed}_attribute_{name}.png", values)
    names = {name: f"{{stem}}_attribute_{name}.png" for name in attributes}
    options = {"modality": "dermatology", "images": "in", "masks": "gt", "mask_names": names}
    _, tables = ingest(tmp_path / "work", "image_mask_folders", tmp_path, options)
    labels = {Path(image["path"]).stem: image["labels"] for image in tables["images"]}
    assert labels == {"ISIC_0": [], "ISIC_1": ["globules", "streaks"]}
    assert [region["label"] for region in tables["annotations"]] == ["globules", "streaks"]
    # The file of one attribute is missing: whether it is there nobody said, so that no finding is not said either.
    (tmp_path / "gt" / "ISIC_0_attribute_streaks.png").unlink()
    _, tables = ingest(tmp_path / "again", "image_mask_folders", tmp_path, options)
    labels = {Path(image["path"]).stem: image["labels"] for image in tables["images"]}
    assert labels == {"ISIC_0": None, "ISIC_1": ["globules", "streaks"]}


BUSI = {
    "modality": "ultrasound",
    "label": "breast lesion",
    "labels": {"benign": "benign breast tumor", "malignant": "malignant breast tumor"},
    "splits": {"benign": None, "malignant": None, "normal": None},
    "images": "{folder}",
    "masks": "{folder}",
    "mask_names": "{stem}_mask*.png",
}


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    """Pictures and masks in one folder for each class; one picture has two tumours in a mask each."""
    root = tmp_path / "Dataset_BUSI_with_GT"
    for seed, name in enumerate(("benign/benign (1)", "benign/benign (10)", "malignant/malignant (1)")):
        save(root / f"{name}.png", grey(seed))
        save(root / f"{name}_mask.png", mask((2, 3)))
    save(root / "benign" / "benign (1)_mask_1.png", mask((20, 10)))
    save(root / "normal" / "normal (1).png", grey(9))
    save(root / "normal" / "normal (1)_mask.png", mask())
    return root


def test_busi(busi: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records, rejected = sorted_out(ImageMaskFolders(busi, BUSI))
    assert rejected == []
    benign = "benign breast tumor"
    assert {record.name: masks_of(record) for record in records} == {
        "benign/benign (1).png": [
            (benign, ("benign/benign (1)_mask.png",)),
            (benign, ("benign/benign (1)_mask_1.png",)),
        ],
        "benign/benign (10).png": [(benign, ("benign/benign (10)_mask.png",))],
        "malignant/malignant (1).png": [("malignant breast tumor", ("malignant/malignant (1)_mask.png",))],
        "normal/normal (1).png": [("breast lesion", ("normal/normal (1)_mask.png",))],
    }
    same_from_a_zip(ImageMaskFolders, busi, BUSI, tmp_path / "busi.zip")
    summary, tables = ingest(tmp_path, "image_mask_folders", busi, BUSI)
    assert (summary["inputs"], summary["ok"], summary["files"]["unlisted"]) == (4, 4, 0)
    labels = {Path(image["path"]).stem: image["labels"] for image in tables["images"]}
    assert labels == {
        "benign (1)": [benign],
        "benign (10)": [benign],
        "malignant (1)": ["malignant breast tumor"],
        "normal (1)": [],
    }
    of_two = [region for region in tables["annotations"] if region["mask_path"].startswith("benign/benign (1)_")]
    assert [region["n"] for region in of_two] == [0, 1]
    for region, place in zip(of_two, ((2, 3), (20, 10)), strict=True):
        assert np.array_equal(pixels(region), mask(place) > 0)
    print_look(look("here", config("image_mask_folders", busi, BUSI), None))
    assert "labels: benign breast tumor where the mask is not empty 2, breast lesion where" in capsys.readouterr().out


def test_several_masks_may_be_parts_of_one(busi: Path, tmp_path: Path) -> None:
    _, tables = ingest(tmp_path, "image_mask_folders", busi, BUSI | {"several": "parts"})
    (region,) = [row for row in tables["annotations"] if row["mask_path"].startswith("benign/benign (1)_")]
    assert np.array_equal(pixels(region), mask((2, 3), (20, 10)) > 0)
    assert len(tables["annotations"]) == 3


def test_masks_of_two_labels_in_folders_of_their_own(tmp_path: Path) -> None:
    root = tmp_path / "MontgomerySet"
    for seed, name in enumerate(("MCUCXR_0001_0", "MCUCXR_0104_1")):
        save(root / "CXR_png" / f"{name}.png", grey(seed))
        save(root / "ManualMask" / "leftMask" / f"{name}.png", mask((20, 2)))
        save(root / "ManualMask" / "rightMask" / f"{name}.png", mask((2, 2)))
    options = {
        "modality": "radiograph",
        "images": "CXR_png",
        "masks": "ManualMask",
        "mask_names": {"left lung": "leftMask/{stem}.png", "right lung": "rightMask/{stem}.png"},
    }
    records, rejected = sorted_out(ImageMaskFolders(root, options))
    assert rejected == []
    assert masks_of(records[1]) == [
        ("left lung", ("ManualMask/leftMask/MCUCXR_0104_1.png",)),
        ("right lung", ("ManualMask/rightMask/MCUCXR_0104_1.png",)),
    ]
    same_from_a_zip(ImageMaskFolders, root, options, tmp_path / "m.zip")


def test_names_that_do_not_match(tmp_path: Path) -> None:
    names = ("images/a.png", "images/b.jpg", "images/c.png", "images/e.png", "images/e.tif", "images/f.x.png")
    masks = ("masks/a.png", "masks/c.png", "masks/c.tif", "masks/d.png", "masks/e.png", "masks/f.png")
    for name in (*names, *masks):
        save(tmp_path / name, grey(1))
    (tmp_path / "images" / ".DS_Store").write_text("x")
    (tmp_path / "images" / "Thumbs.db").write_text("x")
    records, rejected = sorted_out(ImageMaskFolders(tmp_path, {"modality": "endoscopy", "splits": {".": None}}))
    assert [(record.name, masks_of(record)) for record in records] == [("images/a.png", [(None, ("masks/a.png",))])]
    assert rejected == [
        ("images/b.jpg", "mask_missing_file"),
        ("images/c.png", "several_masks"),
        ("images/e.png", "several_images"),
        ("images/e.tif", "several_images"),
        ("images/f.x.png", "mask_missing_file"),
        ("masks/d.png", "mask_without_image"),
        ("masks/f.png", "mask_without_image"),
    ]


def test_a_mask_without_a_picture_beside_it_is_no_picture(busi: Path) -> None:
    (busi / "benign" / "benign (10).png").unlink()
    records, rejected = sorted_out(ImageMaskFolders(busi, BUSI))
    assert len(records) == 3
    assert rejected == [("benign/benign (10)_mask.png", "mask_without_image")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "photo"}, r"options: modality 'photo': choose from radiograph"),
        ({"splits": {"x": "holdout"}}, "holdout is no split: choose from train"),
        ({"split": {}}, r"options\.split: unknown key; did you mean 'splits'"),
        ({"labels": {"train": "polyp"}}, "labels: train is no folder of splits"),
        ({"splits": {"a": None, "b": None}, "images": "images"}, r"images: without \{folder\} it is one folder"),
        ({"images": "{folder}/{folder}"}, r"images: \{folder\} stands there twice"),
        (
            {"mask_names": "mask.png"},
            r"mask_names: 'mask\.png': a mask's name holds the picture's",
        ),
        ({"mask_names": "{stem}_{stem}.png"}, r"\{stem\}, once"),
        ({"mask_names": "{stem}_{k}.png"}, r"holds \{k\}: choose from \{stem\}, \{n\}, \*"),
        ({"mask_names": {"polyp": "x"}, "label": None}, r"mask_names\.polyp: "),
        ({"mask_names": {"polyp": "{stem}.*"}}, "mask_names: labels stand there, or in label and labels"),
        ({"several": "both"}, r"options\.several: "),
        ({}, r"no images in train/images, validation/images, test/images, \./images: name its folders in options\."),
        ({"images": "pictures"}, "no images in pictures: name its folders"),
        ({"splits": {"train": "train"}}, "no images in train/images: name its folders in options.splits"),
        ({"images": "all", "masks": "all"}, "no images in all: .* and its masks in options.mask_names"),
        ({"images": "../all"}, "path_outside_root"),
        (
            {"label": None, "images": "all", "mask_names": {"a": "{stem}*", "b": "{stem}.*"}, "masks": "m"},
            "the names of a and b fit one file: narrow options.mask_names",
        ),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    save(tmp_path / "root" / "all" / "a.png", grey(1))
    save(tmp_path / "root" / "m" / "a.png", mask((1, 1)))
    with pytest.raises((UserError, Rejected), match=message) as caught:
        list(ImageMaskFolders(tmp_path / "root", POLYPS | change).records())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "name", "stems", "picture"),
    [
        ("{stem}.*", "a.png", {"a"}, "a"),
        ("{stem}.*", "a", {"a"}, "a"),
        ("{stem}.*", "a.b.png", {"a"}, None),
        ("{stem}.*", "a.nii.gz", {"a"}, "a"),
        ("{stem}_mask*.png", "x (1)_mask_12.png", {"x (1)", "x"}, "x (1)"),
        ("{stem}*.png", "ab_1.png", {"a", "ab"}, "ab"),
        ("mask_{stem}_{n}.png", "mask_a_1_22.png", {"a", "a_1"}, "a_1"),
        ("mask_{stem}_{n}.png", "mask_a_x.png", {"a"}, None),
        ("*_{stem}.png", "left_lung_a.png", {"a", "g_a"}, "a"),
        ("{n}/{stem}.png", "12/a.png", {"a"}, "a"),
        ("{n}/{stem}.png", "x/a.png", {"a"}, None),
        ("{stem}.png", "deep/a.png", {"a"}, None),
        ("{stem}+(.png", "a+(.png", {"a"}, "a"),
    ],
)
def test_which_picture_a_mask_belongs_to(pattern: str, name: str, stems: set[str], picture: str | None) -> None:
    assert MaskNames(pattern).picture(name, stems) == picture


def test_the_stem_of_a_volume_has_no_half_of_its_suffix() -> None:
    assert [stem_of(name) for name in ("a/b.nii.gz", "b.c.png", "b")] == ["b", "b.c", "b"]


def test_masks_that_may_be_empty(tmp_path: Path) -> None:
    for name, values in {"e.png": mask(), "one.png": mask((2, 2)), "two.png": mask((5, 4))}.items():
        save(tmp_path / name, values)

    def read(*masks: MarkedMask) -> tuple[Any, list[str | None], Any]:
        record = SourceRecord(row="1", name="a.png", modality="other", masks=masks)
        found = read_annotations(tmp_path, record, opened(b""), 30, 20, 10_000)
        return found.labels, [region.label for region in found.regions], found.mask

    empty, one = MarkedMask(label="x", files=("e.png",)), MarkedMask(label="y", files=("one.png",))
    assert read(empty)[:2] == ((), [])
    assert read(empty)[2].is_empty
    assert read(empty, one)[:2] == (("y",), ["y"])
    assert read(MarkedMask(label=None, files=("e.png",)))[:2] == (None, [])
    assert read(MarkedMask(label=None, files=("one.png",)))[:2] == (None, [None])
    labels, named, whole = read(MarkedMask(label="y", files=("one.png", "e.png", "two.png")), one)
    assert (labels, named) == (("y",), ["y", "y"])
    assert np.array_equal(decode(whole.rle, 20, 30), mask((2, 2), (5, 4)) > 0)
    with pytest.raises(Rejected, match="mask_missing_file"):
        read(MarkedMask(label="y", files=("one.png", "gone.png")))

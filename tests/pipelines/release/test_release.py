"""What a release holds, and what it does not."""

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pycocotools.coco import COCO

from flows import release as command
from models.data.shards import ShardSet
from models.verified import read_digests, verify_folder
from pipelines.audit.config import AuditConfig
from pipelines.audit.sample import draw
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.records import CAPTIONS, REGIONS, SPLIT_IMAGES
from pipelines.release.images import FILE_BYTES, GROUP_ROWS, ParquetFiles
from pipelines.release.release import write_release
from pipelines.shards.checks import check_families
from tests.pipelines.release.conftest import CLOSED, OPEN, PATIENT, Study, meta_of, outline


@pytest.fixture
def out(study: Study, tmp_path: Path) -> Path:
    write_release(study.root, tmp_path / "out")
    return tmp_path / "out"


def rows_of(out: Path) -> dict[str, dict]:
    files = sorted((out / "data").glob("*.parquet"))
    return {row["image_id"]: row for file in files for row in pq.read_table(file).to_pylist()}


def contents(out: Path) -> dict[str, str]:
    """Everything that a release says, by file: texts, members of tars, rows of Parquet, bytes of images."""
    found = {}
    for file in sorted(path for path in out.rglob("*") if path.is_file()):
        name = file.relative_to(out).as_posix()
        if file.suffix == ".parquet":
            found[name] = repr(pq.read_table(file).to_pylist()) + repr(pq.read_schema(file).metadata)
        elif file.suffix == ".tar":
            with tarfile.open(file) as tar:
                found[name] = "".join(f"{member.name} {tar.extractfile(member).read()!r}" for member in tar)
        else:
            found[name] = file.read_bytes().decode("utf-8", "replace")
    return found


def test_images_are_released_or_counted_by_source_and_reason(study: Study, out: Path) -> None:
    said = json.loads((out / "release.json").read_text())
    assert (said["images"], said["study_images"], said["splits"]) == (6, 12, {"train": 3, "validation": 1, "test": 2})
    assert said["left_out"] == [
        {
            "source": CLOSED,
            "images": 6,
            "reason": f"'internal' of {CLOSED} does not allow the use publication",
        }
    ]
    assert set(rows_of(out)) == {row.image_id for row in study.of(OPEN)}
    for page in ("README.md", "DATASHEET.md"):
        assert "&#39;internal&#39; of ward9 does not allow the use publication" in (out / page).read_text(), page
    verify_folder(out)


def test_a_source_that_is_left_out_is_in_no_format(study: Study, out: Path) -> None:
    said = contents(out)
    named = {name for name, text in said.items() if CLOSED in text}
    assert named == {"README.md", "DATASHEET.md", "release.json"}
    for row in study.of(CLOSED):
        assert [name for name, text in said.items() if row.image_id in text] == []
    tars = {name for name in said if name.endswith(".tar")}
    assert {name.split("/")[1] for name in tars} == {"images", "captions"}


def test_no_patient_no_file_name_and_no_header_goes_out(study: Study, out: Path) -> None:
    study.allow_all()
    write_release(study.root, out)
    said = contents(out)
    assert len(rows_of(out)) == 12
    for secret in (PATIENT, "jane-doe", "JANE DOE", str(study.root)):
        assert [name for name, text in said.items() if secret in text] == []


def test_texts_of_confidential_sources_are_told(study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    study.allow_all()
    assert write_release(study.root, tmp_path / "out").confidential == [CLOSED]
    assert f"patient ids of {CLOSED} are confidential: its texts go out as they are" in caplog.text
    assert f"The patient ids of {CLOSED} are confidential" in (tmp_path / "out/README.md").read_text()


def test_rows_say_what_the_tables_say(study: Study, out: Path) -> None:
    rows = rows_of(out)
    first, second, *_ = study.of(OPEN)
    row = rows[first.image_id]
    pixels = Image.open(io.BytesIO(row["image"]["bytes"]))
    with Image.open(study.root / "raw" / OPEN / first.path) as raw:
        assert np.array_equal(np.asarray(pixels), np.asarray(raw))
    assert (row["labels"], rows[second.image_id]["labels"]) == (["nodule"], [])
    assert [rows[one.image_id]["view"] for one in (first, second)] == ["frontal", None]
    assert (row["sides"], rows[second.image_id]["sides"]) == ("patient", "image")
    assert (row["licence"], row["report"], row["width"], row["height"]) == ("CC-BY-4.0", f"Said of {OPEN}.", 40, 61)
    region = row["regions"][0]
    assert (region["box"], region["role"], region["certified"]) == ([5.0, 10.0, 25.0, 20.0], "input", True)
    assert (region["caption"], region["negatives"]) == (
        "round | nodule | left upper",
        ["no0", "no1", "no2", "no3", "no4"],
    )
    assert region["phrase"] == "The spot."
    assert row["attributes"] == [{"name": "age", "value": "0 years"}]
    assert row["look_alikes"] == list(first.look_alikes)
    assert (rows[second.image_id]["attributes"], rows[second.image_id]["look_alikes"]) == ([], [])
    assert "the sources say of whole images: age (column attributes)" in (out / "README.md").read_text()
    assert [question["question_id"] for question in row["questions"]] == [f"{first.image_id}-0"]
    # The group was called after an image that is not released.
    assert row["group"] == first.image_id


def test_unknown_labels_stay_unknown(study: Study, out: Path) -> None:
    study.allow_all()
    write_release(study.root, out)
    rows = rows_of(out)
    assert [rows[row.image_id]["labels"] for row in study.rows[:4]] == [["nodule"], ["nodule"], [], None]
    lines = [json.loads(line) for line in (out / "images/train/metadata.jsonl").read_text().splitlines()]
    listed = {line["image_id"]: (line["labels_known"], line["labels"]) for line in lines}
    wanted = [(True, "nodule"), (True, "nodule"), (True, ""), (False, "")]
    assert [listed[row.image_id] for row in study.rows[:4]] == wanted


def test_coco_has_boxes_masks_and_captions_with_truth_apart(study: Study, out: Path) -> None:
    coco, truth = (COCO(out / f"coco/test_{role}.json") for role in ("input", "truth"))
    assert not (out / "coco/train_truth.json").exists()
    assert {one["name"] for one in coco.loadCats(coco.getCatIds())} == {"cyst", "nodule"}
    by_id = {row.image_id: row for row in study.of(OPEN) if row.split == "test"}
    assert len(coco.anns) == len(truth.anns) == len(coco.imgs) == len(by_id) == 2
    for annotation in coco.loadAnns(coco.getAnnIds()):
        image = coco.loadImgs(annotation["image_id"])[0]
        row = by_id[image["image_id"]]
        assert (annotation["bbox"], annotation["caption"]) == ([5.0, 10.0, 20.0, 10.0], "round | nodule | left upper")
        assert np.array_equal(coco.annToMask(annotation).astype(bool), outline(row))
        with Image.open(out / image["file_name"]) as picture:
            assert picture.size == (image["width"], image["height"]) == (row.width, row.height)
    for annotation in truth.loadAnns(truth.getAnnIds()):
        assert truth.loadCats(annotation["category_id"])[0]["name"] == "cyst"
        assert "segmentation" not in annotation
    # No report stands in these files, and no sentence of a source about a region either.
    assert "The spot" not in (out / "coco/test_truth.json").read_text()


def test_all_tars_are_those_of_the_study(study: Study, out: Path) -> None:
    study.allow_all()
    write_release(study.root, out)
    shards = study.root / "data/shards"
    files = [file.relative_to(shards) for file in shards.rglob("*") if file.is_file()]
    assert len(files) == 2 * (9 + 2)  # tars, manifest, digests
    for file in files:
        assert (out / "shards" / file).read_bytes() == (shards / file).read_bytes()


def test_tars_without_a_source_keep_the_other_samples(study: Study, out: Path) -> None:
    check_families(out / "shards")
    whole, part = (
        {
            sample.key: sample
            for split in ("train", "validation", "test")
            for sample in ShardSet(root / "images", root / "captions", split).samples()
        }
        for root in (study.root / "data/shards", out / "shards")
    )
    assert set(part) == {row.image_id for row in study.of(OPEN)}
    for key, sample in part.items():
        same = {name for name, data in sample.members.items() if data == whole[key].members[name]}
        assert sample.members.keys() - same <= {"meta.json.txt"}
        before, after = meta_of(whole[key].members), meta_of(sample.members)
        assert dataclasses.replace(after, group=before.group) == before
    first = study.of(OPEN)[0]
    assert [mask.any() for mask in part[first.image_id].look_alikes()] == [True]
    assert meta_of(part[first.image_id].members).attributes == {"age": "0 years"}
    assert {region.phrase for region in part[first.image_id].captions.regions} == {"The spot."}
    assert meta_of(part[first.image_id].members).group == first.image_id
    # Two sources ask of the first image; the one that is left out asks nothing here.
    assert [len(root[first.image_id].captions.questions) for root in (whole, part)] == [2, 1]
    assert part[first.image_id].captions.questions == whole[first.image_id].captions.questions[:1]
    assert dataclasses.replace(part[first.image_id].captions, questions=()) == dataclasses.replace(
        whole[first.image_id].captions, questions=()
    )


def test_two_releases_have_equal_bytes_and_the_second_replaces_the_first(study: Study, out: Path) -> None:
    before = (out / "SHA256SUMS").read_bytes()
    (out / "README.md").write_text("lost")
    write_release(study.root, out)
    assert (out / "SHA256SUMS").read_bytes() == before
    verify_folder(out)


def test_nothing_that_may_be_released_is_one_line(study: Study, tmp_path: Path) -> None:
    params = {OPEN: {"adapter": "table", "root": f"raw/{OPEN}"}, CLOSED: {"adapter": "table", "root": f"raw/{CLOSED}"}}
    study.change("ingest", sources=params)
    with pytest.raises(UserError, match=r"nothing may be released: atlas has no licence in params\.yaml"):
        write_release(study.root, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_use_that_no_licence_lists_is_one_line(study: Study, tmp_path: Path) -> None:
    study.change("release", use="sale")
    with pytest.raises(UserError, match=r"release\.use is 'sale', which promote\.licences does not list"):
        write_release(study.root, tmp_path / "out")


def test_a_changed_raw_file_leaves_the_release_of_before(study: Study, out: Path) -> None:
    before = read_digests(out)
    last = study.of(OPEN)[-1]
    (study.root / "raw" / OPEN / last.path).write_bytes(b"other")
    with pytest.raises(UserError, match=rf"image {last.image_id} of {OPEN} cannot be read any more \(changed_since"):
        write_release(study.root, out)
    assert read_digests(out) == before
    assert sorted(path.name for path in out.parent.iterdir()) == ["out", "study"]


def test_an_unfinished_study_is_one_line(study: Study, tmp_path: Path) -> None:
    (study.root / "data/shards/images/manifest.json").unlink()
    with pytest.raises(UserError, match="the shards were not completed"):
        write_release(study.root, tmp_path / "out")


def test_the_command_says_what_it_left_out(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(study.root)
    command.main("--out", str(tmp_path / "out"))
    left, released, _ = capsys.readouterr().out.splitlines()
    assert left == "left out: 6 images of ward9: 'internal' of ward9 does not allow the use publication"
    assert released == "released: 6 of 12 images, from atlas"
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds mine\.txt beside a release of flows\.release"):
        command.main("--out", str(tmp_path / "out"))


def test_row_groups_and_files_are_bounded(study: Study, out: Path, tmp_path: Path) -> None:
    row = next(iter(rows_of(out).values()))
    with ParquetFiles(tmp_path / "many", "train") as files:
        for _ in range(GROUP_ROWS + 1):
            files.add(row, 1)
    (file,) = (tmp_path / "many").iterdir()
    assert pq.ParquetFile(file).metadata.num_row_groups == 2
    with ParquetFiles(tmp_path / "large", "train") as files:
        for _ in range(3):
            files.add(row, FILE_BYTES // 2 + 1)
    names = [f"train-0000{number}-of-00003.parquet" for number in range(3)]
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == names


def test_the_audit_speaks_of_the_released_sources_alone(study: Study, out: Path) -> None:
    assert "Not audited: nobody has judged a sample" in (out / "README.md").read_text()
    settings = load(AuditConfig, "audit", study.root / "params.yaml")
    data = study.root / "data"
    tables = (
        SPLIT_IMAGES.read(data / "split/images.parquet"),
        REGIONS.read(data / "regions/regions.parquet"),
        CAPTIONS.read(data / "captions/captions.parquet"),
    )
    said = {"answer": "yes", "reason": None, "reviewer": "AB", "date": "2026-11-28"}
    lines = [
        {"item": item.name, "shown": item.shown} | said
        for strata in draw(*tables, settings).values()
        for stratum in strata
        for item in stratum.items
    ]
    (data / "audit.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    write_release(study.root, out)
    text = (out / "README.md").read_text()
    assert "| regions | atlas, other |" in text
    assert "| captions | atlas, other |" in text
    assert "| regions | all |" not in text
    assert "ward9, other" not in text

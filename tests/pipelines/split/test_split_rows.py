"""What is read of the sources' rows: numbers, equal where rows share something, and thumbnails on the disk."""

from pathlib import Path

import numpy as np
import pytest
from split_workspace import Workspace, image_row, picture, png

from pipelines.records import SPLITS
from pipelines.split.rows import ReadRows, image_id, read_questions, read_rows
from pipelines.split.thumbnails import ThumbnailFile

SEEDS = {"one": range(5), "two": range(3, 7)}


def read(workspace: Workspace) -> ReadRows:
    return read_rows(workspace.sources, workspace.folder / "ingest", workspace.folder)


def thumbnails(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 1024), dtype=np.uint8)


def test_thumbnails_come_back_by_row_in_any_order_and_as_often_as_wanted(tmp_path: Path) -> None:
    pixels = thumbnails(7)
    file = ThumbnailFile(tmp_path)
    file.add([one.tobytes() for one in pixels[:5]])
    assert (file[np.array([4, 0, 4])] == pixels[[4, 0, 4]]).all()
    file.add([one.tobytes() for one in pixels[5:]])
    assert (file[np.array([6, 2, 5, 2])] == pixels[[6, 2, 5, 2]]).all()
    assert file[np.array([], dtype=np.int64)].shape == (0, 1024)
    assert list(tmp_path.iterdir()) == []


def test_a_thumbnail_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a thumbnail of other than 1024 bytes"):
        ThumbnailFile(tmp_path).add([bytes(1024), bytes(1023)])


def test_rows_are_numbered_in_the_order_of_the_sources_and_of_their_ids(workspace: Workspace) -> None:
    rows = {source: [image_row(source, png(picture(seed))) for seed in seeds] for source, seeds in SEEDS.items()}
    for source, of_source in rows.items():
        workspace.ingest(source, of_source)
    expected = [row for of_source in rows.values() for row in sorted(of_source, key=lambda row: row["image_id"])]
    found = read(workspace)
    assert found.rows.index.tolist() == list(range(9))
    assert [image_id(number) for number in found.rows["image"]] == [row["image_id"] for row in expected]
    assert found.rows["source"].tolist() == [0] * 5 + [1] * 4
    assert [words.tobytes().hex() for words in found.words] == [row["perceptual_hash"] for row in expected]
    assert [one.tobytes() for one in found.thumbnails[np.arange(9)]] == [row["thumbnail"] for row in expected]


def test_equal_numbers_stand_for_what_rows_share(workspace: Workspace) -> None:
    """Patients and files are those of their source; studies, bytes and pixels are the same everywhere."""
    zipped = {"path": "a.zip", "member": "1.png"}
    both = {"patient": "p", "study": "s", "sha256": "a" * 64, "pixel_sha256": "b" * 64}
    kinds = [
        {"image_id": f"{1:016x}", **zipped, **both},
        {"image_id": f"{2:016x}", **zipped, **both, "split": "test"},
        {"image_id": f"{3:016x}", "path": "a.zip", "sha256": "a" * 63 + "b"},
        {"image_id": f"{4:016x}", "path": "a.zip1.png"},
    ]
    data = png(picture(1))
    workspace.ingest("one", [image_row("one", data, **kind) for kind in kinds])
    workspace.ingest("two", [image_row("two", data, **kinds[0], split_conflict=True)])
    rows = read(workspace).rows
    assert rows["image"].tolist() == [1, 2, 3, 4, 1]
    same = {kind: (rows[kind] == rows[kind][0]).tolist() for kind in ("file", "patient", "study", "pixels")}
    assert same == {
        "file": [True, True, False, False, False],
        "patient": [True, True, False, False, False],
        "study": [True, True, False, False, True],
        "pixels": [True, True, False, False, True],
    }
    assert rows["file"].nunique() == 4
    assert (rows["patient"] == 0).tolist() == [False, False, True, True, False]
    assert rows["study"].tolist()[2:4] == [0, 0]
    assert rows["split"].tolist() == [-1, SPLITS.index("test"), -1, -1, -1]
    assert rows["split_conflict"].tolist() == [False] * 4 + [True]
    assert not rows["near_uniform"].any()


def test_questions_with_a_split_are_counted(workspace: Workspace) -> None:
    image = image_row("vqa", png(picture(1)))
    asked = {"image_id": image["image_id"], "source": "vqa", "question": "?", "answer": "1", "answer_type": "open"}
    splits = ["test", None, "test", "train"]
    questions = [{**asked, "question_id": str(n), "split": split} for n, split in enumerate(splits)]
    workspace.ingest("plain", [image_row("plain", png(picture(2)))])
    workspace.ingest("vqa", [image], questions=questions)
    found = read_questions(workspace.sources, workspace.folder / "ingest", read(workspace).rows)
    number = int(image["image_id"], 16)
    rows = set(found[["image", "source", "split", "questions"]].itertuples(index=False, name=None))
    assert rows == {(number, 1, SPLITS.index("test"), 2), (number, 1, SPLITS.index("train"), 1)}


def test_rows_without_an_image_of_their_source_are_all_counted(workspace: Workspace) -> None:
    """An image of another source is none of its own."""
    rows = {source: image_row(source, png(picture(seed))) for seed, source in enumerate(("one", "two"))}
    lost = [f"{number:016x}" for number in range(3)]
    for source, other in (("one", "two"), ("two", "one")):
        ids = [*lost, rows[other]["image_id"], rows[source]["image_id"]]
        workspace.ingest(source, [rows[source]], [{"image_id": one, "source": source, "n": 0} for one in ids])
    with pytest.raises(ValueError, match=f"8 annotations belong to no image, the first to {lost[0]}"):
        workspace.split()
    assert not list(workspace.out.glob("*.parquet"))

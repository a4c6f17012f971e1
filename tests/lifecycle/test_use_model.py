"""A registered model is used by its alias: with `flows.predict`, and in a fresh environment as the README shows."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pyarrow.parquet
import pytest
import torch
from mlflow.tracking import MlflowClient
from PIL import Image

from models import checkpoint
from models.clip.model import Clip
from models.prediction import Predictor
from models.preparation import InputFormat
from models.text import load_tokenizer
from models.unet.config import UNetConfig
from models.unet.model import UNet
from pipelines.tracking.mlflow_model import write_model
from tests.lifecycle.study import run

pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]


def register(server: str, name: str, model: Path, digest: str) -> None:
    """A version of a registered model, its files on the server, as `champion`."""
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name(name)
    run_id = client.create_run(
        client.create_experiment(name) if experiment is None else experiment.experiment_id
    ).info.run_id
    client.log_artifacts(run_id, str(model), "model")
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version(name, source, run_id, {"checkpoint_sha256": digest})
    client.set_registered_model_alias(name, "champion", version.version)


@pytest.fixture(scope="module")
def models(study: Path, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints by the name under which they are registered: the study's clip, and an untrained U-Net."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = load_tokenizer(study / "data/checkpoints/clip")
    torch.manual_seed(0)
    unet = UNet(UNetConfig(base=4), len(tokenizer)).eval()
    (folder / "unet").mkdir()
    wanted = InputFormat(image_size=32, crop_size=16, crop_margin=0.1, quality=95)
    checkpoint.save(folder / "unet", "unet", unet, unet.state_dict(), tokenizer, {}, wanted)
    found = {"use-clip": study / "data/checkpoints/clip", "use-unet": folder / "unet"}
    for name, place in found.items():
        write_model(folder / f"{name}-model", place)
        register(mlflow_server, name, folder / f"{name}-model", checkpoint.digest(place))
    return found


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("scans") / "scan.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90), dtype=np.uint8)).save(file)
    return file


def test_the_champion_predicts_by_its_alias(study: Path, models: dict[str, Path], scan: Path, tmp_path: Path) -> None:
    before = run("git", "status", "--porcelain", cwd=study)
    command = [sys.executable, "-m", "flows.predict", "models:/use-clip@champion", scan]
    out = tmp_path / "out"
    printed = run(*command, "--text", "a nodule", "no nodule", "--labels", "nodule", "--out", out, cwd=study)
    assert "out: 1 ok; 0 rejected; 0 failed" in printed
    predictor = Predictor(models["use-clip"], Clip)
    expected = predictor.embed_images([predictor.prepare("0", Image.open(scan))])[0]
    (row,) = pyarrow.parquet.read_table(out / "images.parquet").to_pylist()
    np.testing.assert_allclose(row["image_embedding"], expected, atol=1e-6)
    with (out / "scores.csv").open(newline="") as stream:
        kinds = [line["kind"] for line in csv.DictReader(stream)]
    assert kinds == ["text", "text", "label"]
    assert Image.open(next((out / "overlays").iterdir())).size == (90, 60)
    assert json.loads((out / "predict.json").read_text())["model"] == "models:/use-clip@champion"
    refused = run(*command, "--outputs", "mask", "--out", tmp_path / "other", cwd=study, fails=True)
    assert "error: Clip gives no mask; it gives image_embedding" in refused
    unknown = [sys.executable, "-m", "flows.predict", "models:/use-clip@champ", scan, "--out", tmp_path / "other"]
    assert "error: models:/use-clip@champ is not registered" in run(*unknown, cwd=study, fails=True)
    assert run("git", "status", "--porcelain", cwd=study) == before


@pytest.fixture(scope="module")
def fresh_python(models: dict[str, Path], mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds what the model says that it requires, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    wanted = {
        name: Path(
            mlflow.artifacts.download_artifacts(
                f"{MlflowClient(mlflow_server).get_model_version_by_alias(name, 'champion').source}/requirements.txt",
                dst_path=str(folder / name),
                tracking_uri=mlflow_server,
            )
        )
        for name in models
    }
    assert len({file.read_text() for file in wanted.values()}) == 1, "one environment serves both"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", wanted["use-clip"]]
    subprocess.run(install, check=True)
    return python


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("use-clip", ["image_embedding", "text_embedding", "similarity", "region_embeddings", "heat_map"]),
        ("use-unet", ["mask"]),
    ],
)
def test_the_lines_of_the_readme_run_in_a_fresh_environment(
    fresh_python: Path,
    repository: Path,
    models: dict[str, Path],
    mlflow_server: str,
    scan: Path,
    name: str,
    outputs: list[str],
) -> None:
    section = (repository / "README.md").read_text().partition("## Use a model")[2].partition("\n## ")[0]
    (lines,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) == 5
    code = lines.replace("models:/medregion@champion", f"models:/{name}@champion")
    assert code != lines
    check = (
        "\nimport sys\n"
        "assert not {'pipelines', 'flows', 'models', 'webdataset', 'pydicom'} & sys.modules.keys()\n"
        f"assert list(answer) == {outputs}\n"
        "import numpy; numpy.savez('answer.npz', **{output: answer[output][0] for output in answer})"
    )
    dropped = ("PYTHONPATH", "VIRTUAL_ENV", "MLFLOW_")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    environment |= {"MLFLOW_TRACKING_URI": mlflow_server, "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run(
        [fresh_python, "-c", code + check],
        cwd=scan.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = np.load(scan.parent / "answer.npz")
    predictor = Predictor(models[name], Clip if name == "use-clip" else UNet)
    sample = predictor.prepare("0", Image.open(scan))
    if name == "use-unet":
        (probability,) = predictor.masks([(sample, "")])
        np.testing.assert_array_equal(found["mask"], probability > 0.5)
        return
    text = "opacity in the left lower lung"
    np.testing.assert_allclose(found["image_embedding"], predictor.embed_images([sample])[0], atol=1e-5)
    np.testing.assert_allclose(found["text_embedding"], predictor.embed_texts([text])[0], atol=1e-5)
    (heat_map,) = predictor.heat_maps([(sample, text)])
    np.testing.assert_allclose(found["heat_map"], heat_map, atol=1e-5)

"""A checkpoint as an MLflow model: loaded in processes that know nothing of this project, and in those that do."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import init
from PIL import Image

from models import checkpoint, prediction
from models.clip.model import Clip
from models.prediction import Predictor
from models.served import answer
from models.swin_unetr.model import SwinUnetr
from models.text import train_tokenizer
from models.verified import verify_folder
from pipelines.tracking import mlflow_model
from pipelines.tracking.mlflow_model import write_model
from tests.models.small import make_model
from tests.pipelines.test_registry import install
from tests.shards import INPUT_FORMAT


def picture(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    values = np.random.default_rng(seed).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = train_tokenizer(["the picture is red green blue"] * 3, 100)
    tokenizer.model_max_length = 32
    return tokenizer


@pytest.fixture(scope="module")
def clip(tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "clip"
    folder.mkdir()
    model = make_model(tokenizer, Clip).eval()
    checkpoint.save(folder, "clip", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    return folder


@pytest.fixture(scope="module")
def model(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    write_model(folder, clip)
    return folder


def test_the_folder_holds_what_it_needs_and_no_path_of_the_machine(model: Path, clip: Path) -> None:
    assert verify_folder(model / "artifacts/checkpoint") == verify_folder(clip)
    assert checkpoint.digest(model / "artifacts/checkpoint") == checkpoint.digest(clip)
    assert not list(model.rglob("*.pkl"))
    assert not list(model.rglob("__pycache__"))
    shipped = {file.relative_to(model / "code").as_posix() for file in (model / "code").rglob("*") if file.is_file()}
    assert {"models/clip/model.py", "models/served.py", "models/prediction.py"} <= shipped
    # Nothing of other methods, of training or of this project's pipelines.
    assert not [file for file in shipped if "gloria" in file or "training" in file or not file.startswith("models/")]
    for file in model.rglob("*"):
        if file.is_file() and file.suffix != ".safetensors":
            text = file.read_text()
            assert str(clip.parent) not in text, file
            assert str(Path(sys.prefix)) not in text, file
            assert str(Path(mlflow_model.__file__).parents[2]) not in text, file
    described = yaml.safe_load((model / "MLmodel").read_text())
    assert described["metadata"] == {"method": "clip", "checkpoint_sha256": checkpoint.digest(clip)}


def test_the_requirements_are_what_the_shipped_files_import(model: Path, tokenizer, tmp_path: Path) -> None:
    def names(folder: Path) -> set[str]:
        lines = (folder / "requirements.txt").read_text().split()
        pairs = [line.split("==") for line in lines]
        assert all(len(pair) == 2 and "+" not in pair[1] for pair in pairs), lines
        return {name for name, _ in pairs}

    common = {"mlflow", "numpy", "pandas", "pillow", "safetensors", "tokenizers", "torch", "transformers"}
    assert names(model) == common
    swin = tmp_path / "swin"
    swin.mkdir()
    network = SwinUnetr(SwinUnetr.Config(feature_size=12), len(tokenizer)).eval()
    checkpoint.save(swin, "swin_unetr", network, network.state_dict(), tokenizer, {}, INPUT_FORMAT)
    write_model(tmp_path / "model", swin)
    assert names(tmp_path / "model") == common | {"monai", "einops"}
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert [spec.name for spec in loaded.metadata.signature.outputs] == ["mask"]
    assert "regions" not in loaded.metadata.signature.inputs.input_names()


def test_a_fresh_process_without_this_project_gets_the_same_numbers(model: Path, clip: Path, tmp_path: Path) -> None:
    """With a package of its own called `models` beside it, which is not the model's."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('the wrong package')")
    (tmp_path / "a.png").write_bytes(picture())
    code = (
        "import sys, mlflow\n"
        f"model = mlflow.pyfunc.load_model({str(model)!r})\n"
        "found = model.predict([{'image': open('a.png', 'rb').read(), 'text': 'red'}])\n"
        "assert not {'pipelines', 'flows', 'webdataset', 'pydicom', 'models'} & sys.modules.keys()\n"
        "print(found.image_embedding[0].tobytes().hex(), found.heat_map[0].shape, found.similarity[0])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = answer(Predictor(clip, Clip), [{"image": picture(), "text": "red"}], ["image_embedding", "similarity"])
    embedding, *shape, similarity = done.stdout.split()
    assert np.allclose(np.frombuffer(bytes.fromhex(embedding), np.float32), expected["image_embedding"][0], atol=1e-6)
    assert (" ".join(shape), float(similarity)) == ("(20, 30)", pytest.approx(expected["similarity"][0], abs=1e-6))


def test_a_model_runs_the_code_that_it_was_saved_with(model: Path, tmp_path: Path) -> None:
    """Also where the project's own `models` is imported, which stays as it is."""
    shutil.copytree(model, tmp_path / "model")
    served = tmp_path / "model/code/models/served.py"
    served.write_text(served.read_text().replace("float(one @ other)", "float(one @ other) + 5"))
    before, path = sys.modules["models.prediction"], list(sys.path)
    changed = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    unchanged = mlflow.pyfunc.load_model(str(model))
    row = [{"image": picture(), "text": "red"}]
    difference = changed.predict(row).similarity[0] - unchanged.predict(row).similarity[0]
    assert difference == pytest.approx(5, abs=1e-5)
    assert sys.modules["models.prediction"] is before is prediction
    assert sys.path == path


def test_the_params_say_which_outputs_are_wanted(model: Path) -> None:
    loaded = mlflow.pyfunc.load_model(str(model))
    table = pd.DataFrame({"image": [picture(), None], "text": [None, "red"]}, index=["a", "b"])
    everything = loaded.predict(table)
    expected = ["image_embedding", "text_embedding", "similarity", "region_embeddings", "heat_map"]
    assert list(everything.columns) == expected
    assert [spec.name for spec in loaded.metadata.signature.outputs] == expected
    assert list(everything.index) == ["a", "b"]
    assert everything.text_embedding["a"] is None
    assert list(loaded.predict(table, params={"outputs": ["text_embedding"]}).columns) == ["text_embedding"]
    with pytest.raises(MlflowException, match="Clip gives no mask; it gives image_embedding"):
        loaded.predict(table, params={"outputs": ["mask"]})
    regions = [{"image": picture(), "regions": [[0, 0, 9, 9], [1.5, 2, 20, 20]]}]
    assert loaded.predict(regions, params={"outputs": ["region_embeddings"]}).region_embeddings[0].shape == (2, 8)


def test_the_scoring_server_answers_and_tells_mistakes(model: Path) -> None:
    client = TestClient(init(mlflow.pyfunc.load_model(str(model))))

    def post(body: str):
        return client.post("/invocations", content=body, headers={"content-type": "application/json"})

    example = post((model / "serving_input_example.json").read_text())
    assert example.status_code == 200, example.text
    (row,) = example.json()["predictions"]
    assert np.linalg.norm(row["image_embedding"]) == pytest.approx(1, abs=1e-5)
    assert np.shape(row["heat_map"]) == (256, 256)
    wrong = post(json.dumps({"dataframe_records": [{"image": "bm8gaW1hZ2U="}]}))
    assert wrong.status_code == 400
    assert "row 0: not a PNG or JPEG file" in wrong.json()["message"]


def test_a_method_of_an_installed_package_becomes_a_requirement(
    tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from models.clip.model import Clip\n\n\nclass Theirs(Clip):\n    pass\n"
    install(tmp_path / "site", "theirs", "methods", {"theirs": "theirs:Theirs"}, code)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    model = make_model(tokenizer, Clip).eval()
    checkpoint.save(folder, "theirs", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    write_model(tmp_path / "model", folder)
    assert "theirs==1.0" in (tmp_path / "model/requirements.txt").read_text().split()
    assert (tmp_path / "model/code/models/clip/model.py").is_file()
    assert not list((tmp_path / "model").rglob("theirs.py"))
    described = yaml.safe_load((tmp_path / "model/MLmodel").read_text())
    assert described["flavors"]["python_function"]["config"] == {"method_class": "theirs:Theirs"}
    monkeypatch.delitem(sys.modules, "theirs")
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "model"))
    assert loaded.predict([{"text": "red"}], params={"outputs": ["text_embedding"]}).text_embedding[0].shape == (8,)
    monkeypatch.delitem(sys.modules, "theirs")

"""Promotion and evaluation against a real MLflow server, by the commands that a person types."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
import yaml
from mlflow.tracking import MlflowClient
from safetensors.torch import load_file, save_file

from models.verified import seal
from tests.lifecycle.study import environment, run

# The first test of a worker makes the study, too.
pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]

PROMOTE = (sys.executable, "-m", "flows.promote")


def aliases(study: Path) -> dict[str, str]:
    tracking = yaml.safe_load((study / "params.yaml").read_text())["tracking"]
    found = MlflowClient(tracking_uri=tracking["uri"]).get_registered_model(tracking["model"]).aliases
    return {name: str(version) for name, version in found.items()}


def version_of(study: Path, method: str) -> str:
    tracking = yaml.safe_load((study / "params.yaml").read_text())["tracking"]
    client = MlflowClient(tracking_uri=tracking["uri"])
    found = client.search_model_versions(f"name = '{tracking['model']}' and tags.method = '{method}'")
    return str(max(int(version.version) for version in found))


def params(study: Path, **promote: object) -> None:
    values = yaml.safe_load((study / "params.yaml").read_text())
    values["promote"] |= promote
    (study / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def spoil(study: Path, method: str, factor: float) -> None:
    """Weaken a trained method: its image projection is scaled towards noise, and it is evaluated anew, without DVC."""
    folder = study / "data/checkpoints" / method
    weights = load_file(folder / "model.safetensors")
    for name, value in weights.items():
        noise = value.std(correction=0) * value.flatten().flip(0).reshape(value.shape)
        weights[name] = (1 - factor) * value + factor * noise
    replaced = study / "data/replaced"
    shutil.copytree(folder, replaced)
    save_file(weights, replaced / "model.safetensors")
    seal(replaced)
    shutil.rmtree(folder)
    replaced.rename(folder)
    run(sys.executable, "-m", "pipelines.evaluate", method, cwd=study)


def test_promote_refuse_and_roll_back(fresh_study: Path) -> None:
    shown = run(*PROMOTE, cwd=fresh_study)
    first = aliases(fresh_study)["champion"]
    assert f"version {first} (clip) is the champion: retrieval/i2t_recall@10 = " in shown
    assert "passed  chance: " in shown
    assert "passed  licences: all allow the use research: phantom Apache-2.0" in shown

    # A planted regression: the champion's own weights, half of them lost.
    spoil(fresh_study, "clip", 0.5)
    shown = run(*PROMOTE, "--method", "clip", cwd=fresh_study, fails=True)
    assert "refused regression: candidate less champion is -" in shown
    assert aliases(fresh_study) == {"champion": first}

    # No better than chance: all of them lost.
    spoil(fresh_study, "clip", 1.0)
    params(fresh_study, tolerance=1.0)
    shown = run(*PROMOTE, "--method", "clip", cwd=fresh_study, fails=True)
    assert "refused chance: the interval begins at " in shown
    assert aliases(fresh_study) == {"champion": first}

    # Whatever its scores, with such a tolerance a version above chance passes; then back again.
    params(fresh_study, floors={"all": None, "sources": {}, "modalities": {}})
    plan = version_of(fresh_study, "plan")
    run(*PROMOTE, "--version", plan, cwd=fresh_study)
    assert aliases(fresh_study) == {"champion": plan, "previous": first}
    assert f"version {first} is the champion again" in run(*PROMOTE, "--rollback", cwd=fresh_study)
    assert aliases(fresh_study) == {"champion": first}

    history = run(*PROMOTE, "--history", cwd=fresh_study)
    assert [line.split()[2] for line in history.splitlines()[1:]] == [
        *("promoted", "refused", "refused", "promoted", "rolled"),
    ]
    assert "differs" not in history
    ledger = fresh_study / "data/promotions.jsonl"
    assert run("git", "status", "--porcelain", "data", cwd=fresh_study).split() == ["??", "data/promotions.jsonl"]
    ledger.write_text(ledger.read_text().replace('"action": "refused"', '"action": "promoted"', 1))
    assert "promotions.jsonl: line 3 does not follow line 2" in run(*PROMOTE, "--history", cwd=fresh_study, fails=True)


def test_of_two_promotions_at_once_one_waits_and_is_judged_after_the_other(fresh_study: Path) -> None:
    params(fresh_study, tolerance=1.0, floors={"all": None, "sources": {}, "modalities": {}})
    started = [
        subprocess.Popen(
            [*PROMOTE, "--method", method],
            cwd=fresh_study,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for method in ("clip", "plan")
    ]
    texts = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], texts
    assert ["another run works in this workspace (promote, process" in text for text in texts].count(True) == 1
    lines = [json.loads(line) for line in (fresh_study / "data/promotions.jsonl").read_text().splitlines()]
    first, second = (line["champion"] for line in lines)
    assert (first["before"], second["before"]) == (None, first["after"])
    assert second["after"] == aliases(fresh_study)["champion"] != first["after"]


def test_a_registered_version_is_scored_on_the_images_of_another_study(fresh_study: Path, study: Path) -> None:
    model = yaml.safe_load((fresh_study / "params.yaml").read_text())["tracking"]["model"]
    reference = f"models:/{model}/{version_of(fresh_study, 'clip')}"
    shutil.rmtree(fresh_study / "data/checkpoints")
    shown = run(
        *(sys.executable, "-m", "flows.evaluate", reference, "--study", study, "--predictions", "--out", "judged"),
        cwd=fresh_study,
    )
    found = json.loads((fresh_study / "judged/metrics.json").read_text())
    own = json.loads((study / "data/evaluation/clip/metrics.json").read_text())
    assert found["tasks"] == own["tasks"]
    images = len(pyarrow.parquet.read_table(fresh_study / "judged/predictions/embeddings.parquet"))
    assert f"0 of {images} images were in the training data of this model" in shown

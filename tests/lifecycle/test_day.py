"""The day that docs/operations.md tells, run as it stands there."""

import json
import re
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from models import checkpoint
from tests.lifecycle.study import run

# The first test of a worker makes the study, too.
pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]


def blocks(repository: Path) -> list[str]:
    """The commands of the section, block by block."""
    page = (repository / "docs/operations.md").read_text(encoding="utf-8")
    section = page.partition("\n## A day\n")[2].partition("\n## ")[0]
    return re.findall(r"^```bash\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def shell(commands: str, folder: Path) -> str:
    """What a shell prints that stops at the first command that fails."""
    return run("bash", "-euo", "pipefail", "-c", commands, cwd=folder)


def decisions(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "data/promotions.jsonl").read_text(encoding="utf-8").splitlines()
    return [(entry["action"], entry["version"]) for entry in map(json.loads, lines)]


@pytest.mark.timeout(900)
def test_a_day(fresh_study: Path, mlflow_server: str, repository: Path) -> None:
    morning, noon, afternoon, evening, elsewhere = blocks(repository)
    client = MlflowClient(tracking_uri=mlflow_server)
    model = fresh_study.parent.name

    def champion() -> str:
        return str(client.get_registered_model(model).aliases["champion"])

    shell(morning, fresh_study)
    first = champion()
    method = client.get_model_version(model, first).tags["method"]
    digest = checkpoint.digest(fresh_study / "data/checkpoints" / method)

    told = shell(noon, fresh_study)
    assert "captions rebuilt" in told
    assert set(re.findall(r"^Running stage '(.+)':$", told, re.MULTILINE)).isdisjoint({"proposals", "image_shards"})
    second = champion()
    assert second != first

    told = shell(afternoon, fresh_study)
    assert "refused chance" in told
    assert champion() == second

    told = shell(evening, fresh_study)
    assert champion() == first
    assert [action for action, _ in decisions(fresh_study)] == ["promoted", "promoted", "refused", "rolled back"]
    assert "prompts/findings (not made by a stage) changed" in told

    runs = len(_runs(client, model))
    told = shell(elsewhere, fresh_study)
    again = fresh_study.parent / "again"
    assert checkpoint.digest(again / "data/checkpoints" / method) == digest
    assert "runs_made 0" in told
    assert len(_runs(client, model)) == runs


def _runs(client: MlflowClient, experiment: str) -> list[mlflow.entities.Run]:
    return client.search_runs([client.get_experiment_by_name(experiment).experiment_id])


# Two tests in this file: pytest-xdist would give a worker with one long test a second file to wait behind it.
def test_what_the_day_starts_from_is_up_to_date_and_committed(study: Path) -> None:
    assert run("git", "status", "--porcelain", cwd=study) == ""
    assert "up to date" in run("dvc", "status", cwd=study)

"""The flow on a real DVC repository under a real Prefect server."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import State

from flows import serve
from flows.reproduce import main, reproduce
from pipelines.errors import UserError
from pipelines.files import write_summary
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.store import connect
from tests.conftest import dvc
from tests.pipelines.evaluate.small_world import save_clip

GRAPH = """
stages:
  prepare:
    cmd: >-
      echo prepared it && cp raw.txt prepared &&
      mkdir -p data/summaries && cp counts.json data/summaries/prepare.json
    deps:
      - raw.txt
      - counts.json
    outs:
      - prepared
    metrics:
      - data/summaries/prepare.json:
          cache: false
  use:
    cmd: tr a-z A-Z < prepared > used
    deps:
      - prepared
    outs:
      - used
  report:
    cmd: mkdir -p data/report && cp -r page/. data/report && cat used > data/report/index.html
    deps:
      - page
      - used
    outs:
      - data/report
  other:
    cmd: echo other > other
    outs:
      - other
"""
COUNTS = {"stage": "prepare", "inputs": 3, "ok": 2, "rejected": 1, "reasons": {"rejected": {"broken_file": 1}}}


@pytest.fixture
def project(dvc_project: Callable[[str], Path]) -> Path:
    folder = dvc_project(GRAPH)
    write_summary(folder / "counts.json", COUNTS)
    (folder / "page").mkdir()
    finding = {"level": "warning", "topic": "data", "text": "small", "action": "`dvc repro`"}
    (folder / "page/verdict.json").write_text(json.dumps({"findings": [finding]}))
    (folder / "page/comparison.csv").write_text("method,metric,value,chance\nclip,recall@1,0.123456,\n")
    (folder / "page/gallery.png").write_bytes(b"a picture")
    return folder


def seen(state: State) -> tuple[dict[str, Any], list[str], list[str]]:
    """Artifacts by key and names of tasks of a run, and all log lines."""
    run = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        artifacts = {one.key: one.data for one in client.read_artifacts() if one.flow_run_id == run}
        tasks = [one.name for one in client.read_task_runs() if one.flow_run_id == run]
        return artifacts, tasks, [one.message for one in client.read_logs()]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_the_flow_does_what_dvc_repro_does_and_shows_it(project: Path) -> None:
    save_clip(project / "data/checkpoints/clip", seed=0)
    tracking = {"uri": "sqlite:///data/mlflow.db", "artifacts": "data/mlflow", "experiment": "test", "model": "test"}
    (project / "params.yaml").write_text(yaml.safe_dump({"tracking": tracking, "train": {"methods": {"clip": {}}}}))
    state = reproduce(str(project), return_state=True)
    assert state.is_completed(), state.message
    (version,) = connect(TrackingConfig(**tracking), project).search_model_versions("name = 'test'")
    assert version.tags["method"] == "clip"
    assert (project / "used").read_text() == "RAW\n"
    assert dvc(project, "status").strip() == "Data and pipelines are up to date."

    artifacts, tasks, logs = seen(state)
    assert sorted(tasks) == ["dvc status", "other", "prepare", "report", "tracking", "use"]
    assert json.loads(artifacts["counts-prepare"]) == [
        {"what": "inputs", "value": 3},
        {"what": "ok", "value": 2},
        {"what": "rejected", "value": 1},
        {"what": "stage", "value": "prepare"},
        {"what": "rejected: broken_file", "value": 1},
    ]
    assert artifacts["report"] == "[Report](http://127.0.0.1:5080/report/index.html)"
    assert artifacts["gallery"] == "http://127.0.0.1:5080/report/gallery.png"
    assert artifacts["verdict"].endswith("- **data**: small → \\`dvc repro\\`\n")
    assert json.loads(artifacts["scores"]) == [
        {"method": "clip", "metric": "recall@1", "value": 0.1235, "95 % interval": None, "chance": None}
    ]
    assert "prepared it" in logs
    again = seen(reproduce(str(project), return_state=True))[0]
    assert {"scores", "verdict", "gallery"} <= set(again)
    assert "report" not in again, "the report is an earlier run's"
    assert "scores" not in seen(reproduce(str(project), ("other",), return_state=True))[0]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_failing_stage_stops_what_depends_on_it_and_nothing_else(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graph = (project / "dvc.yaml").read_text().replace("tr a-z A-Z < prepared > used", "echo no more disk >&2; exit 3")
    (project / "dvc.yaml").write_text(graph)
    with pytest.raises(UserError, match="failed: use; not run, for they depend on it: report"):
        main("--project", str(project))
    assert not (project / "data/report").exists()
    assert (project / "prepared").exists()
    assert (project / "other").exists()
    assert "no more disk" in caplog.messages
    assert "Traceback" not in caplog.text


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_stage_is_tried_again_after_a_fault_that_may_pass_and_never_after_a_mistake(project: Path) -> None:
    graph = (project / "dvc.yaml").read_text()
    down = "echo x >> ../tries; test $(wc -l < ../tries) -ge 2 || exit 75; tr a-z A-Z < prepared > used"
    (project / "dvc.yaml").write_text(graph.replace("tr a-z A-Z < prepared > used", down))
    assert reproduce(str(project), ("use",), return_state=True).is_completed()
    assert (project / "../tries").read_text() == "x\nx\n"
    (project / "../tries").unlink()
    (project / "dvc.yaml").write_text(graph.replace("tr a-z A-Z < prepared > used", "echo x >> ../tries; exit 1"))
    state = reproduce(str(project), ("use",), return_state=True)
    assert (state.is_failed(), state.message) == (True, "failed: use")
    assert (project / "../tries").read_text() == "x\n"


def test_help_needs_no_server_and_a_typo_is_one_line(project: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main("--help")
    assert stopped.value.code == 0
    assert "--force" in capsys.readouterr().out
    with pytest.raises(UserError, match="no stage 'reprt': did you mean 'report'"):
        main("reprt", "--project", str(project))


def test_serving_without_a_server_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    shutil.copy(repository / "params.yaml", project)
    monkeypatch.chdir(project)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(UserError, match=r"no Prefect server at http://127.0.0.1:9/api .*make ui"),
    ):
        serve.main()

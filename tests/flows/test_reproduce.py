"""The flow on a real DVC repository under a real Prefect server."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

import flows
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
    cmd: mkdir -p data/report && cat used > data/report/index.html
    deps:
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
    return folder


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

    async def seen() -> tuple[dict, list, list]:
        async with get_client() as client:
            flow_run = state.state_details.flow_run_id
            artifacts = {one.key: one.data for one in await client.read_artifacts() if one.flow_run_id == flow_run}
            tasks = [one.name for one in await client.read_task_runs() if one.flow_run_id == flow_run]
            logs = [one.message for one in await client.read_logs()]
            return artifacts, tasks, logs

    artifacts, tasks, logs = asyncio.run(seen())
    assert sorted(tasks) == ["dvc status", "other", "prepare", "report", "tracking", "use"]
    assert json.loads(artifacts["counts-prepare"]) == [
        {"what": "inputs", "value": 3},
        {"what": "ok", "value": 2},
        {"what": "rejected", "value": 1},
        {"what": "stage", "value": "prepare"},
        {"what": "rejected: broken_file", "value": 1},
    ]
    assert (project / "data/report/index.html").as_uri() in artifacts["report"]
    assert "prepared it" in logs


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
def test_the_deployment_runs_the_graph_and_pauses_its_schedule_when_it_stops(project: Path) -> None:
    settings = {"api_url": PREFECT_API_URL.value(), "name": "daily", "cron": "0 3 * * *", "targets": ["prepare"]}
    (project / "params.yaml").write_text(yaml.safe_dump({"serve": settings}))
    environment = {**os.environ, "PYTHONPATH": str(Path(flows.__file__).parent.parent)}
    server = subprocess.Popen([sys.executable, "-m", "flows.serve"], cwd=project, env=environment)
    try:
        deployment = wait_for_deployment("reproduce/daily")
        assert [one.schedule.cron for one in deployment.schedules] == ["0 3 * * *"]
        assert not deployment.paused
        assert set(deployment.parameter_openapi_schema["properties"]) == {"project", "targets", "force"}
        run = run_deployment("reproduce/daily", timeout=90, poll_interval=1)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    assert run.state.is_completed(), run.state.message
    assert (project / "prepared").exists()
    assert not (project / "other").exists()
    assert wait_for_deployment("reproduce/daily").paused


def wait_for_deployment(name: str) -> Any:
    for _ in range(60):
        with contextlib.suppress(ObjectNotFound), get_client(sync_client=True) as client:
            return client.read_deployment_by_name(name)
        time.sleep(1)
    raise AssertionError(f"no deployment {name} after a minute")


def test_help_needs_no_server_and_a_typo_is_one_line(project: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main("--help")
    assert stopped.value.code == 0
    assert "--force" in capsys.readouterr().out
    with pytest.raises(UserError, match="no stage 'reprt': did you mean 'report'"):
        main("reprt", "--project", str(project))


def test_serving_without_a_server_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "params.yaml").write_text("serve: {api_url: 'http://127.0.0.1:9/api', name: x, cron: null}\n")
    monkeypatch.chdir(project)
    with pytest.raises(UserError, match=r"no Prefect server at http://127.0.0.1:9/api .*make ui"):
        serve.main()

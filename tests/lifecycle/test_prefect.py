"""The deployments on a real Prefect server, through its REST API and on its page."""

import http.server
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.lifecycle import study as small
from tests.lifecycle.prefect_api import Api, prefect_server, running
from tests.processes import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Page

# The first test of a worker makes the study, too.
pytestmark = [pytest.mark.lifecycle, pytest.mark.timeout(900)]

EPOCHS = "train.methods.clip.training.phases.global.epochs"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with prefect_server(tmp_path_factory.mktemp("prefect")) as server:
        yield server


@pytest.fixture(scope="module")
def told(api: Api) -> Iterator[list[dict[str, str]]]:
    """What came at the channel that the block custom-webhook/team names."""
    messages: list[dict[str, str]] = []

    class Channel(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *values: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Channel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with temporary_settings({PREFECT_API_URL: f"{api.address}/api"}):
        message = {"subject": "{{subject}}", "body": "{{body}}"}
        CustomWebhookNotificationBlock(name="team", url=address, json_data=message).save("team")
    yield messages
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def workspace(study: Path, tmp_path_factory: pytest.TempPathFactory, told: list[dict[str, str]]) -> Path:
    """A study whose graph is up to date, and whose params name the channel."""
    folder = small.copy(study, tmp_path_factory.mktemp("served") / "study", "served")
    change(folder, **{"serve.notify": "custom-webhook/team"})
    small.run("git", "commit", "--quiet", "--all", "--message", "A channel", cwd=folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def served(api: Api, workspace: Path) -> Iterator[psutil.Process]:
    """`python -m flows.serve` in the workspace; it may leave no process."""
    settings = small.environment() | {"PREFECT_API_URL": f"{api.address}/api"}
    log = workspace.parent / "serve.log"
    with running([sys.executable, "-m", "flows.serve"], workspace, log, settings) as process:
        api.until(lambda: "study/medregion" in log.read_text(), otherwise=log.read_text)
        yield psutil.Process(process.pid)


def change(workspace: Path, **values: Any) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    for key, value in values.items():
        *path, last = key.split(".")
        section = params
        for part in path:
            section = section[part]
        section[last] = value
    (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


@contextmanager
def door(port: int, address: str) -> Iterator[None]:
    """Let connections to a port through to a server."""
    target = urlsplit(address)

    def pump(source: socket.socket, sink: socket.socket) -> None:
        # Whichever side ends first closes both.
        with source, sink, suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)

    def accept() -> None:
        while True:
            try:
                inside, _ = listener.accept()
            except OSError:
                return
            outside = socket.create_connection((str(target.hostname), int(target.port or 80)))
            for pair in ((inside, outside), (outside, inside)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", port)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield


def test_five_deployments_with_schedules_that_wait_and_parameters_that_are_checked(api: Api) -> None:
    reproduce = api.deployment("reproduce")
    assert [(one["schedule"]["cron"], one["active"]) for one in reproduce["schedules"]] == [("0 3 * * *", False)]
    assert [api.deployment(flow)["schedules"] for flow in ("rebuild", "evaluate", "promote", "study")] == [[]] * 4
    assert reproduce["tags"] == ["medregion"]
    path = f"/deployments/{reproduce['id']}"
    for parameters, message in (
        ({"targets": ["reprt"]}, "'reprt' is not one of ['code', 'phantom'"),
        ({"methods": ["clap"]}, "'clap' is not one of ['clip', 'plan']"),
        ({"settings": ["train.engine.seed"]}, "does not match"),
        ({"force": "perhaps"}, "is not of type 'boolean'"),
    ):
        assert message in api.refusal(f"{path}/create_flow_run", {"parameters": parameters})
    named = f"/deployments/{api.deployment('study')['id']}/create_flow_run"
    assert "'001_tabel3' is not one of ['000_figure6'" in api.refusal(named, {"parameters": {"name": "001_tabel3"}})
    # What the switch on its page does.
    schedule = f"{path}/schedules/{reproduce['schedules'][0]['id']}"
    api.ask(schedule, {"active": True}, "PATCH")
    due = {"deployments": {"id": {"any_": [reproduce["id"]]}}}
    runs = api.until(lambda: api.ask("/flow_runs/filter", due))
    assert all(run["expected_start_time"][11:16] == "03:00" and run["auto_scheduled"] for run in runs)
    api.ask(schedule, {"active": False}, "PATCH")


def test_a_run_with_changed_settings_is_an_experiment_and_leaves_the_workspace_as_it_was(
    api: Api, workspace: Path
) -> None:
    mistyped = api.end(api.start("reproduce", settings=["evaluate.bootstrap.sampels=100"]))
    assert mistyped["type"] == "FAILED"
    assert mistyped["message"] == (
        "settings: 'evaluate.bootstrap.sampels': evaluate.bootstrap has no 'sampels': did you mean 'samples'?"
    )
    before = (workspace / "params.yaml").read_bytes()
    run = api.start("reproduce", methods=["clip"], settings=["evaluate.bootstrap.samples=100"])
    state = api.end(run)
    assert state["type"] == "COMPLETED", api.log(run)
    assert (workspace / "params.yaml").read_bytes() == before
    assert small.run("git", "status", "--porcelain", cwd=workspace) == ""
    name = state["message"].split()[1]
    assert name in small.run("dvc", "exp", "list", cwd=workspace)
    changed = small.run("dvc", "params", "diff", "HEAD", name, cwd=workspace)
    assert "evaluate.bootstrap.samples" in changed
    rows = json.loads(api.artifacts(run)["scores"])
    ours = json.loads((workspace / "data/scores/test/clip.json").read_text())["retrieval"]
    row = {"split": "test", "method": "clip", "task": "retrieval", "metric": "i2t_recall@10"}
    assert {**row, name: ours["i2t_recall@10"], "workspace": ours["i2t_recall@10"]} in rows
    assert "report" not in api.artifacts(run)


def test_a_mistake_is_not_tried_again_and_a_server_that_is_down_is(
    api: Api, workspace: Path, told: list[dict[str, str]], mlflow_server: str
) -> None:
    port = free_port()
    change(workspace, **{"report.gallery": -1, "tracking.uri": f"http://127.0.0.1:{port}"})
    run = api.start("reproduce")
    state = api.end(run)
    assert (state["type"], state["message"]) == ("FAILED", "failed: report"), api.log(run)
    assert api.tasks(run)["report"]["run_count"] == 1
    body = f"failed: report\n{api.address}/runs/flow-run/{run}"
    (message,) = api.until(lambda: [one for one in told if one["body"] == body])
    assert message["subject"].startswith("reproduce failed: ")

    change(workspace, **{"report.gallery": 3})
    api.move(run, "SCHEDULED", "AwaitingRetry")
    api.until(lambda: waiting(api.tasks(run).get("tracking")), otherwise=lambda: api.log(run))
    with door(port, mlflow_server):
        state = api.end(run)
    assert (state["type"], state["message"]) == ("COMPLETED", "14 stages are up to date"), api.log(run)
    assert api.tasks(run)["tracking"]["run_count"] == 2
    artifacts = api.artifacts(run)
    assert artifacts["report"].endswith("/report/index.html)")
    assert "/#/experiments/" in artifacts["mlflow"]
    assert {row["method"] for row in json.loads(artifacts["scores"])} == {"clip", "plan"}
    small.run("git", "checkout", "--quiet", ".", cwd=workspace)
    small.run("dvc", "checkout", cwd=workspace)


def waiting(task: dict[str, Any] | None) -> bool:
    return task is not None and task["state"]["name"] == "AwaitingRetry"


def test_a_cancelled_run_leaves_no_process_and_no_lock_and_the_run_that_waited_for_it_goes_on(
    api: Api, workspace: Path, served: psutil.Process, told: list[dict[str, str]]
) -> None:
    change(workspace, **{EPOCHS: 500})
    run = api.start("reproduce", targets=["train@clip"])
    api.until(lambda: "Running stage 'train@clip':" in api.log(run), otherwise=lambda: api.log(run))
    started = served.children(recursive=True)
    assert any("pipelines.train" in one.cmdline() for one in started)
    assert not (workspace / "data/checkpoints/clip").exists()
    small.run("git", "checkout", "--quiet", "params.yaml", cwd=workspace)
    again = api.start("reproduce", targets=["train@clip"])
    assert api.ask(f"/flow_runs/{again}")["state"]["type"] == "SCHEDULED"
    command = [sys.executable, "-m", "flows.promote"]
    streams = {"stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=workspace, env=small.environment(), **streams) as typed:
        assert typed.stderr is not None
        assert "another run works in this workspace (reproduce, process" in typed.stderr.readline()
        typed.terminate()
    assert api.ask(f"/flow_runs/{again}")["state"]["type"] == "SCHEDULED"

    api.move(run, "CANCELLING", "Cancelling")
    assert api.end(run)["type"] == "CANCELLED"
    assert psutil.wait_procs(started, timeout=30)[1] == []
    state = api.end(again)
    assert state["type"] == "COMPLETED", api.log(again)
    assert "Stage 'train@clip' is cached - skipping run, checking out outputs" in api.log(again)
    assert "report" not in api.artifacts(again), "this run made none"
    assert not any(json.loads((workspace / ".dvc/tmp/rwlock").read_text()).values())
    assert list((workspace / "data/tmp").iterdir()) == []
    assert small.run("git", "status", "--porcelain", cwd=workspace) == ""
    assert "up to date" in small.run("dvc", "status", cwd=workspace)


def test_a_promotion_is_an_event_and_is_told_and_the_page_shows_its_gates(
    api: Api, workspace: Path, told: list[dict[str, str]], page: "Page", beyond_loopback: list[str]
) -> None:
    run = api.start("promote")
    state = api.end(run)
    assert (state["type"], state["name"]) == ("COMPLETED", "Completed"), api.log(run)
    assert "is the champion: retrieval/i2t_recall@10 = " in state["message"]
    wanted = {"filter": {"event": {"name": ["medregion.champion.changed"]}}}
    (event,) = api.until(lambda: api.ask("/events/filter", wanted)["events"])
    assert event["resource"]["prefect.resource.id"] == "mlflow.model.served"
    assert event["payload"]["champion"] == {"before": None, "after": event["payload"]["version"]}
    assert {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.role": "flow-run"}.items() <= dict(
        next(one for one in event["related"] if one["prefect.resource.role"] == "flow-run")
    ).items()
    assert {"subject": "served: promoted", "body": state["message"]} in told

    page.goto(f"{api.address}/runs/flow-run/{run}")
    page.get_by_text("Artifacts", exact=True).first.click()
    page.get_by_text("promotion").first.wait_for()
    page.goto(f"{api.address}/deployments/deployment/{api.deployment('reproduce')['id']}/run")
    page.get_by_text("Other values of params.yaml for this run alone").wait_for()
    assert beyond_loopback == []

"""Evaluation and promotion as flows: the states that they end in, and what their pages show."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.states import State

from flows.evaluate_flow import evaluate
from flows.notify import CHAMPION_CHANGED
from flows.promote_flow import promote
from models.verified import read_digests
from pipelines.tracking.sync import sync
from tests.pipelines.promotion.promotion_world import promotion, write_study

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_server")]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with a method that learned all words and one that learned none; in MLflow."""
    folder = tmp_path_factory.mktemp("registered")
    write_study(folder, {"trained": (0, 100), "untrained": (0, 0)})
    sync(promotion(folder).tracking, folder)
    return folder


@pytest.fixture
def project(registered: Path, tmp_path: Path) -> Path:
    return shutil.copytree(registered, tmp_path / "project")


def artifacts(state: State) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts()
    return {one.key: one.data for one in found if one.flow_run_id == state.state_details.flow_run_id}


def events() -> list[dict[str, Any]]:
    """What the champion's events say, when the first one has arrived in the server's table."""
    wanted = EventFilter(event=EventNameFilter(name=[CHAMPION_CHANGED]))
    with get_client(sync_client=True) as client:
        while not (found := client.read_events(wanted, limit=10).events):
            time.sleep(0.2)
    return [event.payload for event in found]


def test_a_refusal_is_a_completed_run_of_that_name_and_only_a_new_champion_is_an_event(project: Path) -> None:
    state = promote(str(project), return_state=True)
    assert (state.is_completed(), state.name) == (True, "Completed")
    assert "is the champion: retrieval/t2i_recall@5 = 1.0000" in str(state.message)
    assert "| chance | passed |" in artifacts(state)["promotion"]
    assert "/#/experiments/" in artifacts(state)["mlflow"]
    again = promote(str(project), method="untrained", return_state=True)
    assert (again.is_completed(), again.name) == (True, "Refused")
    assert "| regression | **refused** |" in artifacts(again)["promotion"]
    (payload,) = events()
    assert {name: payload[name] for name in ("action", "method", "champion")} == {
        "action": "promoted",
        "method": "trained",
        "champion": {"before": None, "after": payload["version"]},
    }


def test_what_cannot_be_decided_has_failed_with_one_line(project: Path) -> None:
    for parameters, message in (
        ({"method": "clap"}, "'clap' has no scores: choose from trained, untrained"),
        ({"rollback": True}, "there is no champion yet"),
        ({"method": "trained", "rollback": True}, "choose one of method, version and rollback"),
    ):
        state = promote(str(project), **parameters, return_state=True)
        assert state.is_failed()
        assert message in str(state.message)
        assert artifacts(state) == {}


def test_an_evaluation_shows_its_scores_and_writes_them_where_it_is_told(project: Path) -> None:
    model = str(project / "data/checkpoints/trained")
    state = evaluate(str(project), model, return_state=True)
    assert state.is_completed(), state.message
    rows = {(row["task"], row["metric"]): row for row in json.loads(artifacts(state)["evaluation"])}
    assert rows["retrieval", "t2i_recall@5"]["value"] == 1.0
    assert sorted(path.name for path in project.iterdir()) == ["data", "params.yaml"]
    state = evaluate(str(project), model, split="validation", out="judged", return_state=True)
    assert str(state.message).endswith("is scored on the validation images; results: judged")
    assert "metrics.json" in read_digests(project / "judged")
    for parameters, message in (
        ({"predictions": True}, "predictions need a folder: name one in `out`"),
        ({"out": "data/judged"}, "whose folders the stages write: name a folder elsewhere"),
        ({"model": None}, "test has no champion yet"),
    ):
        state = evaluate(str(project), **({"model": model} | parameters), return_state=True)
        assert state.is_failed()
        assert message in str(state.message)

"""Aliases and ledger together, on a real MLflow store: moves, kills between two steps, other machines, rollback."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from pipelines.errors import UserError
from pipelines.promotion import ledger
from pipelines.promotion.registry import CHAMPION, PREVIOUS, PROMOTED, ROLLED_BACK, Registry, promotion_lock
from pipelines.promotion.verdict import history
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.names import CHECKPOINT
from pipelines.tracking.store import connect

TRACKING = TrackingConfig(uri="sqlite:///data/mlflow.db", artifacts="data/mlflow", experiment="test", model="test")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registered model with four versions."""
    folder = tmp_path_factory.mktemp("store")
    client = connect(TRACKING, folder)
    client.create_registered_model("test")
    for number in range(1, 5):
        client.create_model_version("test", "file:///nowhere", tags={CHECKPOINT: f"digest {number}"})
    return folder


@pytest.fixture
def project(store: Path, tmp_path: Path) -> Path:
    return shutil.copytree(store, tmp_path / "project")


def open_registry(project: Path) -> Registry:
    return Registry(connect(TRACKING, project), "test", project / ledger.LEDGER)


def entry(version: str, before: str | None, action: str = PROMOTED, previous: str | None = None) -> dict[str, Any]:
    return {
        "time": "2026-01-01T00:00:00+00:00",
        "who": "tester",
        "action": action,
        "version": version,
        "method": "clip",
        "checkpoint_sha256": f"digest {version}",
        "metric": "retrieval/i2t_recall@1",
        "score": {"value": 0.5, "low": 0.4, "high": 0.6, "chance": 0.1},
        "items_sha256": "items",
        "gates": {"chance": {"passed": action != "refused", "text": "a | b", "figures": {}}},
        "refused": ["chance"] if action == "refused" else [],
        "champion": {"before": before, "after": before if action == "refused" else version},
        "previous_alias": before if action == PROMOTED else previous,
    }


def aliases(project: Path) -> dict[str, str]:
    found = connect(TRACKING, project).get_registered_model("test").aliases
    return {name: str(version) for name, version in found.items()}


def verdict(client: MlflowClient, version: str) -> dict[str, str]:
    return {name: text for name, text in client.get_model_version("test", version).tags.items() if "verdict" in name}


def test_moves_leave_aliases_a_line_and_a_verdict(project: Path) -> None:
    registry = open_registry(project)
    registry.move(entry("1", None))
    assert aliases(project) == {CHAMPION: "1"}
    registry.move(entry("3", "1"))
    assert aliases(project) == {CHAMPION: "3", PREVIOUS: "1"}
    registry.write(entry("2", "3", "refused", "1"))
    assert aliases(project) == {CHAMPION: "3", PREVIOUS: "1"}
    tags = verdict(registry.client, "2")
    assert tags["verdict.outcome"] == "refused"
    assert tags["verdict.ledger"] == ledger.line_digests(project / ledger.LEDGER)[2]
    assert "| chance | refused | a \\| b |" in registry.client.get_model_version("test", "2").description
    assert registry.differences() == []
    assert registry.candidates_on("items") == {"digest 1", "digest 3", "digest 2"}
    table = history(registry.entries).split("\n")
    assert len(table) == 4
    assert table[3].split() == [
        *("2026-01-01T00:00:00+00:00", "tester", "refused", "2", "clip", "0.5000", "0.4000", "to", "0.6000", "chance"),
    ]


def test_a_rollback_goes_back_one_champion_at_a_time(project: Path) -> None:
    registry = open_registry(project)
    for version, before in (("1", None), ("2", "1"), ("1", "2"), ("3", "1")):
        registry.move(entry(version, before))
    assert registry.champions() == ["1", "2", "1", "3"]
    assert registry.champions_before("1") == ["1", "2"]
    registry.move(entry("1", "3", ROLLED_BACK, "2"))
    assert aliases(project) == {CHAMPION: "1", PREVIOUS: "2"}
    registry.move(entry("2", "1", ROLLED_BACK, "1"))
    registry.move(entry("1", "2", ROLLED_BACK, None))
    assert aliases(project) == {CHAMPION: "1"}
    assert (registry.champions(), registry.differences()) == (["1"], [])


@pytest.mark.parametrize("step", ["ledger", "previous", "champion"])
def test_a_kill_between_two_steps_is_mended(project: Path, step: str, caplog: pytest.LogCaptureFixture) -> None:
    open_registry(project).move(entry("1", None))
    client = connect(TRACKING, project)
    ledger.append(project / ledger.LEDGER, {**entry("2", "1"), "model": "test"})
    if step != "ledger":
        client.set_registered_model_alias("test", PREVIOUS, "1")
    if step == "champion":
        client.set_registered_model_alias("test", CHAMPION, "2")
    registry = open_registry(project)
    registry.mend()
    assert aliases(project) == {CHAMPION: "2", PREVIOUS: "1"}
    assert verdict(client, "2")["verdict.outcome"] == PROMOTED
    assert registry.differences() == []
    assert ("finishing what was cut off: version 2" in caplog.text) == (step != "champion")
    before = client.get_model_version("test", "2").last_updated_timestamp
    registry.mend()
    assert client.get_model_version("test", "2").last_updated_timestamp == before


def test_an_alias_that_was_moved_by_hand_stays_and_is_told(project: Path) -> None:
    registry = open_registry(project)
    registry.move(entry("1", None))
    registry.move(entry("2", "1"))
    registry.client.set_registered_model_alias("test", CHAMPION, "1")
    registry.mend()
    assert aliases(project)[CHAMPION] == "1"
    assert registry.differences() == ["the alias champion is version 1 in the registry, version 2 by the ledger"]


def test_a_promotion_from_another_machine_wins_and_this_one_is_told(project: Path) -> None:
    open_registry(project).move(entry("1", None))
    ours, theirs = (open_registry(project) for _ in range(2))
    theirs.client.set_registered_model_alias("test", CHAMPION, "4")
    with pytest.raises(UserError, match="came in between: the champion is version 4, not version 1"):
        ours.move(entry("2", "1"))
    assert aliases(project)[CHAMPION] == "4"
    assert [one["version"] for one in open_registry(project).entries] == ["1"]


@pytest.mark.parametrize("kept", [0, 1])
def test_lines_that_were_cut_off_or_changed_at_the_end_are_told_and_not_mended(
    project: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    registry = open_registry(project)
    registry.move(entry("1", None))
    registry.move(entry("2", "1"))
    file = project / ledger.LEDGER
    lines = file.read_text().split("\n")
    file.write_text(lines[0] + "\n" + (lines[1].replace("tester", "somebody") + "\n") * kept)
    changed = open_registry(project)
    changed.mend()
    assert any(
        "the verdict of version 2 names a line that the ledger does not have" in one for one in changed.differences()
    )
    assert aliases(project) == {CHAMPION: "2", PREVIOUS: "1"}
    if kept:
        assert "names a line that the ledger does not have" in caplog.text


def test_versions_that_differ_are_told(project: Path) -> None:
    registry = open_registry(project)
    registry.move(entry("1", None) | {"checkpoint_sha256": "another"})
    registry.write(entry("4", "1", "refused"))
    registry.client.delete_model_version("test", "4")
    assert open_registry(project).differences() == [
        "version 1 is of another checkpoint in the registry than in the ledger",
        "version 4 of the ledger is not in the registry",
    ]
    with pytest.raises(UserError, match="test has no version 4: choose from 1, 2, 3"):
        registry.version("4")
    with pytest.raises(UserError, match="test has no version best: choose from 1, 2, 3"):
        registry.version("best")


def test_only_one_process_decides_at_a_time(project: Path) -> None:
    with (
        promotion_lock(TRACKING, project),
        pytest.raises(UserError, match="another promotion is running"),
        promotion_lock(TRACKING, project),
    ):
        pass
    with promotion_lock(TRACKING, project):
        pass


def test_a_model_that_is_not_registered_is_one_line(project: Path) -> None:
    with pytest.raises(UserError, match=r"the registered model other cannot be read .*python -m pipelines\.tracking"):
        Registry(connect(TRACKING, project), "other", project / ledger.LEDGER).alias(CHAMPION)


def test_a_deleted_version_is_no_previous_champion_and_blocks_nothing(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = open_registry(project)
    registry.move(entry("1", None))
    registry.move(entry("2", "1"))
    registry.client.delete_model_version("test", "1")
    registry.move(entry("3", "2") | {"previous_alias": "1"})
    assert aliases(project) == {CHAMPION: "3"}
    assert "version 1 was deleted from the registry" in caplog.text
    with pytest.raises(UserError, match="has no version 1: choose from 2, 3, 4"):
        registry.move(entry("1", "3", ROLLED_BACK))
    assert len(ledger.read(project / ledger.LEDGER)) == 3
    open_registry(project).mend()


def test_a_lost_or_emptied_ledger_is_told_by_the_next_promotion(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    open_registry(project).move(entry("1", None))
    for way in ("deleted", "emptied"):
        caplog.clear()
        file = project / ledger.LEDGER
        file.write_text("") if way == "emptied" else file.unlink()
        open_registry(project).mend()
        assert "the alias champion is version 1 in the registry, none by the ledger" in caplog.text
        assert "names a line that the ledger does not have" in caplog.text


def test_a_rollback_keeps_the_gates_that_judged_the_version(project: Path) -> None:
    registry = open_registry(project)
    registry.move(entry("1", None))
    registry.move(entry("2", "1"))
    registry.move(entry("1", "2", ROLLED_BACK) | {"gates": {}, "score": {}})
    tags = registry.version("1").tags
    assert (tags["verdict.outcome"], tags["verdict.gate.chance"]) == (ROLLED_BACK, "passed: a | b")
    assert "retrieval/i2t_recall@1 = 0.5000 on test" in registry.version("1").description


def test_a_line_that_lacks_what_every_entry_has_is_no_entry(tmp_path: Path) -> None:
    file = tmp_path / "ledger.jsonl"
    file.write_text('{"previous": "' + "0" * 64 + '"}\n')
    with pytest.raises(UserError, match="line 1 is no entry"):
        ledger.read(file)

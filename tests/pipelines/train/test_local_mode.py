"""One worker without a cluster: Ray Train's local mode, which starts no daemon, saves states and resumes."""

import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.errors import UserError
from pipelines.registry import PLUGINS
from tests.pipelines.train.test_train_stage import files, seen, settings, start, study, train

__all__ = ["study"]


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def long_settings(**engine: Any) -> dict[str, Any]:
    """Enough steps that the run can be looked at, and killed, before it ends."""
    values = settings(**engine)
    values["methods"]["regionmed_clip"]["training"]["phases"]["joint"]["epochs"] = 30
    return values


@pytest.mark.slow
def test_a_killed_run_had_no_daemon_and_resumes_to_the_bytes_of_training_in_process(
    study: Path, repository: Path
) -> None:
    process = start(study, long_settings(num_workers=1), repository)
    watched = psutil.Process(process.pid)
    while not list((study / "data" / "cache" / "train").glob("*/state.pt")):
        assert process.poll() is None, "the run ended before it saved a state"
        time.sleep(0.01)
    assert [child.name() for child in watched.children(recursive=True)] == []
    assert [item for item in watched.net_connections() if item.status == psutil.CONN_LISTEN] == []
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (study / "data" / "checkpoints").exists()

    resumed = start(study, long_settings(num_workers=1), repository)
    _, log = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, log
    assert "warm_up" not in log
    assert "step 121 of 124 joint" in log
    in_local_mode = files(study)
    assert not list((study / "data" / "cache" / "train").iterdir())
    train(study, long_settings())
    assert files(study) == in_local_mode


def test_a_loss_that_is_not_finite_ends_the_run_at_once(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLUGINS["methods"], "regionmed_clip", "tests.pipelines.train.mortal:Mortal")
    monkeypatch.setenv("MORTAL_FOLDER", str(study))
    values = settings(num_workers=1, max_failures=2, checkpoint_every=2)
    (study / "SPOIL").touch()
    with pytest.raises(UserError, match=r"loss is nan at step 3 \(warm_up\)"):
        train(study, values)
    assert [len(steps) for steps in seen(study)] == [3], "it was tried again"
    # Run again without the cause, it goes on behind the state that it saved in step 2.
    (study / "SPOIL").unlink()
    assert train(study, values)["steps"] == 12
    assert [len(steps) for steps in seen(study)] == [10]

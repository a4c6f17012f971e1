"""One run in a workspace at a time."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows.one_run import one_run

HOLD = """
import sys, time
from pathlib import Path
from flows.one_run import one_run

with one_run(Path(sys.argv[1]), "reproduce", print):
    print("holds", flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / ".dvc").mkdir()
    return tmp_path


def test_a_second_run_says_for_what_it_waits_and_begins_when_the_first_ends_or_is_killed(
    workspace: Path, repository: Path
) -> None:
    command = [sys.executable, "-c", HOLD, str(workspace)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holds\n"
        said: list[str] = []
        begun = threading.Event()

        def second() -> None:
            with one_run(workspace, "promote", said.append):
                begun.set()

        waiting = threading.Thread(target=second)
        waiting.start()
        assert not begun.wait(1)
        first.kill()
        assert begun.wait(30)
        waiting.join()
        assert said == [f"another run works in this workspace (reproduce, process {first.pid}): waiting until it ends"]
    with one_run(workspace, "evaluate", said.append):
        assert len(said) == 1


def test_another_workspace_is_free_and_a_folder_without_dvc_has_nothing_to_guard(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other, plain = tmp_path_factory.mktemp("other"), tmp_path_factory.mktemp("plain")
    (other / ".dvc").mkdir()
    with one_run(workspace, "a", pytest.fail), one_run(other, "b", pytest.fail), one_run(plain, "c", pytest.fail):
        pass
    assert list(plain.iterdir()) == []

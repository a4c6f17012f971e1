"""The engine with real processes: order, equal outcomes, deaths, faults, bounds, and that no process is left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.workers.config import THIS_PROCESS, WorkersConfig, load_workers
from pipelines.workers.crew import Lost
from pipelines.workers.engine import in_batches, in_workers
from tests.pipelines.workers.functions import Built, Doubling
from tests.processes import environment, listening


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def workers_of_this_process() -> list[psutil.Process]:
    """What it started but multiprocessing's own tracker, which stays."""
    return [child for child in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def nobody_is_left(no_cluster: None) -> Iterator[None]:
    # Loaders of tests before may still be there.
    before = workers_of_this_process()
    yield
    assert [worker for worker in workers_of_this_process() if worker not in before] == []


def work(function: Doubling, count: int, processes: int, size: int = 4, worth: int = 1, **making: bool) -> list[Any]:
    """Items 0, 1, ... with their outcomes."""
    pairs = in_workers(
        Built(function, **making),
        in_batches(range(count), size),
        WorkersConfig(processes=processes),
        items=count,
        worth=worth,
    )
    with closing(pairs):
        return list(pairs)


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_outcomes_come_in_order_whoever_works(tmp_path: Path, processes: int) -> None:
    # The first batch takes longest: all others are through before it.
    found = work(Doubling(notes=tmp_path, slow=((0, 1.0),)), 30, processes)
    assert [(item, outcome[0]) for item, outcome in found] == [(item, 2 * item) for item in range(30)]
    workers = {outcome[1] for _, outcome in found}
    assert workers <= {int(file.name.removeprefix("built-")) for file in tmp_path.glob("built-*")}
    assert min(processes, 2) <= len(workers) <= processes
    assert (os.getpid() in workers) == (processes == 1)


def test_relative_paths_start_from_the_folder_of_the_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    work(Doubling(notes=Path()), 8, 2)
    assert list(tmp_path.glob("built-*"))
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_few_items_are_done_in_this_process(tmp_path: Path) -> None:
    found = work(Doubling(notes=tmp_path), 19, 2, worth=10)
    assert {outcome[1] for _, outcome in found} == {os.getpid()}
    found = work(Doubling(notes=tmp_path), 20, 8, worth=10)
    assert os.getpid() not in {outcome[1] for _, outcome in found}
    assert len(list(tmp_path.glob("built-*"))) <= 3
    assert list(in_workers(Built(Doubling(notes=tmp_path)), [], WorkersConfig(processes="all"), items=0, worth=1)) == []


def test_an_item_that_ends_its_worker_is_lost_alone(tmp_path: Path) -> None:
    found = dict(work(Doubling(notes=tmp_path, deadly=(13, 22)), 30, 2, size=8))
    assert [item for item, outcome in found.items() if isinstance(outcome, Lost)] == [13, 22]
    assert found[13] == Lost("worker_died")
    assert [outcome[0] for item, outcome in found.items() if item not in (13, 22)] == [
        2 * item for item in range(30) if item not in (13, 22)
    ]
    calls = (tmp_path / "calls").read_text().splitlines()
    # The batch twice, then item by item; nothing else is done again.
    for batch in (range(8, 16), range(16, 24)):
        assert calls.count(" ".join(map(str, batch))) == 2
        assert [calls.count(str(item)) for item in batch] == [1] * 8
    assert len(calls) == 4 + 2 + 16
    # Two places, and a new worker for each of the six deaths, if the place had work left.
    assert 7 <= len(list(tmp_path.glob("built-*"))) <= 8


def test_a_batch_whose_worker_dies_once_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "5").write_text("x")
    found = work(Doubling(notes=tmp_path, deadly_once=(5,)), 12, 2)
    assert [outcome[0] for _, outcome in found] == [2 * item for item in range(12)]
    assert (tmp_path / "calls").read_text().splitlines().count("4 5 6 7") == 2
    assert "a worker died (exit code 7) with 4 items at hand" in caplog.text


def test_a_batch_of_one_is_tried_twice(tmp_path: Path) -> None:
    found = dict(work(Doubling(notes=tmp_path, deadly=(1,)), 4, 2, size=1))
    assert found[1] == Lost()
    assert sorted((tmp_path / "calls").read_text().split()) == ["0", "1", "1", "2", "3"]


def test_what_the_function_raises_ends_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^9 is wrong: choose another$"):
        work(Doubling(notes=tmp_path, wrong=9), 30, 2)
    with pytest.raises(KeyError, match="number 9") as caught:
        work(Doubling(notes=tmp_path, defect=9), 30, 2)
    (note,) = caught.value.__notes__
    assert note.startswith("in a worker:")
    assert "functions.py" in note
    with pytest.raises(RuntimeError, match="TwoWords: never again"):
        work(Doubling(notes=tmp_path, lost_words=9), 30, 2)


def test_a_function_that_cannot_be_built_ends_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^an option is wrong: choose another$"):
        work(Doubling(notes=tmp_path), 30, 2, refused=True)
    with pytest.raises(UserError, match=r"^a worker died twice as it started \(exit code 7\), perhaps for want"):
        work(Doubling(notes=tmp_path), 30, 2, deadly=True)


def test_only_some_batches_are_on_their_way(tmp_path: Path) -> None:
    handed_out = 0

    def batches() -> Iterator[list[int]]:
        nonlocal handed_out
        for number in range(40):
            handed_out += 1
            yield [number]

    pairs = in_workers(Built(Doubling(notes=tmp_path)), batches(), WorkersConfig(processes=2), items=40, worth=1)
    with closing(pairs):
        ahead = [handed_out - done for done, _ in enumerate(pairs)]
    # 4 for each of two workers, and the one that waits for a place.
    assert max(ahead) == 9
    assert handed_out == 40


def test_workers_listen_nowhere_and_end_at_once_when_nobody_wants_the_rest(tmp_path: Path) -> None:
    slow = tuple((item, 100.0) for item in range(4, 30))
    pairs = in_workers(
        Built(Doubling(notes=tmp_path, slow=slow)),
        in_batches(range(30), 2),
        WorkersConfig(processes=2),
        items=30,
        worth=1,
    )
    assert next(pairs)[0] == 0
    workers = workers_of_this_process()
    assert len(workers) == 2
    assert listening(workers) == []
    begun = time.monotonic()
    pairs.close()
    assert time.monotonic() - begun < 5
    assert not any(worker.is_running() for worker in workers)


STAGE = """
import sys
from contextlib import closing
from pathlib import Path
from pipelines.stage import command
from pipelines.workers.config import WorkersConfig
from pipelines.workers.engine import in_batches, in_workers
from tests.pipelines.workers.functions import Built, Doubling

def main():
    slow = tuple((item, 100.0) for item in range(4, 30))
    function = Built(Doubling(notes=Path(), slow=slow))
    work = in_workers(function, in_batches(range(30), 2), WorkersConfig(processes=2), items=30, worth=1)
    with closing(work) as pairs:
        for item, outcome in pairs:
            print(outcome[1], flush=True)

if __name__ == "__main__":
    command(main)
"""


def blocks(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a signal blocked (proc(5), SigBlk)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigBlk:"))
    return bool(mask >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("number", "to_all", "code"),
    [
        (signal.SIGINT, True, 130),
        (signal.SIGINT, False, 130),
        (signal.SIGTERM, False, 143),
        (signal.SIGKILL, False, -signal.SIGKILL),
    ],
)
def test_no_worker_outlives_its_stage(
    tmp_path: Path, repository: Path, number: signal.Signals, to_all: bool, code: int
) -> None:
    (tmp_path / "stage_script.py").write_text(STAGE)
    stage = subprocess.Popen(
        [sys.executable, "stage_script.py"],
        cwd=tmp_path,
        env=environment(repository),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert stage.stdout is not None
    workers = {int(stage.stdout.readline()) for _ in range(4)}  # what follows takes 100 seconds
    found = psutil.Process(stage.pid).children(recursive=True)
    assert workers <= {child.pid for child in found}
    # The very first worker too, which starts together with multiprocessing's own tracker.
    assert [blocks(worker, signal.SIGINT) for worker in workers] == [True] * len(workers)
    if to_all:  # as a terminal does
        os.killpg(stage.pid, number)
    else:
        stage.send_signal(number)
    _, errors = stage.communicate(timeout=30)
    assert stage.returncode == code
    assert psutil.wait_procs(found, timeout=10)[1] == []
    if number == signal.SIGINT:
        assert errors == ""


def test_items_of_one_file_stay_in_one_batch() -> None:
    items = ["a1", "b1", "b2", "b3", "b4", "c1", "d1", "d2"]
    assert list(in_batches(items, 3)) == [["a1", "b1", "b2"], ["b3", "b4", "c1"], ["d1", "d2"]]
    by_file = list(in_batches(items, 3, lambda item: item[0]))
    assert by_file == [["a1", "b1", "b2", "b3", "b4"], ["c1", "d1", "d2"]]
    assert list(in_batches([], 3)) == []
    assert [len(batch) for batch in in_batches(range(1100), 10, lambda item: "volume")] == [512, 512, 76]


def test_settings_are_a_number_or_all(repository: Path, tmp_path: Path) -> None:
    assert load_workers(repository / "params.yaml") == WorkersConfig(processes="all")
    assert (WorkersConfig(processes="all").number, WorkersConfig(processes=3).number) == (None, 3)
    assert THIS_PROCESS.number == 1
    for wrong in (0, -1, "al", "2", None, 1.5, True):
        with pytest.raises(UserError, match=r"^workers.*processes") as caught:
            parse(WorkersConfig, {"processes": wrong}, "workers")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="process: unknown key; did you mean 'processes'"):
        parse(WorkersConfig, {"process": 2}, "workers")

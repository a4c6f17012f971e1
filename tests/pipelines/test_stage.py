"""What every stage shares: counts that add up, the failure limit, the command line, progress."""

import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from pipelines import stage
from pipelines.errors import UserError
from pipelines.files import read_summary
from pipelines.stage import Summary, progress

DEMO = """
from pipelines.errors import TemporaryError, UserError

def main(source: str, kind: str = "all") -> None:
    if source == "typo":
        raise UserError("ingest.sources has no 'typo': choose from phantom")
    if source == "defect":
        raise ZeroDivisionError("a defect of ours")
    if source == "down":
        raise TemporaryError("the server does not answer: start it")
    if source == "network":
        import urllib.request
        urllib.request.urlopen("http://127.0.0.1:9")
    if source == "broken":
        raise BrokenPipeError(32, "Broken pipe")
    if source == "long":
        print("a line\\n" * 100_000)
    print(f"read {source} {kind}")
"""


def test_the_summary_holds_every_outcome_and_reason(tmp_path: Path) -> None:
    summary = Summary("demo")
    summary.ok(5)
    summary.rejected("truncated", 2)
    summary.rejected("corrupt")
    summary.failed("OSError: gone")
    summary.duplicate("same_pixels", 3)
    summary.extra = {"regions": 7}
    returned = summary.write(12, tmp_path / "summaries")
    written = read_summary(tmp_path / "summaries" / "demo.json")
    assert written == returned
    assert {key: written[key] for key in ("stage", "inputs", "ok", "rejected", "failed", "duplicates", "regions")} == {
        "stage": "demo",
        "inputs": 12,
        "ok": 5,
        "rejected": 3,
        "failed": 1,
        "duplicates": 3,
        "regions": 7,
    }
    assert written["reasons"] == {
        "rejected": {"corrupt": 1, "truncated": 2},
        "failed": {"OSError: gone": 1},
        "duplicates": {"same_pixels": 3},
    }
    assert written["seconds"] >= 0
    assert written["peak_memory_mb"] > 1


def test_a_stage_without_inputs_has_a_summary(tmp_path: Path) -> None:
    assert Summary("demo").write(0, tmp_path)["inputs"] == 0
    assert json.loads((tmp_path / "demo.json").read_text())["reasons"] == {}


@pytest.mark.parametrize("inputs", [2, 4])
def test_counts_that_do_not_add_up_are_no_summary(tmp_path: Path, inputs: int) -> None:
    summary = Summary("demo")
    summary.ok(2)
    summary.rejected("corrupt")
    with pytest.raises(AssertionError, match=f"demo: {inputs} inputs but 3 outcomes"):
        summary.write(inputs, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_many_failures_stop_the_stage_and_say_why() -> None:
    summary = Summary("demo")
    summary.ok(97)
    summary.rejected("corrupt", 50)  # rejected is final, and never counts as failed
    summary.failed("timeout", 2)
    summary.failed("refused")
    summary.limit_failures(0.02)  # 3 of 150 is not more
    summary.failed("timeout")
    with pytest.raises(UserError) as caught:
        summary.limit_failures(0.02)
    assert str(caught.value) == (
        "demo: 4 of 151 items failed (timeout 3, refused 1), more than the fraction 0.02 that params.yaml allows; "
        "mend the cause or raise max_failed_fraction"
    )


def test_a_stage_without_inputs_has_not_failed() -> None:
    Summary("demo").limit_failures(0.0)


def run(repository: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """A folder with a package that is laid out like a stage."""
    package = tmp_path / "demo"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "stage.py").write_text(DEMO)
    (package / "__main__.py").write_text(
        "from demo.stage import main\nfrom pipelines.stage import command\n\ncommand(main)\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        (["phantom"], 0, "read phantom all\n", ""),
        (["phantom", "one"], 0, "read phantom one\n", ""),
        (["typo"], 1, "", "error: ingest.sources has no 'typo': choose from phantom\n"),
        ([], 1, "", "error: usage: python -m demo SOURCE [KIND]\n"),
        (["a", "b", "c"], 1, "", "error: usage: python -m demo SOURCE [KIND]\n"),
        (["down"], 75, "", "error: the server does not answer: start it\n"),
        (
            ["network"],
            75,
            "",
            "error: a server did not answer, or the network failed ([Errno 111] Connection refused): run the command "
            "again\n",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_1_and_what_may_pass_again_is_75(
    repository: Path, demo: Path, words: list[str], code: int, out: str, err: str
) -> None:
    done = run(repository, demo, "demo", *words)
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("source", ["short", "long"])
def test_who_has_read_enough_ends_the_command_without_a_word(
    repository: Path, demo: Path, source: str, unbuffered: str
) -> None:
    here, there = os.pipe()
    os.close(here)
    with os.fdopen(there, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "demo", source],
            cwd=demo,
            env={**os.environ, "PYTHONPATH": str(repository), "PYTHONUNBUFFERED": unbuffered},
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


def test_another_broken_pipe_is_a_defect(repository: Path, demo: Path) -> None:
    done = run(repository, demo, "demo", "broken")
    assert (done.returncode, "BrokenPipeError, a defect" in done.stderr) == (1, True)


def test_a_defect_outside_of_a_study_keeps_its_traceback(repository: Path, demo: Path) -> None:
    done = run(repository, demo, "demo", "defect")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "\nZeroDivisionError: a defect of ours\nerror: ZeroDivisionError, a defect" in done.stderr
    assert not (demo / "data").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pipelines.split"], "error: params.yaml not found: run from the folder of the project or workspace"),
        (["pipelines.split", "extra"], "error: usage: python -m pipelines.split\n"),
        (["pipelines.ingest"], "error: usage: python -m pipelines.ingest SOURCE\n"),
    ],
)
def test_real_stages_have_this_command_line(repository: Path, tmp_path: Path, words: list[str], message: str) -> None:
    done = run(repository, tmp_path, *words)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_progress_yields_everything_and_speaks_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pipelines")
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    clock = iter(range(0, 1000, 4))  # each look at the clock is 4 seconds after the last
    monkeypatch.setattr(stage, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    assert list(progress(range(7), "items")) == list(range(7))
    # Lines after the 3rd and the 6th item, at 12 and 24 seconds: 0.25 items a second.
    assert caplog.messages == ["items: 3 of 7, 16 s left (0.2/s)", "items: 6 of 7, 4 s left (0.2/s)"]


def test_progress_knows_no_end_where_nobody_gives_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pipelines")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(stage, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    assert list(progress(iter("ab"), "items")) == ["a", "b"]
    assert caplog.messages == ["items: 1 (0.1/s)", "items: 2 (0.1/s)"]

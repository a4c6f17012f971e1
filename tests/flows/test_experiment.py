"""Runs with changed settings, and the `dvc` process of every flow: what they need, and what they leave."""

import contextlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml

from flows.experiment import check_sources
from pipelines.dvc_process import dvc_process, may_pass_again
from pipelines.errors import UserError

GRAPH = """
stages:
  draw:
    cmd: mkdir -p data/raw/drawn
    outs: [data/raw/drawn]
  wait:
    cmd: echo $$ > begun; exec sleep 1000
    outs: [never]
  then:
    cmd: exec sleep 1000
    outs: [nor]
  last:
    cmd: exec sleep 1000
    outs: [nothing]
"""


@pytest.fixture
def project(dvc_project: Callable[[str], Path]) -> Path:
    folder = dvc_project(GRAPH)
    for name in ("committed", "linked"):
        (folder / "data/raw" / name).mkdir(parents=True)
        (folder / "data/raw" / name / "a.png").touch()
    subprocess.run(["git", "add", "data/raw/committed"], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("root", "found"),
    [
        ("data/raw/drawn", True),
        ("data/raw/drawn/part", True),
        ("data/raw/committed", True),
        ("/mnt/raw", True),
        ("data/raw/linked", False),
        ("../raw", False),
    ],
)
def test_an_experiment_has_raw_data_of_git_and_dvc_and_of_absolute_paths(project: Path, root: str, found: bool) -> None:
    sources = {"sources": {"one": {"adapter": "table", "root": root}}}
    (project / "params.yaml").write_text(yaml.safe_dump({"ingest": sources}))
    if found:
        check_sources(project)
        return
    with pytest.raises(UserError, match=rf"ingest.sources.one.root is {root}, which an experiment's own folder does"):
        check_sources(project)


def test_only_the_exit_code_for_it_says_that_a_stage_may_pass_again() -> None:
    failed = "ERROR: failed to reproduce 'x': failed to run: python -m pipelines.x, exited with "
    assert may_pass_again(["Running stage 'x':", f"{failed}75"])
    assert not may_pass_again([f"{failed}1"])
    assert not may_pass_again([f"{failed}255", "75"])


@pytest.mark.slow
def test_a_block_that_ends_early_ends_dvc_and_its_stage_and_gives_the_locks_back(project: Path) -> None:
    begun = project / "begun"
    with contextlib.suppress(KeyboardInterrupt), dvc_process(project, ["repro", "--single-item", "wait"]) as process:
        # The stage tells its own process: a file without it would be there before the process that is looked for.
        while not (stage := begun.read_text() if begun.exists() else "").endswith("\n"):
            assert process.poll() is None
        started = psutil.Process(process.pid).children(recursive=True)
        assert int(stage) in [one.pid for one in started]
        raise KeyboardInterrupt
    assert psutil.wait_procs(started, timeout=5)[1] == []
    assert process.returncode == 255, "DVC took the stage for failed"
    assert not any(json.loads((project / ".dvc/tmp/rwlock").read_text()).values())


@pytest.mark.slow
def test_a_repro_that_keeps_going_ends_too(project: Path) -> None:
    """DVC takes a stage that Ctrl-C ended for one that failed, and begins the next one."""
    begun = project / "begun"
    with (
        contextlib.suppress(KeyboardInterrupt),
        dvc_process(project, ["repro", "--keep-going", "wait", "then", "last"]) as process,
    ):
        while not begun.exists():
            assert process.poll() is None
        raise KeyboardInterrupt
    # Of its own, in a stage (255) or between two (252): one that a stronger signal ends has a negative code.
    assert process.returncode in (252, 255)
    assert not any(json.loads((project / ".dvc/tmp/rwlock").read_text()).values())

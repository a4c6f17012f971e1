"""A Prefect server and small real DVC projects."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A server with a database of its own; starting it takes about 20 s."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=90):
        yield


def dvc(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="session")
def empty_dvc_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dvc")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    dvc(folder, "init", "-q")
    (folder / "raw.txt").write_text("raw\n")
    return folder


@pytest.fixture
def dvc_project(empty_dvc_project: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a git and DVC repository with the given dvc.yaml."""

    def make(graph: str) -> Path:
        project = tmp_path / "project"
        shutil.copytree(empty_dvc_project, project)
        (project / "dvc.yaml").write_text(graph)
        return project

    return make

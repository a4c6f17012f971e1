"""Fixtures that several packages share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

pytest_plugins = ["tests.browser", "tests.s3_server"]

# Servers and libraries must not call home from a test, and Ray must not guess a cluster.
os.environ.update(
    DVC_NO_ANALYTICS="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    DO_NOT_TRACK="1",
    RAY_USAGE_STATS_ENABLED="0",
)

# CI judges a change, so it sees the same examples each time; elsewhere hypothesis looks for new ones.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "search")


# Small tensors gain nothing from threads, and test processes would fight over the cores. The last bits of a sum depend
# on their number, so that a test would depend on what ran before it.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Again, for training sets the threads of its process."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data(repository: Path) -> Path:
    """The folder of real sample data beside the checkout; it is not part of the repository."""
    folder = repository / ".." / "shared" / "data"
    if not folder.is_dir():
        assert not os.environ.get("CI"), f"CI must have the sample data at {folder}"
        pytest.skip(f"no sample data at {folder}")
    return folder.resolve()


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

"""Fixtures that several packages share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

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

"""A Prefect server."""

from collections.abc import Iterator

# DVC's first import hands the standard streams of that moment to its loggers for good. It must not happen in a test
# that captures them, for the streams of that test are closed when a later one logs.
import dvc  # noqa: F401
import pytest


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A server with a database of its own; starting it takes about 20 s."""
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=90):
        yield

"""A recording server, and a world that sends its requests there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.captions.model_world import ModelWorld
from tests.recording_server import RecordingServer


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    server = RecordingServer()
    yield server
    server.close()


@pytest.fixture
def world(tmp_path: Path, server: RecordingServer) -> ModelWorld:
    """Twelve images, six of them with a report, and two regions on each, in the middle and large."""
    return ModelWorld(tmp_path, [server.url]).fill(12)

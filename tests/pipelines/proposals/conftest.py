"""Checkpoints of the real architectures and small worlds for the tests of this folder."""

from pathlib import Path

import pytest

from pipelines.registry import PLUGINS
from tests import tiny_checkpoints
from tests.pipelines.proposals.proposals_world import Plain, World


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoints.grounding_dino(tmp_path_factory.mktemp("grounding_dino"))


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoints.sam(tmp_path_factory.mktemp("sam"))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> type[Plain]:
    monkeypatch.setitem(PLUGINS["proposers"], "plain", f"{Plain.__module__}:Plain")
    monkeypatch.setattr(Plain, "calls", [])
    return Plain

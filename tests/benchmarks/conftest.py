"""Scripts of benchmarks/ as modules."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SHARED = ("header", "orders", "power", "runs")


@pytest.fixture
def scripts(
    request: pytest.FixtureRequest, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ModuleType, ...]]:
    """The modules that a test's `NAMES` names; they and what they import are forgotten after it."""
    names = request.module.NAMES
    monkeypatch.syspath_prepend(repository / "benchmarks")
    yield tuple(importlib.import_module(name) for name in names)
    for name in (*names, *SHARED):
        sys.modules.pop(name, None)

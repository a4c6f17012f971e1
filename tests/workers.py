"""Settings under which a few items go through several workers."""

from types import ModuleType

import pytest


def few_are_worth_a_worker(monkeypatch: pytest.MonkeyPatch, stage: ModuleType, batch: int | None = None) -> None:
    """Each item of a stage is worth a local worker; `batch` of them are handed out at a time."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(stage, "WORTH", 1)
    if batch is not None:
        monkeypatch.setattr(stage, "BATCH", batch)

"""benchmarks/latency.py: methods are built as params say, and a text costs its encoder each time."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    yield importlib.import_module("latency")
    for name in ("latency", "header", "runs"):
        sys.modules.pop(name, None)


def test_a_frozen_encoder_is_asked_for_every_mask(script: ModuleType) -> None:
    bert = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = script.build(
        "reclmis", {"model": {"base": 4, "grid": 2, "text_encoder": {"architecture": bert, "frozen": True}}}
    )
    calls = []
    model.text_encoder.backbone.register_forward_hook(lambda *_: calls.append(1))
    inputs = script.example(32)
    assert inputs[0].pixels.shape == (1, 3, 32, 32)
    assert all(script.timed(model, *inputs) > 0 for _ in range(3))
    assert len(calls) == 3
    assert not model.training

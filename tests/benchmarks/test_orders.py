"""benchmarks/orders.py: orders are judged by hand-made differences as they should be."""

import importlib
import sys
from pathlib import Path

import pytest


def test_the_interval_by_hand(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    orders = importlib.import_module("orders")
    sys.modules.pop("orders")
    # Mean 0.2, standard deviation 0.1; t of 2 degrees of freedom is 4.3027, over the root of 3: 0.2484.
    low, high = orders.interval([0.1, 0.2, 0.3])
    assert (low, high) == pytest.approx((0.2 - 0.24841, 0.2 + 0.24841), abs=1e-4)
    assert [orders.verdict(*ends) for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))] == [
        "confirmed",
        "contradicted",
        "not resolved",
    ]

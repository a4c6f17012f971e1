"""benchmarks/orders.py: orders are judged by hand-made differences as they should be."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def orders(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    yield importlib.import_module("orders")
    for name in ("orders", "power"):
        sys.modules.pop(name)


def test_the_interval_by_hand(orders: ModuleType) -> None:
    # Mean 0.2, standard deviation 0.1; t of 2 degrees of freedom is 4.3027, over the root of 3: 0.2484.
    low, high = orders.interval([0.1, 0.2, 0.3])
    assert (low, high) == pytest.approx((0.2 - 0.24841, 0.2 + 0.24841), abs=1e-4)
    assert [orders.verdict(*ends) for ends in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))] == [
        "confirmed",
        "contradicted",
        "not resolved",
    ]


def test_what_could_have_been_seen_stands_beside_what_is_not_resolved(orders: ModuleType) -> None:
    def rows(method: str, *values: float) -> list[dict[str, str]]:
        return [
            {"method": method, "variant": "default", "seed": str(seed), "dice": str(value)}
            for seed, value in enumerate(values)
        ]

    found = orders.by_variant([*rows("a", 0.7, 0.8, 0.9, 0.5), *rows("b", 0.6, 0.8, 1.0), *rows("c", 0.4, 0.51, 0.59)])
    above_b, above_c, above_d = (
        orders.Order(source="ours", better=("a", "default"), worse=(name, "default"), metrics=["dice"])
        for name in "bcd"
    )
    assert orders.differences(above_b, "dice", found) == pytest.approx([0.1, 0.0, -0.1])
    # Standard deviation 0.1; three seeds find 3.26 standard deviations with a power of 0.8.
    assert orders.judged(above_b, "dice", found).endswith("| 3 | 0.326 | not resolved |")
    assert orders.judged(above_c, "dice", found).endswith("| 3 |  | confirmed |")
    assert orders.judged(above_d, "dice", found).endswith("| 0 |  | not measured |")

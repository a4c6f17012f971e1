"""benchmarks/power.py: power and detectable effects against tables, a simulation and values worked out by hand."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import scipy.stats


@pytest.fixture
def power(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    yield importlib.import_module("power")
    sys.modules.pop("power")


@pytest.mark.parametrize(("effect", "seeds", "expected"), [(1.0, 10, 0.803), (0.8, 15, 0.821), (0.5, 34, 0.808)])
def test_the_power_of_published_tables(power: ModuleType, effect: float, seeds: int, expected: float) -> None:
    """The numbers of pairs that tables of the paired t test give for a power of 0.8."""
    assert power.power(effect, 1.0, seeds) == pytest.approx(expected, abs=1e-3)
    assert power.seeds_needed(effect, 1.0) == seeds


def test_with_one_degree_of_freedom_by_hand(power: ModuleType) -> None:
    """With two seeds and no effect, the test is wrong at its level; the t of one degree of freedom is 12.706."""
    assert power.power(0.0, 1.0, 2) == pytest.approx(0.05)
    # |mean| / (|difference| / 2) > 12.706, of z ~ N(d sqrt(2), 1) and |w|, w ~ N(0, 1): P(|w| < |z| / 12.706).
    z = np.random.default_rng(0).normal(18.0 * 2**0.5, 1, 100_000)
    expected = (2 * scipy.stats.norm.cdf(np.abs(z) / 12.706) - 1).mean()
    assert power.power(18.0, 1.0, 2) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_detectable_effect_is_found_in_four_of_five_simulated_studies(power: ModuleType, seeds: int) -> None:
    effect = power.detectable(0.03, seeds)
    draws = np.random.default_rng(seeds).normal(effect, 0.03, (40_000, seeds))
    assert (scipy.stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)


def test_the_effect_scales_with_the_deviation_and_falls_with_seeds(power: ModuleType) -> None:
    assert power.detectable(0.06, 5) == pytest.approx(2 * power.detectable(0.03, 5))
    assert power.detectable(1.0, 2) > power.detectable(1.0, 3) > power.detectable(1.0, 5) > power.detectable(1.0, 20)
    assert power.detectable(0.0, 5) == 0.0
    assert power.seeds_needed(0.0, 1.0) is None


def test_pooled_deviation_by_hand(power: ModuleType) -> None:
    # Squares around the means 2 and 5: 1 + 0 + 1 and 1 + 1, of 2 + 1 degrees of freedom; one value alone tells nothing.
    assert power.pooled_deviation([[1, 2, 3], [4, 6], [7]]) == (pytest.approx((4 / 3) ** 0.5), 3)
    with pytest.raises(ValueError, match="two seeds"):
        power.pooled_deviation([[1.0], []])


def test_the_table(power: ModuleType) -> None:
    lines = power.table({"dice": [[0.1, 0.2, 0.3], [0.4]], "never": [[0.1]]}, (3, 5))
    assert lines[0] == (
        "| metric | pairs | degrees of freedom | standard deviation | seen with 3 seeds | seen with 5 seeds |"
    )
    assert lines[2:] == [f"| dice | 1 | 2 | 0.1000 | {power.detectable(0.1, 3):.3f} | {power.detectable(0.1, 5):.3f} |"]

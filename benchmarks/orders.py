"""Orders that papers claim, judged by variants trained from the same seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats
from power import detectable

Row = dict[str, str]
Key = tuple[str, str]
# Rows of one study by (method, variant) and seed.
Found = dict[Key, dict[int, Row]]

EXPLANATION = [
    "Difference of the two variants by seed, its mean, and the 95 % interval of that mean (Student's t). An order",
    "is confirmed where the interval lies above 0, contradicted where it lies below, else not resolved. Beside an",
    "order that is not resolved stands the true difference that so many seeds with this spread find four times of",
    "five (power 0.8): what is smaller would have been missed. Each row is judged by itself: of so many, some come",
    "out wrong by chance.",
    "",
    "| claimed by | above | below | metric | difference | 95 % interval | seeds | could have been seen | verdict |",
    "|---|---|---|---|---|---|---|---|---|",
]


@dataclass(frozen=True, kw_only=True)
class Order:
    """One variant said to be above another.

    Attributes:
        source: Who says so; "ours" where nobody does and the page answers a question of reading.
        better: (method, variant).
        worse: (method, variant).
        metrics: What it is judged by.
    """

    source: str
    better: Key
    worse: Key
    metrics: Sequence[str]


def by_variant(runs: Sequence[Row]) -> Found:
    found: Found = {}
    for row in runs:
        found.setdefault((row["method"], row["variant"]), {})[int(row["seed"])] = row
    return found


def differences(order: Order, metric: str, found: Found) -> list[float]:
    """Of the seeds that both variants have: the one that is said to be better less the other."""
    better, worse = found.get(order.better, {}), found.get(order.worse, {})
    seeds = sorted(better.keys() & worse.keys())
    return [float(better[seed][metric]) - float(worse[seed][metric]) for seed in seeds]


def by_metric(orders: Sequence[Order], found: Found) -> dict[str, list[list[float]]]:
    """By metric, the differences of each order that it judges; metrics that the rows lack are left out."""
    known = next(iter(next(iter(found.values())).values())) if found else {}
    paired: dict[str, list[list[float]]] = {}
    for order in orders:
        for metric in order.metrics:
            if metric in known:
                paired.setdefault(metric, []).append(differences(order, metric, found))
    return paired


def judged(order: Order, metric: str, found: Found) -> str:
    """A line of the table that `EXPLANATION` begins."""
    values = differences(order, metric, found)
    cells = [order.source, " ".join(order.better), " ".join(order.worse), metric]
    if len(values) < 2:
        return "| " + " | ".join([*cells, "", "", str(len(values)), "", "not measured"]) + " |"
    low, high = interval(values)
    outcome = verdict(low, high)
    seen = f"{detectable(float(np.std(values, ddof=1)), len(values)):.3f}" if outcome == "not resolved" else ""
    cells += [f"{np.mean(values):+.3f}", f"{low:+.3f} to {high:+.3f}", str(len(values)), seen, outcome]
    return "| " + " | ".join(cells) + " |"


def interval(paired: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by Student's t."""
    values = np.asarray(paired)
    half = float(scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def verdict(low: float, high: float) -> str:
    if low > 0:
        return "confirmed"
    return "contradicted" if high < 0 else "not resolved"


def cell(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"

"""Where a score stands beside what needs no model: chance, and the trivial baselines of its task."""

from collections.abc import Mapping
from typing import Any, Literal

# Beyond the bound by the whole interval, on the good or on the bad side; else the interval holds it.
Standing = Literal["better", "worse", "alike"]

NOT_BETTER: tuple[Standing, ...] = ("worse", "alike")

CHANCE = "chance"
# The same method while it looks at other images.
IMAGE_BLIND = "image-blind"
# Before the facts that a baseline knows of each image: it guesses nothing but what these facts leave open.
CEILING = "ceiling: "
# Before the metrics of a model that is asked beside the method, of which they say nothing.
SERVED = "served/"
# What metrics are called of heads that learn from images of the test split (`vqa/published.py`).
PUBLISHED = "published/"


def less_is_better(metric: str) -> bool:
    """Whether it is a rank, a loss or a distance, by its name."""
    return metric.endswith(("rank", "loss")) or "hd95" in metric


def bounds(score: Mapping[str, Any]) -> dict[str, float]:
    """Chance and each trivial baseline of a score of metrics.json, by name; one without a value is left out."""
    named = {CHANCE: score["chance"], **score["baselines"]}
    return {name: value for name, value in named.items() if value is not None}


def standing(metric: str, score: Mapping[str, Any], bound: float) -> Standing | None:
    """Whether the score's interval lies beyond a bound; None: it has no interval.

    Args:
        metric: Its name decides whether more or less is better.
        score: `low` and `high`, as in metrics.json.
        bound: A value of `bounds`.
    """
    low, high = score["low"], score["high"]
    if low is None or high is None:
        return None
    if low <= bound <= high:
        return "alike"
    return "better" if (low > bound) != less_is_better(metric) else "worse"

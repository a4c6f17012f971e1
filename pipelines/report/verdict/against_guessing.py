"""Where a score stands beside chance and its trivial baselines, in words."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from pipelines.evaluate.guessing import CEILING, CHANCE, IMAGE_BLIND, NOT_BETTER, bounds, standing
from pipelines.report.verdict.finding import Level
from pipelines.report.verdict.words import joined


def against_guessing(metric: str, score: Mapping[str, Any]) -> tuple[Level, str, dict[str, float]]:
    """How serious a score's standing is, in words, and the bounds that the words speak of.

    Worse than a bound, or no better than chance, is wrong; no better than a baseline is a warning, and so is a score
    beyond all guessing that known facts of each image would give too.

    Args:
        metric: Its name.
        score: Of metrics.json.
    """
    known = bounds(score)
    guesses = {name: bound for name, bound in known.items() if not name.startswith(CEILING)}
    by_standing: dict[str | None, dict[str, float]] = defaultdict(dict)
    for name, bound in guesses.items():
        by_standing[standing(metric, score, bound)][name] = bound
    if score["low"] == score["high"] == score["chance"]:
        return "warning", "as any guess does, for every answer scores the same", {}
    if None in by_standing:
        return "warning", "on so few items that there is no interval", known
    if worse := by_standing["worse"]:
        return "wrong", f"worse than {_names(worse)}", worse
    if alike := by_standing["alike"]:
        return "wrong" if CHANCE in alike else "warning", f"no better than {_names(alike)}", alike
    reached = {name: bound for name, bound in known.items() if standing(metric, score, bound) in NOT_BETTER}
    if reached:
        return "warning", f"better than {_names(guesses)}, no better than {_names(reached)}", known
    return "ok", f"better than {_names(known)}" if known else "without anything to compare with", known


def _names(known: Mapping[str, float]) -> str:
    """`chance, the centre heatmap and the named cell`."""
    return joined([_in_words(name) for name in known])


def _in_words(name: str) -> str:
    if name == IMAGE_BLIND:
        return "itself on other images"
    if name.startswith(CEILING):
        return f"one who knows {name.removeprefix(CEILING)} alone"
    return name if name == CHANCE else f"the {name}"

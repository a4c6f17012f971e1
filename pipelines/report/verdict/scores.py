"""Scores: each method against chance and against the trivial baselines of its tasks, in words with intervals."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.evaluate.definitions import headline
from pipelines.report.comparison import PER_CENT
from pipelines.report.verdict.against_guessing import against_guessing
from pipelines.report.verdict.finding import LEVELS, Finding, Level

TOPIC = "scores"


def score_findings(results: Mapping[str, Mapping[str, Any]], trained: Sequence[str]) -> Iterator[Finding]:
    """Of each method: what it does worse than a trivial answer, no better than one, and better.

    Args:
        results: `metrics.json` by method.
        trained: Methods that have a checkpoint.
    """
    if not trained:
        yield Finding(level="warning", topic=TOPIC, text="No method has been trained.", action="dvc repro")
    for method in trained:
        if method not in results:
            text = f"{method} was trained but not evaluated."
            yield Finding(level="warning", topic=TOPIC, text=text, action=f"dvc repro evaluate@{method}")
    for method, result in results.items():
        yield from method_findings(method, result["tasks"])
    yield from _not_scored(results)


def method_findings(method: str, tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """At most one finding of each level: the clauses of all tasks together."""
    clauses: dict[Level, list[str]] = defaultdict(list)
    for task, result in tasks.items():
        if result["status"] == "ok":
            for level, clause in task_clauses(task, result):
                clauses[level].append(clause)
    phases = f"train.methods.{method}.training.phases"
    actions: dict[Level, str | None] = {
        "wrong": f"do not use it for this; more epochs ({phases}) or more training images, then dvc repro",
        "warning": f"more test images decide it (split.fractions.test), or more training ({phases})",
        "ok": None,
    }
    for level in LEVELS:
        if clauses[level]:
            text = f"{method} {'; '.join(clauses[level])}."
            yield Finding(level=level, topic=TOPIC, text=text, action=actions[level])


def task_clauses(task: str, result: Mapping[str, Any]) -> list[tuple[Level, str]]:
    """`grounds phrases worse than the centre heatmap (pointing ...)`: metrics of one level in one clause.

    Args:
        task: Its name.
        result: Of metrics.json.
    """
    by_outcome: dict[tuple[Level, str], list[str]] = defaultdict(list)
    for metric in headline(result):
        score = result["metrics"][metric]
        level, words, beside = against_guessing(metric, score)
        unit = " %" if any(name in metric for name in PER_CENT) else ""
        value = f"{metric} {_short(score['value'], unit)}{unit}"
        if score["low"] is not None:
            value += f", {_short(score['low'], unit)} to {_short(score['high'], unit)}"
        values = [value, *(f"{name} {_short(bound, unit)}{unit}" for name, bound in beside.items())]
        by_outcome[level, words].append(", ".join(values))
    by_level: dict[Level, list[str]] = defaultdict(list)
    for (level, words), values in by_outcome.items():
        by_level[level].append(f"{words} ({'; '.join(values)})")
    does = result["verdict"]["does"] or f"does {task}"
    return [(level, f"{does} {', '.join(outcomes)}") for level, outcomes in by_level.items()]


def _short(value: float, unit: str) -> str:
    """In per cent with two digits, else with two decimals; the table has more."""
    if not unit:
        return f"{value:.2f}".removesuffix(".00")
    return f"{100 * value:.1f}" if abs(value) < 0.0995 else f"{100 * value:.0f}"


def _not_scored(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Tasks without scores, each reason once; what a method cannot do by its nature is no finding."""
    skipped: dict[str, None] = {}
    for method, result in results.items():
        for task, of_task in result["tasks"].items():
            if of_task["status"] == "failed":
                text = f"{method} failed at {task}: {of_task['reason']}."
                action = f"lower learning_rate or gradient_clip in train.methods.{method}.training"
                yield Finding(level="wrong", topic=TOPIC, text=text, action=action)
            elif of_task["status"] == "skipped" and "method_lacks_capability" not in of_task["excluded"]:
                skipped[f"{task}, for {of_task['reason']}"] = None
    if skipped:
        yield Finding(level="warning", topic=TOPIC, text=f"Not scored: {'; '.join(skipped)}.")

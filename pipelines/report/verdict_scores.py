"""Scores: each method against chance and against the trivial baselines of its tasks, in words with intervals."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.evaluate.definitions import headline
from pipelines.evaluate.guessing import CHANCE, bounds, standing
from pipelines.report.comparison import format_score
from pipelines.report.verdict import LEVELS, Finding, Level

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
    """`grounds phrases worse than the centre heatmap (pointing ...)`: metrics of one outcome in one clause.

    Args:
        task: Its name.
        result: Of metrics.json.
    """
    by_outcome: dict[tuple[Level, str], list[str]] = defaultdict(list)
    for metric in headline(result):
        score = result["metrics"][metric]
        level, words, beside = against_guessing(metric, score)
        values = [f"{metric} {format_score(metric, score['value'])}"]
        if score["low"] is not None:
            low, high = format_score(metric, score["low"]), format_score(metric, score["high"])
            values.append(f"{low.removesuffix(' %') if high.endswith(' %') else low} to {high}")
        values += [f"{name} {format_score(metric, bound)}" for name, bound in beside.items()]
        by_outcome[level, words].append(", ".join(values))
    does = result["verdict"]["does"] or f"does {task}"
    return [(level, f"{does} {words} ({'; '.join(of)})") for (level, words), of in by_outcome.items()]


def against_guessing(metric: str, score: Mapping[str, Any]) -> tuple[Level, str, dict[str, float]]:
    """How serious a score's standing is, in words, and the bounds that the words speak of."""
    known = bounds(score)
    by_standing: dict[str | None, dict[str, float]] = defaultdict(dict)
    for name, bound in known.items():
        by_standing[standing(metric, score, bound)][name] = bound
    if None in by_standing:
        return "warning", "on so few items that there is no interval", known
    for found, words, level in (("worse", "worse than", "wrong"), ("alike", "no better than", "warning")):
        if beside := by_standing[found]:
            is_wrong = level == "wrong" or CHANCE in beside
            return "wrong" if is_wrong else "warning", f"{words} {_names(beside)}", beside
    return "ok", f"better than {_names(known)}" if known else "without anything to compare with", known


def _names(known: Mapping[str, float]) -> str:
    """`chance and the centre heatmap`."""
    return " and ".join(name if name == CHANCE else f"the {name}" for name in known)


def _not_scored(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Tasks without scores, each reason once; what a method cannot do by its nature is no finding."""
    methods: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for method, result in results.items():
        for task, of_task in result["tasks"].items():
            if of_task["status"] != "ok" and "method_lacks_capability" not in of_task["excluded"]:
                methods[task, of_task["status"], of_task["reason"]].append(method)
    for (task, status, reason), of in methods.items():
        level: Level = "wrong" if status == "failed" else "warning"
        action = "lower learning_rate or gradient_clip in train.methods.<method>.training" if status == "failed" else None
        text = f"{task} is not scored ({', '.join(of)}): {reason}."
        yield Finding(level=level, topic=TOPIC, text=text, action=action)

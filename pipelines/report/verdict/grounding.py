"""Grounding: which methods find what a phrase means, and which do no better than an answer that sees no image."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.evaluate.definitions import headline
from pipelines.report.verdict.against_guessing import against_guessing
from pipelines.report.verdict.finding import Finding, Level

TOPIC = "grounding"
TASK = "grounding"


def grounding_findings(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """The methods that ground, and those that do not with the baseline that is as good.

    A method grounds where each headline metric is better than chance and every baseline, by its whole interval.

    Args:
        results: `metrics.json` by method.
    """
    able: list[str] = []
    unable: dict[str, str] = {}
    level: Level = "warning"
    for method, result in results.items():
        task = result["tasks"].get(TASK)
        if task is None or task["status"] != "ok":
            continue
        metrics = headline(task)
        judged = {metric: against_guessing(metric, task["metrics"][metric]) for metric in metrics}
        if all(of == "ok" for of, _, _ in judged.values()):
            able.append(f"{method} ({_listed(metrics)} {next(iter(judged.values()))[1]})")
            continue
        unable[method] = "; ".join(
            f"{_short(metric)} {words}" for metric, (of, words, _) in judged.items() if of != "ok"
        )
        if any(of == "wrong" for of, _, _ in judged.values()):
            level = "wrong"
    phrases = f"phrases{_setting(results)}"
    if able:
        yield Finding(level="ok", topic=TOPIC, text=f"Ground {phrases}: {', '.join(able)}.")
    if unable:
        methods = ", ".join(f"{method} ({words})" for method, words in unable.items())
        yield Finding(level=level, topic=TOPIC, text=f"Do not ground {phrases}: {methods}.")


def _setting(results: Mapping[str, Mapping[str, Any]]) -> str:
    scored = [task for result in results.values() if (task := result["tasks"].get(TASK)) and task["status"] == "ok"]
    metrics = [metric for task in scored for metric in headline(task)]
    return " without their position" if metrics and all(m.startswith("without_position/") for m in metrics) else ""


def _listed(metrics: list[str]) -> str:
    return " and ".join(map(_short, metrics))


def _short(metric: str) -> str:
    return metric.rpartition("/")[2]

"""Grounding: which methods find what a phrase means, and which do no better than an answer that sees no image."""

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.evaluate.definitions import headline
from pipelines.report.verdict.against_guessing import against_guessing
from pipelines.report.verdict.finding import Finding, Level
from pipelines.report.verdict.words import joined

TOPIC = "grounding"
TASK = "grounding"


def grounding_findings(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """The methods that ground, and those that do not with the baseline that is as good.

    A method grounds where each headline metric is better than chance and every baseline, by its whole interval.

    Args:
        results: `metrics.json` by method.
    """
    able: list[str] = []
    unable: list[str] = []
    level: Level = "warning"
    for method, result in results.items():
        task = result["tasks"].get(TASK)
        if task is None or task["status"] != "ok":
            continue
        metrics = headline(task)
        judged = {metric: against_guessing(metric, task["metrics"][metric]) for metric in metrics}
        if all(of == "ok" for of, _, _ in judged.values()):
            able.append(f"{method} ({joined(list(map(_short, metrics)))} {next(iter(judged.values()))[1]})")
            continue
        worst = "; ".join(f"{_short(metric)} {words}" for metric, (of, words, _) in judged.items() if of != "ok")
        unable.append(f"{method} ({worst})")
        if any(of == "wrong" for of, _, _ in judged.values()):
            level = "wrong"
    phrases = f"phrases{_setting(results)}"
    texts = [f"Ground {phrases}: {', '.join(able)}."] if able else []
    if unable:
        texts.append(f"Do not{'' if able else f' ground {phrases}'}: {', '.join(unable)}.")
    # One finding: who reads that one method does not ground is to see which does.
    if texts:
        yield Finding(
            level=level if unable else "ok",
            topic=TOPIC,
            text=" ".join(texts),
            action="the settings sentences, or losses of regions, teach places: docs/methods.md" if unable else None,
        )


def _setting(results: Mapping[str, Mapping[str, Any]]) -> str:
    scored = [task for result in results.values() if (task := result["tasks"].get(TASK)) and task["status"] == "ok"]
    metrics = [metric for task in scored for metric in headline(task)]
    return " without their position" if metrics and all(m.startswith("without_position/") for m in metrics) else ""


def _short(metric: str) -> str:
    return metric.rpartition("/")[2]

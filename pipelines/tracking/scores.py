"""The scores of an evaluation: as MLflow metrics, and as rows of a table with intervals, chance and baselines."""

import json
from collections.abc import Iterator
from typing import Any

from pipelines.evaluate.definitions import in_order
from pipelines.evaluate.guessing import standing
from pipelines.tracking.names import metric_name

COLUMNS = (
    *("split", "task", "metric", "value", "low", "high", "chance", "against_chance"),
    *("baselines", "items", "source"),
)
# The column `source` of a score of all items.
ALL = "all"


def metrics(results: dict[str, Any]) -> dict[str, float]:
    """The scores of metrics.json on all items: `<task>/<metric>`, those of another split than test under its name."""
    prefix = "" if results["split"] == "test" else f"{results['split']}/"
    return {
        metric_name(f"{prefix}{task}/{metric}"): score["value"]
        for task, result in results["tasks"].items()
        for metric, score in result["metrics"].items()
    }


def rows(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every score of metrics.json, of all items and of each source, with the keys of `COLUMNS`."""
    for task, result in results["tasks"].items():
        groups = {ALL: {**result, "items_of": result["details"].get("items")}, **result["by_source"]}
        for source, group in groups.items():
            for metric in in_order(group["metrics"], result.get("definitions", ())):
                score = group["metrics"][metric]
                yield {
                    "split": results["split"],
                    "task": task,
                    "metric": metric,
                    **{name: score[name] for name in ("value", "low", "high", "chance")},
                    "against_chance": against_chance(metric, score),
                    "baselines": ", ".join(f"{name} {value:.4g}" for name, value in score.get("baselines", {}).items()),
                    "items": _items(group, metric),
                    "source": source,
                }


def table(every: list[dict[str, Any]]) -> str:
    """Rows as a table that MLflow's pages show: JSON as `mlflow.log_table` writes it."""
    return json.dumps({"columns": list(COLUMNS), "data": [[row[name] for name in COLUMNS] for row in every]})


def against_chance(metric: str, score: dict[str, Any]) -> str:
    """`better`, `worse` or `like chance`, by the interval; empty where there is none. Of ranks, less is better."""
    found = None if score["chance"] is None else standing(metric, score, score["chance"])
    return {None: "", "alike": "like chance"}.get(found, found or "")


def _items(group: dict[str, Any], metric: str) -> int:
    """How many items a score is of; some tasks have metrics of fewer, `<part>/...`."""
    of_part = group.get("items_of") or {}
    return of_part.get(metric.partition("/")[0], group["items"]) if isinstance(of_part, dict) else group["items"]

"""The comparison: methods x tasks x metrics, with interval, chance and trivial baselines, and the paper's score."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.evaluate.definitions import Definitions, definition_of, in_order
from pipelines.evaluate.guessing import less_is_better, standing
from pipelines.files import atomic_path
from pipelines.report.verdict.against_guessing import against_guessing

COLUMNS = ("method", "task", "metric", "value", "low", "high", "chance", "baselines", "items", "pool")

# A metric whose name holds one of these lies between 0 and 1.
PER_CENT = (
    *("recall", "precision", "auc", "accuracy", "pointing", "which_lesion", "dice", "iou", "laterality"),
    *("nsd", "agreement", "specificity"),
)

# As printed in RegionMed-CLIP (arXiv 2508.05244): table 3 (retrieval on MedRegion-500k) and the mean of table 1.
PAPER_METHOD = "regionmed_clip"
PAPER = {
    ("retrieval", "t2i_recall@1"): "49.7 %",
    ("retrieval", "t2i_recall@5"): "74.2 %",
    ("retrieval", "t2i_recall@10"): "85.1 %",
    ("retrieval", "i2t_recall@1"): "50.3 %",
    ("retrieval", "i2t_recall@5"): "75.8 %",
    ("retrieval", "i2t_recall@10"): "86.3 %",
    ("zero_shot", "auc_macro"): "77.09 %",
}
PAPER_SETTING = {
    "data": "MedRegion-500k, which is not released; zero-shot: the mean of ten public sets",
    "pool": "the size of the retrieval pool is not printed",
    "weights": "ViT-B/16 and PubMedBERT, both pretrained, at 224 pixels",
    "scale": "500k samples by the set's name; 26 epochs in four phases on four A100",
}


def score_rows(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each score, with the columns `COLUMNS`; a task that was skipped or failed has none.

    Args:
        results: `metrics.json` by method.
    """
    return [
        {
            "method": method,
            "task": task,
            "metric": metric,
            **score,
            "baselines": "; ".join(f"{name} {value}" for name, value in score["baselines"].items()),
            "items": _items(task_result, metric),
            "pool": task_result["pool"],
        }
        for method, result in results.items()
        for task, task_result in result["tasks"].items()
        if task_result["status"] == "ok"
        for metric, score in _in_order(task_result)
    ]


def _items(task_result: dict[str, Any], metric: str) -> int:
    """How many items a metric is of: its own number, or that of its setting, or that of the task."""
    items: dict[str, int] = task_result.get("details", {}).get("items", {})
    return items.get(metric, items.get(metric.partition("/")[0], task_result["items"]))


def _in_order(task_result: dict[str, Any], part: dict[str, Any] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The scores of a task, or of a part of its items, as a person reads them."""
    metrics = (task_result if part is None else part)["metrics"]
    for metric in in_order(metrics, task_result["definitions"]):
        yield metric, metrics[metric]


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Values as fractions, not per cent; an empty field where there is no value."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def task_tables(
    results: dict[str, dict[str, Any]], timings: dict[str, dict[str, dict[str, float]]]
) -> list[dict[str, Any]]:
    """For the page: a table for each task, a line for each metric, a column for each method; below them the costs.

    Every table has all methods: where a task was skipped, failed or not evaluated, the method's column says so.

    Args:
        results: `metrics.json` by method.
        timings: Method -> task -> time by name.
    """
    tables = []
    for task in dict.fromkeys(task for result in results.values() for task in result["tasks"]):
        by_method = {method: result["tasks"].get(task, _absent()) for method, result in results.items()}
        metrics = {metric for task_result in by_method.values() for metric in task_result["metrics"]}
        definitions = list(
            {entry["metric"]: entry for result in by_method.values() for entry in result["definitions"]}.values()
        )
        costs = {
            method: task_result.get("details", {}).get("cost", {}) | timings.get(method, {}).get(task, {})
            for method, task_result in by_method.items()
        }
        has_paper_method = by_method.get(PAPER_METHOD, _absent())["status"] == "ok"
        tables.append(
            {
                "task": task,
                "by_method": by_method,
                "lines": [
                    _line(metric, by_method, definitions, PAPER.get((task, metric)) if has_paper_method else None)
                    for metric in in_order(metrics, definitions)
                ],
                "definitions": definitions,
                "costs": [
                    {"name": name, "values": [cost.get(name) for cost in costs.values()]}
                    for name in dict.fromkeys(name for cost in costs.values() for name in cost)
                ],
                "with_paper": has_paper_method and any((task, metric) in PAPER for metric in metrics),
                "notes": _notes(by_method),
                "sources": _source_lines(by_method),
            }
        )
    return tables


def _absent() -> dict[str, Any]:
    unknown = {"status": "absent", "reason": "not evaluated on this task"}
    return {**unknown, "items": 0, "pool": 0, "metrics": {}, "definitions": []}


def _line(
    metric: str, by_method: dict[str, dict[str, Any]], definitions: Definitions, paper: str | None
) -> dict[str, Any]:
    scores = {method: task_result["metrics"].get(metric) for method, task_result in by_method.items()}
    return {
        "metric": metric,
        "scores": scores,
        "best": best(metric, scores),
        "weak": {
            method: words
            for method, score in scores.items()
            if score is not None
            for level, words, _ in [against_guessing(metric, score)]
            if level != "ok"
        },
        "less_is_better": less_is_better(metric),
        "definition": definition_of(metric, definitions),
        "paper": paper,
    }


def best(metric: str, scores: Mapping[str, dict[str, Any] | None]) -> list[str]:
    """The methods with the best value, of those that are better than chance by their whole interval.

    Returns:
        All that share the value; none where one method alone was scored, for it is compared with nothing.
    """
    scored = {method: score for method, score in scores.items() if score is not None}
    able = {
        method: score["value"]
        for method, score in scored.items()
        if score["chance"] is not None and standing(metric, score, score["chance"]) == "better"
    }
    if len(scored) < 2 or not able:
        return []
    value = (min if less_is_better(metric) else max)(able.values())
    return [method for method, own in able.items() if own == value]


def _notes(by_method: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    """Each note with the methods that it is about; with none where it is about all that were scored."""
    scored = [method for method, task_result in by_method.items() if task_result["status"] == "ok"]
    notes = dict.fromkeys(note for method in scored for note in by_method[method]["notes"])
    about = {note: [method for method in scored if note in by_method[method]["notes"]] for note in notes}
    return {note: [] if methods == scored else methods for note, methods in about.items()}


def _source_lines(by_method: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"method": method, "source": source, "items": part["items"], "pool": part["pool"], "metric": metric, **score}
        for method, task_result in by_method.items()
        for source, part in task_result.get("by_source", {}).items()
        for metric, score in _in_order(task_result, part)
    ]


def format_score(metric: str, value: float | None) -> str:
    """A score on the page: fractions and areas under the curve in per cent, everything else in four digits."""
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if any(name in metric for name in PER_CENT) else f"{value:.4g}"

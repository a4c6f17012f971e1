"""The rows of benchmarks/matrix.py: a method's scores by source and task, or why a cell has none."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.evaluate.definitions import headline
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.guessing import CEILING, CHANCE, IMAGE_BLIND, bounds, less_is_better

# The source that stands for the images of all sources together.
ALL = "all"
TOOK = ("parameters", "steps", "seconds", "scoring_seconds")
COLUMNS = (
    *("method", "source", "task", "metric"),
    *("value", "low", "high", "chance", "baseline", "baseline_value", "baselines", "items", "pool", "reason"),
    *TOOK,
)
# What readers of these tasks look for beside the metrics that stand for them.
MORE = {
    "grounding": ("which_lesion", "pointing", "iou"),
    "phrase_segmentation": ("dice", "empty/dice"),
    "probe": ("auc_macro@1", "auc_macro@5"),
    "retrieval": ("i2t_recall@1", "t2i_recall@1"),
    "vqa": ("accuracy",),
}

Cell = dict[str, Any]
# Task, metric and source -> rows of items.parquet.
Counts = Mapping[tuple[str, str, str], int]


def rows_of(
    method: str,
    tasks: Mapping[str, Mapping[str, Any]],
    excluded: Mapping[str, Mapping[str, str]],
    images: Sequence[EvaluationImage],
    counts: Counts,
) -> list[Cell]:
    """The rows of all tasks: of all images, and, where they are of several sources, of each source by itself.

    A task that gave no score at all has one row, with the reason.

    Args:
        method: Its name.
        tasks: As in metrics.json.
        excluded: Task -> key of an image that took no part -> reason code.
        images: Of the split.
        counts: What a score is the mean of; of a metric that it lacks, the task's own number of items counts.
    """
    by_source: dict[str, list[str]] = {}
    for image in sorted(images, key=lambda one: one.source):
        by_source.setdefault(image.source, []).append(image.key)
    rows = []
    for task, result in tasks.items():
        if result["status"] != "ok":
            failed = "" if result["status"] == "skipped" else f"{result['status']}: "
            rows.append(_row(method, ALL, task, reason=failed + result["reason"]))
            continue
        rows += _scored(method, ALL, task, result, result, counts)
        if len(by_source) > 1:
            for source in by_source:
                rows += _of_source(method, source, task, result, by_source, excluded[task], counts)
    return rows


def without_scores(method: str, tasks: Sequence[str], reason: str) -> list[Cell]:
    """The rows of a method that was not trained, a task each."""
    return [_row(method, ALL, task, reason=reason) for task in tasks]


def _of_source(
    method: str,
    source: str,
    task: str,
    result: Mapping[str, Any],
    by_source: Mapping[str, Sequence[str]],
    excluded: Mapping[str, str],
    counts: Counts,
) -> list[Cell]:
    scored = {name for name, keys in by_source.items() if any(key not in excluded for key in keys)}
    if source in result["by_source"]:
        return _scored(method, source, task, result, result["by_source"][source], counts)
    if scored == {source} and not result["by_source"]:
        # A task whose items are all of one source has no scores by source: they are those of all.
        return _scored(method, source, task, result, result, counts)
    if source in scored:
        return [_row(method, source, task, reason="too few items for a score of its own")]
    reasons = Counter(excluded[key] for key in by_source[source])
    codes = ", ".join(f"{code} {count}" for code, count in sorted(reasons.items()))
    return [_row(method, source, task, reason=f"no image takes part: {codes}")]


def _scored(
    method: str,
    source: str,
    task: str,
    result: Mapping[str, Any],
    scores: Mapping[str, Any],
    counts: Counts,
) -> list[Cell]:
    """A row for each metric that stands for the task; `scores` are those of the source."""
    shown = headline({**result, "metrics": scores["metrics"]})
    shown += [name for name in MORE.get(task, ()) if name in scores["metrics"] and name not in shown]
    if not shown:
        return [_row(method, source, task, reason="the task gives no score here")]
    rows = []
    for metric in shown:
        score = scores["metrics"][metric]
        known = bounds(score)
        trivial = {name: value for name, value in known.items() if _is_trivial(name)}
        best = (min if less_is_better(metric) else max)(trivial, key=lambda name: trivial[name], default=None)
        items = _items(task, metric, source, counts) or scores["items"]
        values = {name: score[name] for name in ("value", "low", "high", "chance")}
        row = _row(method, source, task, metric=metric, **values, items=items, pool=scores["pool"] or "")
        row |= {"baseline": best or "", "baseline_value": "" if best is None else trivial[best]}
        row["baselines"] = as_text({name: value for name, value in known.items() if name != CHANCE})
        rows.append(row)
    return rows


def _items(task: str, metric: str, source: str, counts: Counts) -> int:
    """Rows behind a metric; `<setting>/dice` stands for `<setting>/dice_per_image`."""
    name = metric.removesuffix("_per_image")
    return sum(n for (of, row, where), n in counts.items() if (of, row) == (task, name) and source in (ALL, where))


def _is_trivial(name: str) -> bool:
    return name not in (CHANCE, IMAGE_BLIND) and not name.startswith(CEILING)


def as_text(baselines: Mapping[str, float]) -> str:
    """`majority text 0.095; image-blind 0.01`, which `from_text` reads."""
    return "; ".join(f"{name} {value}" for name, value in baselines.items())


def from_text(text: str) -> dict[str, float]:
    parts = (part.rpartition(" ") for part in text.split("; ") if part)
    return {name: float(value) for name, _, value in parts}


def _row(method: str, source: str, task: str, **cells: Any) -> Cell:
    known = {"method": method, "source": source, "task": task, **cells}
    return {column: "" if known.get(column) is None else known[column] for column in COLUMNS}

"""The curves that `dvc plots show` and `dvc plots diff` draw: one file for each plot, with the curves of all methods.

A file holds a row for each point of a curve, with the columns method, panel (a row of the plot's small pictures),
series (a curve in a picture), and the two that its axes are named after; the templates in `.dvc/plots` draw them. A
plot of which no method has a curve is a file without rows, or, where only some studies run its task, no file. Points of
one curve are at most `POINTS`.
"""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.files import atomic_folder
from pipelines.records import ITEMS, ItemRow
from pipelines.report.inputs import Paths, read_results

POINTS = 200
# The series that the template draws in grey.
CHANCE = "chance"
# Column of the horizontal and of the vertical axis of each plot.
AXES = {
    "training": ("step", "loss"),
    "recall": ("k", "recall at k"),
    "roc": ("false positive rate", "true positive rate"),
    "grounding": ("score", "fraction"),
    "segmentation": ("score", "fraction"),
}
# The same of the plot that is there where some method has a curve: few studies run its task.
FEW_SHOT, FEW_SHOT_AXES = "few_shot", ("shots", "score")
RANKS = {"i2t_rank": "image to text", "t2i_rank": "text to image", "rank": "region to caption"}
# A panel and a series of it, and their points in the order in which they are joined; shots are words, such as `all`.
Curve = tuple[str, str, Iterable[tuple[float | str, float]]]


def write_plots(paths: Paths, methods: Sequence[str], output: Path) -> None:
    """Write what `plot_texts` gives into a folder, which is replaced as a whole."""
    with atomic_folder(output) as folder:
        for name, text in plot_texts(paths, methods).items():
            (folder / name).write_text(text, encoding="utf-8", newline="")


def plot_texts(paths: Paths, methods: Sequence[str]) -> dict[str, str]:
    """`<plot>.csv` for each plot of `AXES`, and for `FEW_SHOT` where it has a curve, by name.

    Args:
        paths: Where the inputs lie: curves of training, scores and scored items of the test split.
        methods: In the order in which they are drawn; one without results is left out.
    """
    plots: dict[str, list[tuple[str, Curve]]] = {name: [] for name in AXES}
    few_shot: list[tuple[str, Curve]] = []
    curves = read_results(paths.data / "checkpoints", "curve.json", methods)
    results = read_results(paths.data / "evaluation", "metrics.json", methods)
    for method in (method for method in methods if method in curves):
        plots["training"] += [(method, curve) for curve in training_curves(curves[method])]
    for method in (method for method in methods if method in results):
        tasks, file = results[method]["tasks"], paths.data / "evaluation" / method / "items.parquet"
        for task, items in itertools.groupby(ITEMS.read(file), key=lambda item: item.task):
            for plot, curve in curves_of_task(task, list(items), tasks[task]["metrics"]):
                plots[plot].append((method, curve))
        few_shot += [(method, curve) for curve in few_shot_curves(tasks.get("probe", {}).get("metrics", {}))]
    texts = {f"{name}.csv": _text(AXES[name], found) for name, found in plots.items()}
    return texts | ({f"{FEW_SHOT}.csv": _text(FEW_SHOT_AXES, few_shot)} if few_shot else {})


def curves_of_task(task: str, items: Sequence[ItemRow], metrics: Mapping[str, Any]) -> Iterator[tuple[str, Curve]]:
    """The curves that the scored items of one task give, each with the plot that it belongs to."""
    yield from (("recall", curve) for curve in recall_curves(items, metrics))
    yield from (("roc", curve) for curve in roc_curves(items))
    if task in AXES:
        yield from ((task, curve) for curve in distributions(items))


def training_curves(curve: Mapping[str, Any]) -> Iterator[Curve]:
    """The loss over the steps, on training batches and on the validation split."""
    for series, points in (("training", curve["steps"]), ("validation", curve["validation"])):
        yield "loss", series, _thinned([(point["step"], point["loss"]) for point in points])


def recall_curves(items: Sequence[ItemRow], metrics: Mapping[str, Any]) -> Iterator[Curve]:
    """Recall at every k up to the largest that is scored, and chance at those that are scored.

    Args:
        items: Scored items of one task.
        metrics: The task's metrics, of which `<name>recall@<k>` belong to the items `<name>rank`.
    """
    for metric, name in RANKS.items():
        ranks = np.array([item.value for item in items if item.metric == metric])
        prefix = f"{metric.removesuffix('rank')}recall@"
        chance = {int(key.removeprefix(prefix)): metrics[key]["chance"] for key in metrics if key.startswith(prefix)}
        if not len(ranks) or not chance:
            continue
        ks = [k for k, _ in _thinned([(k, 0.0) for k in range(1, max(chance) + 1)])]
        yield name, name, [(k, float(np.mean(ranks <= k))) for k in ks]
        yield name, CHANCE, sorted(chance.items())


def roc_curves(items: Sequence[ItemRow]) -> Iterator[Curve]:
    """The ROC of each source's findings, from the items that carry a truth."""
    for (source, finding), rows in judged_findings(items).items():
        values, truth = np.array([row.value for row in rows]), np.array([row.truth for row in rows])
        order = np.argsort(-values, kind="stable")
        # Images with equal scores lie on one side of any threshold together.
        last = np.append(np.flatnonzero(np.diff(values[order])), len(rows) - 1)
        hits, misses = np.cumsum(truth[order])[last], np.cumsum(1 - truth[order])[last]
        if hits[-1] and misses[-1]:
            points = zip((misses / misses[-1]).tolist(), (hits / hits[-1]).tolist(), strict=True)
            yield source, finding, _thinned([(0.0, 0.0), *points])
            yield source, CHANCE, [(0.0, 0.0), (1.0, 1.0)]


def judged_findings(items: Iterable[ItemRow]) -> dict[tuple[str, str], list[ItemRow]]:
    """Source and finding -> its items that carry a truth; a finding with scores of two kinds is one of each kind."""
    judged: dict[tuple[str, str], dict[str, list[ItemRow]]] = {}
    for item in items:
        if item.truth is not None:
            judged.setdefault((item.source, item.label or ""), {}).setdefault(item.metric, []).append(item)
    return {
        (source, label if len(kinds) == 1 else f"{label}, {metric}"): rows
        for (source, label), kinds in sorted(judged.items())
        for metric, rows in sorted(kinds.items())
    }


def few_shot_curves(metrics: Mapping[str, Any]) -> Iterator[Curve]:
    """Each score of the task `probe` over the labelled images of a class, and its chance.

    Args:
        metrics: The metrics of the task, each `<score>@<shots>`.
    """
    by_score: dict[str, list[tuple[str, Any]]] = {}
    for name, score in metrics.items():
        kind, _, shots = name.partition("@")
        by_score.setdefault(kind, []).append((shots, score))
    for kind, points in by_score.items():
        yield kind, kind, [(shots, score["value"]) for shots, score in points]
        yield kind, CHANCE, [(shots, score["chance"]) for shots, score in points]


def distributions(items: Sequence[ItemRow]) -> Iterator[Curve]:
    """For each metric the fraction of its items that score at least as high, over the scores."""
    for metric in dict.fromkeys(item.metric for item in items):
        values = np.sort([item.value for item in items if item.metric == metric])
        fractions = 1 - np.arange(len(values)) / len(values)
        setting, _, score = metric.rpartition("/")
        yield score, setting or score, _thinned(list(zip(values.tolist(), fractions.tolist(), strict=True)))


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `POINTS` of a curve's points, evenly by their number, the first and the last among them."""
    kept = np.unique(np.linspace(0, len(points) - 1, min(POINTS, len(points))).round().astype(int))
    return [points[index] for index in kept.tolist()]


def _text(axes: tuple[str, str], curves: Iterable[tuple[str, Curve]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["method", "panel", "series", *axes])
    for method, (panel, series, points) in curves:
        writer.writerows(
            (method, panel, series, x if isinstance(x, str) else round(x, 6), round(y, 6)) for x, y in points
        )
    return stream.getvalue()

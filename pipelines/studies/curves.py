"""Curves by method, from what evaluation kept: ROC of each finding, scores by labelled images."""

import io
import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from pipelines.records import ItemRow
from pipelines.report.curves import COLOURS, GREY, STYLE
from pipelines.report.plots import CHANCE, judged_findings, roc_curves
from pipelines.studies.sheet import lines

FINDINGS = 8
_COLUMNS = 4
# The colours of eight methods, and again with other lines.
_LINES = [(colour, style) for style in ("-", "--", ":", "-.") for colour in COLOURS]


def roc_figure(items: Mapping[str, Sequence[ItemRow]]) -> bytes | None:
    """A panel for each finding of a source, a curve for each method with the area below it, as SVG.

    Args:
        items: Method -> the scored items of its task `zero_shot`.

    Returns:
        The same bytes for the same items; None where no finding has images with it and images without it. Of more than
        `FINDINGS` those are drawn that most images have.
    """
    curves = {
        method: {(source, label): list(points) for source, label, points in roc_curves(rows) if label != CHANCE}
        for method, rows in items.items()
    }
    judged = {method: judged_findings(rows) for method, rows in items.items()}
    counts: Counter[tuple[str, str]] = Counter()
    for of_method in judged.values():
        counts.update({panel: sum(bool(row.truth) for row in rows) for panel, rows in of_method.items()})
    found = sorted({panel for panels in curves.values() for panel in panels})
    panels = sorted(found, key=lambda panel: -counts[panel])[:FINDINGS]
    if not panels:
        return None

    def draw(axes: Axes, panel: tuple[str, str]) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        for (method, of_method), (colour, style) in zip(curves.items(), itertools.cycle(_LINES)):
            if panel in of_method:
                x, y = zip(*of_method[panel], strict=True)
                label = f"{lines(method, 24, 1)} {_area(judged[method][panel]):.2f}"
                axes.plot(x, y, color=colour, linestyle=style, linewidth=1.2, label=label)
        axes.set(xlabel="false positive rate", ylabel="true positive rate")
        axes.legend(fontsize=6, loc="lower right", frameon=False, title="area below", title_fontsize=6)

    several = len({source for source, _ in panels}) > 1
    return _panels({panel: f"{panel[0]}: {panel[1]}" if several else panel[1] for panel in panels}, draw)


def _area(rows: Sequence[ItemRow]) -> float:
    return float(roc_auc_score([row.truth for row in rows], [row.value for row in rows]))


def few_shot_figure(metrics: Mapping[str, Mapping[str, Any]]) -> bytes | None:
    """A panel for each kind of score of the task `probe`, a line with intervals for each method, as SVG.

    Args:
        metrics: Method -> metric of the task -> its values, as in `metrics.json`.

    Returns:
        The same bytes for the same scores; None where no method has any.
    """
    shots = list(dict.fromkeys(name.partition("@")[2] for of_method in metrics.values() for name in of_method))
    kinds = list(dict.fromkeys(name.partition("@")[0] for of_method in metrics.values() for name in of_method))
    if not kinds:
        return None

    def draw(axes: Axes, kind: str) -> None:
        for number, (method, of_method) in enumerate(metrics.items()):
            colour, style = _LINES[number % len(_LINES)]
            # Side by side, so that their intervals do not hide each other.
            aside = 0.05 * (number - (len(metrics) - 1) / 2)
            found = [
                (place + aside, of_method[f"{kind}@{k}"]) for place, k in enumerate(shots) if f"{kind}@{k}" in of_method
            ]
            if not found:
                continue
            places, values = [place for place, _ in found], [score["value"] for _, score in found]
            drawn: dict[str, Any] = {
                "color": colour,
                "linestyle": style,
                "linewidth": 1.2,
                "marker": "o",
                "markersize": 3,
            }
            axes.plot(places, values, label=lines(method, 28, 1), **drawn)
            for place, score in found:
                if score["low"] is not None:
                    axes.vlines(place, score["low"], score["high"], color=colour, alpha=0.4, linewidth=2.5)
            axes.plot(places, [score["chance"] for _, score in found], color=GREY, linestyle=":", linewidth=0.8)
        axes.set_xticks(range(len(shots)), shots)
        axes.set(xlabel="training images of each class", ylabel="score")
        axes.legend(fontsize=6, loc="upper left", frameon=False)

    return _panels({kind: kind for kind in kinds}, draw)


def _panels(titles: Mapping[Any, str], draw: Callable[[Axes, Any], None]) -> bytes:
    columns = min(_COLUMNS, len(titles))
    rows = -(-len(titles) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.0 * columns, 2.7 * rows), layout="constrained")
        cells = figure.subplots(rows, columns, squeeze=False).flat
        for panel, title in titles.items():
            cell = next(cells)
            cell.set_title(lines(title, 36, 2), fontsize=8)
            draw(cell, panel)
        for cell in cells:
            cell.set_axis_off()
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()

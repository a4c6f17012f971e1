"""The figure of the task `probe`: scores by the number of shots."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from pipelines.evaluate.metrics.bootstrap import Score
from pipelines.evaluate.probe.problems import Shots

_LINES = {
    "auc_macro": "AUC, linear head",
    "blend/auc_macro": "AUC, prototypes and prompts",
    "accuracy": "accuracy, linear head",
    "blend/accuracy": "accuracy, prototypes and prompts",
}


def few_shot_figure(metrics: Mapping[str, Score], shots: Sequence[Shots]) -> Figure:
    """A line for each head and kind of score, with its interval.

    Args:
        metrics: By `<name>@<shots>`.
        shots: In the order of the axis.
    """
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, label in _LINES.items():
        found = [(place, metrics[f"{name}@{k}"]) for place, k in enumerate(shots) if f"{name}@{k}" in metrics]
        if not found:
            continue
        places, scores = zip(*found, strict=True)
        style = "--" if name.endswith("accuracy") else "-"
        (line,) = axes.plot(places, [score.value for score in scores], style, marker="o", label=label)
        lows, highs = zip(*(score.bounds for score in scores), strict=True)
        axes.fill_between(places, lows, highs, color=line.get_color(), alpha=0.15)
    axes.axhline(0.5, linestyle=":", color="grey", label="AUC of chance")
    axes.set_xticks(range(len(shots)), [str(k) for k in shots])
    axes.set_xlabel("training images of each class")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("score, 95 % interval")
    axes.legend(fontsize=8)
    return figure

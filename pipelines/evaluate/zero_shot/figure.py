"""The plot of the task `zero_shot`: the AUC of each class with its interval."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from pipelines.evaluate.metrics.bootstrap import Score
from pipelines.evaluate.segmentation.figure import drawable
from pipelines.evaluate.zero_shot.classes import FindingClass


def auc_figure(classes: Sequence[FindingClass], aucs: Sequence[Score]) -> Figure:
    """A line for each class.

    Args:
        classes: At least one.
        aucs: Of each.
    """
    figure = Figure(figsize=(5, 1 + 0.28 * len(classes)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(classes))
    lows, highs = zip(*(auc.bounds for auc in aucs), strict=True)
    axes.hlines(rows, lows, highs, color="grey")
    axes.plot([auc.value for auc in aucs], rows, "o")
    axes.axvline(0.5, linestyle="--", color="grey")
    axes.set_yticks(rows, [f"{finding.source}: {drawable(finding.label)}" for finding in classes])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("ROC AUC, 95 % interval; dashed: chance")
    return figure

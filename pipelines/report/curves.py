"""Loss curves of the methods as SVG."""

import io
import itertools
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

# Readable on white and on black, for the page has both.
GREY = "#80858d"
COLOURS = ("#2f8f83", "#c98a1b", "#7a6fc4", "#c0585b", "#4f8fcc", "#7f9a3f", "#b06aa8", "#8a7a68")
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "medregion",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    # Names are of the data and of params.yaml: a "$" in them begins no formula.
    "text.parse_math": False,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), GREY),
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def loss_curve(curve: dict[str, Any]) -> bytes:
    """One method's loss and its terms over the steps, phases marked; the same curve gives the same bytes.

    Losses on the validation split, after each epoch, are points in the colour of their line. A line marks the epoch
    whose weights the checkpoint holds, where validation chose one.

    Args:
        curve: `curve.json` of its checkpoint, with at least one step.
    """
    terms = sorted({name for entry in curve["steps"] for name in entry["terms"]})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        axes = figure.add_subplot()
        if len(terms) > 1:
            for name, colour in zip(terms, itertools.cycle(COLOURS[1:])):
                axes.plot(*_values(curve["steps"], name), color=colour, linewidth=1, label=name)
                axes.plot(*_values(curve["validation"], name), "o", color=colour, markersize=2.5)
        axes.plot(*_values(curve["steps"]), color=COLOURS[0], linewidth=1.8, label="loss")
        if curve["validation"]:
            axes.plot(*_values(curve["validation"]), "o", color=COLOURS[0], markersize=4.5, label="validation")
        if best := curve.get("best_epoch"):
            axes.axvline(best["step"], color=COLOURS[0], linewidth=1.2, label="checkpoint")
        for number, (start, phase) in enumerate(_phases(curve["steps"])):
            axes.axvline(start, color=GREY, linewidth=0.6, linestyle=":")
            # On two lines in turn, for the name of a short phase is wider than the phase.
            axes.text(start, 1.02 + 0.06 * (number % 2), f" {phase}", transform=axes.get_xaxis_transform())
        axes.set(xlabel="step", ylabel="loss")
        axes.margins(x=0.01)
        figure.legend(frameon=False, loc="outside right upper")
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return stream.getvalue()


def _values(entries: list[dict[str, Any]], term: str | None = None) -> tuple[list[int], list[float]]:
    """Steps, and the loss or one term of it; NaN in phases that do not have the term."""
    values = [entry["loss"] if term is None else entry["terms"].get(term, float("nan")) for entry in entries]
    return [entry["step"] for entry in entries], values


def _phases(steps: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """First step and name of every phase."""
    return [
        (next(entries)["step"], name) for name, entries in itertools.groupby(steps, key=lambda entry: entry["phase"])
    ]

"""The picture of the task: best, median and worst image."""

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from models.capabilities import ShowsAttention
from models.data.shards import Sample
from models.grad_cam import mask_grad_cam
from models.segmentation.method import SegmentationMethod
from pipelines.evaluate import localisation
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.segmentation.masks import masks, of_picture
from pipelines.evaluate.segmentation.metrics import Mask, Values, dice

COLOURS = {"true positive": (0, 200, 0), "false negative": (230, 0, 0), "false positive": (30, 90, 255)}
_OPACITY = 0.5
_LINE, _LINES = 42, 7  # letters and lines of a text


@dataclass(frozen=True, kw_only=True)
class Case:
    """One column of the figure.

    Attributes:
        name: best, median or worst.
        place: Of the image in `EvaluationSet.items`.
        text: What it was segmented with.
        dice: Of the image.
    """

    name: str
    place: int
    text: str
    dice: float


def cases(counts: Mapping[int, Sequence[int]], texts: Mapping[int, str]) -> list[Case]:
    """The images with the highest, the middle and the lowest Dice; equal ones in stored order.

    Images without anything to be found are shown only where there are no others.

    Args:
        counts: Place of an image -> row of `metrics`.
        texts: Place of an image -> what it was segmented with.
    """
    places = [place for place, (both, _, missed, _) in counts.items() if both + missed] or list(counts)
    values = dice(np.array([counts[place] for place in places])).tolist()
    order = sorted(zip(values, places, strict=True))
    chosen = {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}
    return [Case(name=name, place=place, text=texts[place], dice=value) for name, (value, place) in chosen.items()]


def figure(test: EvaluationSet, shown: Sequence[Case]) -> Figure:
    """Rows: picture with the target's outline, the mask against the target, Grad-CAM, and attention if there is any."""
    texts = {place: {"text": text} for place, text in sorted({(case.place, case.text) for case in shown})}
    found = {place: (sample, by_name["text"]) for place, sample, by_name in masks(test, texts)}
    maps = {case.place: _maps(test, found[case.place][0], case.text) for case in shown}
    rows = ["picture and target", "found", *maps[shown[0].place]]
    drawing = Figure(figsize=(7.2, 1.2 + 2.2 * len(rows)), layout="constrained")
    axes = drawing.subplots(len(rows), len(shown), squeeze=False)
    for column, case in zip(axes.T, shown, strict=True):
        _column(column, case, *found[case.place], list(maps[case.place].values()))
    for label, plot in zip(rows, axes[:, 0], strict=True):
        plot.set_ylabel(label, fontsize=8)
    legend = "green: true positive, red: false negative, blue: false positive; outline: target"
    drawing.supxlabel(legend, fontsize=8)
    return drawing


def _maps(test: EvaluationSet, sample: Sample, text: str) -> dict[str, Values]:
    """Label -> (height, width) of the picture."""
    images, tokens = test.inputs(sample, text)
    grids: dict[str, Tensor] = {}
    if isinstance(test.model, SegmentationMethod):
        grids["Grad-CAM"] = mask_grad_cam(test.model, images, tokens)
    if isinstance(test.model, ShowsAttention):
        # Some variants of a method have no attention to show, and say so.
        with suppress(ValueError):
            grids["attention"] = test.model.attention(images, tokens)
    side = len(sample.image)
    return {
        label: of_picture(sample, localisation.on_pixels(grid.detach().float().cpu().numpy(), side, slice(0, side))[0])
        for label, grid in grids.items()
    }


def _column(plots: Sequence[Axes], case: Case, sample: Sample, mask: Mask, maps: Sequence[Values]) -> None:
    picture, target = of_picture(sample, sample.image), of_picture(sample, sample.target)
    plots[0].imshow(picture)
    plots[1].imshow(overlay(picture, mask, target))
    for plot, pixels in zip(plots[2:], maps, strict=True):
        plot.imshow(pixels, cmap="viridis")
    # Where all pixels are alike there is no border to draw.
    for plot in [plots[0], *plots[2:]] if target.any() and not target.all() else []:
        plot.contour(target, levels=[0.5], colors="#ff5fd2", linewidths=1.2)
    # A "$" of a report is no formula.
    plots[0].set_title(f"{case.name}: Dice {case.dice:.3f}\n{wrapped(case.text)}", fontsize=6, parse_math=False)
    for plot in plots:
        plot.set_xticks([])
        plot.set_yticks([])
        for spine in plot.spines.values():
            spine.set_visible(False)


def overlay(picture: NDArray[np.uint8], found: Mask, target: Mask) -> NDArray[np.uint8]:
    """The picture (height, width, 3) with `COLOURS` over it, half transparent."""
    kinds = {"true positive": found & target, "false negative": target & ~found, "false positive": found & ~target}
    shown = picture.astype(np.float64)
    for kind, pixels in kinds.items():
        shown[pixels] = (1 - _OPACITY) * shown[pixels] + _OPACITY * np.array(COLOURS[kind])
    return shown.round().astype(np.uint8)


def wrapped(text: str) -> str:
    """A text in a few short lines, without characters that no font has."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return "\n".join(textwrap.wrap(printable, _LINE, max_lines=_LINES, placeholder=" …")) or "(no text)"

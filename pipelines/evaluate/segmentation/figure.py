"""The figure of the task: best, median and worst image."""

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from models.capabilities import DecodesMasks, ShowsAttention
from models.data.shards import Sample
from models.geometry import Mask
from models.grad_cam import mask_grad_cam
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.metrics.localisation import upsample
from pipelines.evaluate.metrics.segmentation import Values, dice
from pipelines.evaluate.segmentation.masks import predicted_masks, without_padding

COLOURS = {"true positive": (0, 200, 0), "false negative": (230, 0, 0), "false positive": (30, 90, 255)}
_OPACITY = 0.5
_LINE, _LINES = 42, 7  # letters and lines of a text


@dataclass(frozen=True, kw_only=True)
class Example:
    """One column of the figure.

    Attributes:
        name: best, median or worst.
        index: Of the image in `EvaluationSet.images`.
        text: The text that the image was segmented with.
        dice: Of the image.
    """

    name: str
    index: int
    text: str
    dice: float


def examples(counts: Mapping[int, Sequence[int]], texts: Mapping[int, str]) -> list[Example]:
    """The images with the highest, the middle and the lowest Dice; equal ones in stored order.

    Images with an empty target are chosen only where there are no others.

    Args:
        counts: Index of an image -> row of `metrics.segmentation`.
        texts: Index of an image -> the text that it was segmented with.
    """
    indices = [index for index, (true_positives, _, missed, _) in counts.items() if true_positives + missed]
    indices = indices or list(counts)
    values = dice(np.array([counts[index] for index in indices])).tolist()
    order = sorted(zip(values, indices, strict=True))
    chosen = {"best": order[-1], "median": order[(len(order) - 1) // 2], "worst": order[0]}
    return [Example(name=name, index=index, text=texts[index], dice=value) for name, (value, index) in chosen.items()]


def figure(test: EvaluationSet, columns: Sequence[Example]) -> Figure:
    """Rows: image with the target's outline, prediction against target, Grad-CAM, and attention if there is any."""
    texts = {index: {"text": text} for index, text in sorted({(example.index, example.text) for example in columns})}
    predictions = {index: (sample, masks["text"]) for index, sample, masks in predicted_masks(test, texts)}
    heatmaps = {example.index: _heatmaps(test, predictions[example.index][0], example.text) for example in columns}
    rows = ["image and target", "prediction", *heatmaps[columns[0].index]]
    drawing = Figure(figsize=(7.2, 1.2 + 2.2 * len(rows)), layout="constrained")
    axes = drawing.subplots(len(rows), len(columns), squeeze=False)
    for plots, example in zip(axes.T, columns, strict=True):
        _draw_column(plots, example, *predictions[example.index], list(heatmaps[example.index].values()))
    for label, plot in zip(rows, axes[:, 0], strict=True):
        plot.set_ylabel(label, fontsize=8)
    legend = "green: true positive, red: false negative, blue: false positive; outline: target"
    drawing.supxlabel(legend, fontsize=8)
    return drawing


def _heatmaps(test: EvaluationSet, sample: Sample, text: str) -> dict[str, Values]:
    """Label -> (height, width) of the image."""
    images, tokens = test.inputs(sample, text)
    grids: dict[str, Tensor] = {}
    if isinstance(test.model, DecodesMasks):
        grids["Grad-CAM"] = mask_grad_cam(test.model, images, tokens)
    if isinstance(test.model, ShowsAttention):
        # Some variants of a method have no attention to show, and raise an error that says so.
        with suppress(ValueError):
            grids["attention"] = test.model.attention(images, tokens)
    side = len(sample.image)
    return {
        label: without_padding(sample, upsample(grid.detach().float().cpu().numpy(), side, slice(0, side))[0])
        for label, grid in grids.items()
    }


def _draw_column(
    plots: Sequence[Axes], example: Example, sample: Sample, mask: Mask, heatmaps: Sequence[Values]
) -> None:
    image, target = without_padding(sample, sample.image), without_padding(sample, sample.target)
    plots[0].imshow(image)
    plots[1].imshow(overlay(image, mask, target))
    for plot, heatmap in zip(plots[2:], heatmaps, strict=True):
        plot.imshow(heatmap, cmap="viridis")
    # Where all pixels are alike there is no border to draw.
    for plot in [plots[0], *plots[2:]] if target.any() and not target.all() else []:
        plot.contour(target, levels=[0.5], colors="#ff5fd2", linewidths=1.2)
    plots[0].set_title(f"{example.name}: Dice {example.dice:.3f}\n{wrapped(example.text)}", fontsize=6)
    for plot in plots:
        plot.set_xticks([])
        plot.set_yticks([])
        for spine in plot.spines.values():
            spine.set_visible(False)


def overlay(image: NDArray[np.uint8], predicted: Mask, target: Mask) -> NDArray[np.uint8]:
    """The image (height, width, 3) with `COLOURS` over it, half transparent."""
    outcomes = {
        "true positive": predicted & target,
        "false negative": target & ~predicted,
        "false positive": predicted & ~target,
    }
    coloured = image.astype(np.float64)
    for outcome, pixels in outcomes.items():
        coloured[pixels] = (1 - _OPACITY) * coloured[pixels] + _OPACITY * np.array(COLOURS[outcome])
    return coloured.round().astype(np.uint8)


def drawable(text: str) -> str:
    """The text with a space for each character that no font has and no SVG can hold."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def wrapped(text: str, letters: int = _LINE) -> str:
    """A text in a few short lines of so many letters."""
    return "\n".join(textwrap.wrap(drawable(text), letters, max_lines=_LINES, placeholder=" …")) or "(no text)"

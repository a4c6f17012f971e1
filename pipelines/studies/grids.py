"""Grids of images by method: heat maps of phrases, and masks against their targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from models.data.shards import Sample
from models.geometry import Mask
from pipelines.evaluate.grounding.phrases import region_mask
from pipelines.evaluate.metrics.segmentation import Values, confusion_counts, dice
from pipelines.evaluate.segmentation.figure import COLOURS, overlay
from pipelines.evaluate.segmentation.masks import without_padding
from pipelines.predict.pictures import heat_picture
from pipelines.predict.pictures import overlay as heat_overlay
from pipelines.studies.sheet import Box, blank, lines, put, write

OUTLINE = "#ff5fd2"
# Inches: a cell with its gap; the width of a row's text; the names above; the line below a cell; the key.
_CELL, _GAP, _TEXT, _HEAD, _FOOT, _KEY = 1.45, 0.03, 1.5, 0.45, 0.14, 0.3


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """One image of a grid.

    Attributes:
        sample: The image.
        text: The phrase, or the text that it was segmented with.
        outline: What is meant, (height, width); empty where nothing is.
    """

    sample: Sample
    text: str
    outline: Mask


def phrase_row(sample: Sample, text: str, regions: Sequence[int]) -> GridRow:
    """The row of a phrase: meant are the regions of these numbers, or the boxes of those without a mask."""
    masks = [without_padding(sample, region_mask(sample, number)) for number in regions]
    return GridRow(sample=sample, text=text, outline=np.logical_or.reduce(masks))


def text_row(sample: Sample, text: str) -> GridRow:
    """The row of a text with which a whole target was asked for."""
    return GridRow(sample=sample, text=text, outline=without_padding(sample, sample.target))


def heat_map_grid(rows: Sequence[GridRow], columns: Mapping[str, Sequence[Values]]) -> Figure:
    """Rows: phrases; columns: the image, and the heat map of each method over it, with what is meant outlined.

    Each map's colours run from its own least to its own greatest value: methods have no common scale.

    Args:
        rows: The phrases.
        columns: Method -> a map (height, width) for each row; NaN where the method does not look.
    """
    figure, axes = _grid(rows, list(columns), [Line2D([], [], color=OUTLINE, label="what the phrase means")])
    for number, row in enumerate(rows):
        image = Image.fromarray(without_padding(row.sample, row.sample.image))
        heat = (heat_picture(maps[number].astype(np.float32)) for maps in columns.values())
        for column, picture in enumerate([image, *(heat_overlay(image, one) for one in heat)]):
            put(axes, picture, _cell(len(rows), number, column), row.outline, OUTLINE)
    return figure


def mask_grid(rows: Sequence[GridRow], columns: Mapping[str, Sequence[Mask]]) -> Figure:
    """Rows: images; columns: the image with its target outlined, and the mask of each method against the target.

    Args:
        rows: The images.
        columns: Method -> a mask (height, width) for each row.
    """
    key = [Line2D([], [], color=OUTLINE, label="target")]
    for name, colour in COLOURS.items():
        key.append(Line2D([], [], color=f"#{bytes(colour).hex()}", linewidth=4, label=name))
    figure, axes = _grid(rows, list(columns), key)
    for number, row in enumerate(rows):
        image = without_padding(row.sample, row.sample.image)
        put(axes, image, _cell(len(rows), number, 0), row.outline, OUTLINE)
        for column, masks in enumerate(columns.values(), start=1):
            left, bottom, width, height = _cell(len(rows), number, column)
            put(axes, overlay(image, masks[number], row.outline), (left, bottom, width, height))
            score = float(dice(np.array(confusion_counts(masks[number], row.outline))))
            write(axes, left + width / 2, bottom - 0.02, f"Dice {score:.2f}", 6.5, ha="center", va="top")
    return figure


def _cell(rows: int, row: int, column: int) -> Box:
    bottom = _KEY + (_CELL + _FOOT) * (rows - 1 - row) + _FOOT
    return _TEXT + _CELL * column + _GAP, bottom + _GAP, _CELL - 2 * _GAP, _CELL - 2 * _GAP


def _grid(rows: Sequence[GridRow], names: Sequence[str], key: Sequence[Line2D]) -> tuple[Figure, Axes]:
    """A sheet with the rows' texts on the left, names above and a key below."""
    figure, axes = blank(_TEXT + _CELL * (1 + len(names)), _HEAD + (_CELL + _FOOT) * len(rows) + _KEY)
    for number, row in enumerate(rows):
        left, bottom, _, height = _cell(len(rows), number, 0)
        write(axes, left - 0.06, bottom + height / 2, lines(row.text, 28, 7), 6.5, ha="right", va="center")
    for column, name in enumerate(["image", *names]):
        left, bottom, width, height = _cell(len(rows), 0, column)
        write(axes, left + width / 2, bottom + height + 0.05, lines(name, 22, 3), 7.5, ha="center", va="bottom")
    figure.legend(handles=key, loc="lower center", ncols=len(key), fontsize=7, frameon=False)
    return figure, axes

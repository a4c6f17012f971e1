"""Sheets of images with texts: one pair of axes in inches, for a pair for each image takes many times as long."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from models.geometry import Mask
from pipelines.report.page_images import mask_rings

# Left, bottom, width and height in inches.
Box = tuple[float, float, float, float]


def blank(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this size in inches, and axes that span it, in inches from its lower left corner."""
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def put(axes: Axes, image: Any, box: Box, outline: Mask | None = None, colour: str = "") -> None:
    """Draw an image as large as it fits into a box, centred, with the border of a mask.

    Args:
        axes: Of `blank`.
        image: What `np.asarray` takes: (height, width, 3) uint8.
        box: Where.
        outline: (height, width); None: none is drawn.
        colour: Of the border.
    """
    pixels = np.asarray(image)
    left, bottom, width, height = box
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    across, down = pixels.shape[1] * scale, pixels.shape[0] * scale
    left, top = left + (width - across) / 2, bottom + (height + down) / 2
    limits = axes.get_xlim(), axes.get_ylim()
    axes.imshow(pixels, extent=(left, left + across, top - down, top), aspect="auto")
    axes.set(xlim=limits[0], ylim=limits[1])
    # Where all pixels are alike there is no border to draw.
    for ring in mask_rings(outline) if outline is not None and outline.any() and not outline.all() else []:
        points = np.array([*ring, ring[0]]) * scale
        axes.plot(left + points[:, 0], top - points[:, 1], color=colour, linewidth=1.1)


def write(axes: Axes, left: float, bottom: float, text: str, size: float, **style: Any) -> None:
    """Write a text of data at a place in inches: a "$" in it begins no formula."""
    axes.text(left, bottom, text, fontsize=size, parse_math=False, **style)


def printable(text: str) -> str:
    """The text with a space for each character that no font has, such as a line's end."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def lines(text: str, width: int, most: int) -> str:
    """A text in at most `most` lines of `width` letters."""
    return "\n".join(textwrap.wrap(printable(text), width, max_lines=most, placeholder=" …")) or "(no text)"

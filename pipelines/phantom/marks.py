"""Marks: things in the image that are never a lesion (a letter, a clip, a tube), and that no report mentions."""

import numpy as np
from PIL import Image, ImageDraw

Array = np.ndarray

KINDS = ("letter", "clip", "tube")

# Strokes in a unit square, (x, y) from its upper left corner.
_GLYPHS = {
    "R": [[(0.0, 1.0), (0.0, 0.0), (0.7, 0.0), (0.7, 0.5), (0.0, 0.5)], [(0.3, 0.5), (0.7, 1.0)]],
    "L": [[(0.0, 0.0), (0.0, 1.0), (0.7, 1.0)]],
    "A": [[(0.0, 1.0), (0.35, 0.0), (0.7, 1.0)], [(0.15, 0.6), (0.55, 0.6)]],
    "clip": [[(0.0, 0.0), (0.5, 1.0)], [(0.35, 0.0), (0.85, 1.0)]],
}


def draw_mark(kind: str, modality: str, lesions: Array, rng: np.random.Generator) -> Array:
    """The pixels of one mark, bool, (size, size); never over a lesion.

    The letter on a radiograph is the side marker: R or L in the corner of that side of the patient.

    Args:
        kind: One of KINDS.
        lesions: Pixels of the lesions, bool, (size, size).
    """
    size = len(lesions)
    canvas = Image.new("1", (size, size))
    pen = ImageDraw.Draw(canvas)
    if kind == "tube":
        start, bend, end = rng.uniform((0.2, 0.0), (0.8, 0.0)), rng.uniform(0.1, 0.9, 2), rng.uniform(0.3, 0.95, 2)
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        pen.line([(x * size, y * size) for x, y in curve], fill=1, width=max(2, round(size / 48)))
    elif kind == "letter":
        on_left = bool(rng.random() < 0.5)
        # A frontal radiograph shows the patient's right on the image's left.
        letter = ("R" if on_left else "L") if modality == "radiograph" else "A"
        corner = np.array([rng.uniform(0.02, 0.05) if on_left else rng.uniform(0.88, 0.91), rng.uniform(0.02, 0.05)])
        _strokes(pen, letter, corner * size, 0.09 * size)
    else:
        for _ in range(50):
            corner = rng.uniform(0.12, 0.82, 2) * size
            x, y = corner.astype(int)
            reach = round(0.07 * size)
            if not lesions[max(y - 2, 0) : y + reach + 2, max(x - 2, 0) : x + reach + 2].any():
                break
        _strokes(pen, "clip", corner, 0.06 * size)
    return np.asarray(canvas) & ~lesions


def _strokes(pen: ImageDraw.ImageDraw, glyph: str, corner: Array, height: float) -> None:
    for stroke in _GLYPHS[glyph]:
        points = [(corner[0] + x * height, corner[1] + y * height) for x, y in stroke]
        pen.line(points, fill=1, width=max(1, round(height / 9)))

"""CNR, pointing and bilinear resizing with plain loops in double precision, written from their definitions."""

import math

import numpy as np


def slow_cnr(values: list[float], inside: list[bool]) -> float:
    """(mean inside - mean outside) / sqrt(both population variances), values first brought to 0..1."""
    low, high = min(values), max(values)
    if high == low:
        return 0.0
    parts: dict[bool, list[float]] = {True: [], False: []}
    for value, within in zip(values, inside, strict=True):
        parts[bool(within)].append((value - low) / (high - low))
    means = {within: sum(part) / len(part) for within, part in parts.items()}
    noise = sum(sum((value - means[within]) ** 2 for value in part) / len(part) for within, part in parts.items())
    return (means[True] - means[False]) / math.sqrt(max(noise, 0.0025))


def slow_pointing(values: list[float], inside: list[bool]) -> float:
    highest = [index for index, value in enumerate(values) if value == max(values)]
    return sum(inside[index] for index in highest) / len(highest)


def slow_resize(grid: np.ndarray, side: int) -> np.ndarray:
    """Bilinear between the centres of the cells; beyond the outermost centres their value stays."""
    rows, columns = grid.shape
    pixels = np.zeros((side, side))
    for y in range(side):
        for x in range(side):
            v = min(max((y + 0.5) * rows / side - 0.5, 0), rows - 1)
            u = min(max((x + 0.5) * columns / side - 0.5, 0), columns - 1)
            for row, column in ((math.floor(v) + i, math.floor(u) + j) for i in (0, 1) for j in (0, 1)):
                weight = max(0, 1 - abs(v - row)) * max(0, 1 - abs(u - column))
                if weight:
                    pixels[y, x] += weight * grid[row, column]
    return pixels

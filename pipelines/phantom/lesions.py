"""Lesions: outline, texture, and a place on the 3x3 grid. A look-alike is a lesion that no report mentions."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from scipy.spatial.distance import pdist
from skimage.draw import polygon2mask

Array = np.ndarray

ADJECTIVES = ("round", "oval", "triangular", "lobulated", "spiculated", "crescent")
TERMS = ("nodule", "cyst", "calcification")
COLUMNS = ("left", "center", "right")
ROWS = ("upper", "middle", "lower")
# Radius of the disc of equal area, in image sides: 12 to 13 and 17 to 19 pixels across at 96.
SIZES = {"small": (0.060, 0.068), "large": (0.090, 0.098)}

_CENTRES = (0.22, 0.50, 0.78)
_TRIES = 12


@dataclass(frozen=True)
class Lesion:
    """One drawn lesion.

    Attributes:
        adjective: Its shape, one of ADJECTIVES.
        term: Its texture, one of TERMS.
        size: small or large, by area.
        column: Third of the image that holds the mask's centroid, in the image's left and right.
        row: The same, from above.
        mask: Exactly the pixels it changes, bool, (size, size).
    """

    adjective: str
    term: str
    size: str
    column: str
    row: str
    mask: Array

    @property
    def length(self) -> float:
        """Longest diameter, image sides."""
        return (float(pdist(np.argwhere(self.mask)).max()) + 1) / len(self.mask)

    @property
    def box(self) -> list[int]:
        """(x, y, width, height) in pixels, the tightest around the mask."""
        rows, columns = np.nonzero(self.mask.any(axis=1))[0], np.nonzero(self.mask.any(axis=0))[0]
        return [int(v) for v in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def outline(adjective: str, rng: np.random.Generator) -> Array:
    """Vertices (n, 2) of a shape, centroid at the origin, area pi, turned at random."""
    turn = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    if adjective == "crescent":
        # A unit disc less a disc of radius q at distance d; they meet at angle a, seen from the second as b.
        q, d = 0.80, 0.50
        meet = (1 - q**2 + d**2) / (2 * d)
        a = np.arccos(meet)
        b = np.arctan2(np.sin(a), meet - d)
        outer = np.linspace(a, 2 * np.pi - a, 64)
        inner = np.linspace(2 * np.pi - b, b, 48)
        points = np.concatenate(
            [
                np.column_stack([np.sin(outer), np.cos(outer)]),
                np.column_stack([q * np.sin(inner), d + q * np.cos(inner)]),
            ]
        )
    else:
        radius = np.ones_like(turn)
        if adjective == "triangular":
            turn = turn[::32]
            radius = rng.uniform(0.9, 1.1, size=3)
        elif adjective == "lobulated":
            radius = 1 + 0.36 * np.cos(rng.integers(3, 5) * turn)
        elif adjective == "spiculated":
            spikes = 7
            turn = np.linspace(0, 2 * np.pi, 2 * spikes, endpoint=False)
            radius = np.where(np.arange(2 * spikes) % 2, 0.5, rng.uniform(1.1, 1.35, size=2 * spikes))
        points = np.column_stack([radius * np.sin(turn), radius * np.cos(turn)])
        if adjective == "oval":
            points *= (0.7, 1.4)
    area, centroid = _area_and_centroid(points)
    points = (points - centroid) * np.sqrt(np.pi / area)
    angle = rng.uniform(0, 2 * np.pi)
    return points @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _area_and_centroid(points: Array) -> tuple[float, Array]:
    following = np.roll(points, -1, axis=0)
    cross = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    return abs(cross.sum()) / 2, ((points + following) * cross[:, None]).sum(axis=0) / (3 * cross.sum())


def cell_of(mask: Array) -> tuple[str, str]:
    """(column, row) of the third of the image that holds the mask's centroid, in the image's left and right."""
    rows, columns = np.nonzero(mask)
    size = len(mask)
    return COLUMNS[int(3 * (columns.mean() + 0.5) / size)], ROWS[int(3 * (rows.mean() + 0.5) / size)]


def place(
    adjective: str, term: str, size: str, cells: list[tuple[str, str]], taken: Array, rng: np.random.Generator
) -> Lesion | None:
    """Put a lesion into the first of `cells` with room for it; None where none has.

    Args:
        cells: (column, row), in the order of preference.
        taken: Pixels of what is there already, bool, (side, side); a gap is kept around them.
    """
    side = len(taken)
    # Three pixels at 96, so that no two lesions look like one.
    blocked = binary_dilation(taken, iterations=round(side / 32))
    blocked[[0, -1], :] = blocked[:, [0, -1]] = True
    for column, row in cells:
        for _ in range(_TRIES):
            points = outline(adjective, rng) * rng.uniform(*SIZES[size])
            centre = np.array([_CENTRES[ROWS.index(row)], _CENTRES[COLUMNS.index(column)]]) + rng.uniform(
                -0.05, 0.05, 2
            )
            # The polygon's integer coordinates are pixel centres.
            vertices = (points + centre) * side - 0.5
            if vertices.min() < 0 or vertices.max() > side - 1:
                continue
            mask = polygon2mask((side, side), vertices)
            if not (mask & blocked).any() and cell_of(mask) == (column, row):
                return Lesion(adjective, term, size, column, row, mask)
    return None


def texture(lesion: Lesion, rng: np.random.Generator) -> Array:
    """What a lesion adds, in units of the contrast, float, (size, size); 0 outside its mask and nowhere inside.

    A nodule is solid, a cyst hollow with a bright rim, a calcification bright and grainy: each shows at the size of the
    smallest lesion, whatever the shape.
    """
    pixel = len(lesion.mask) / 96
    depth = np.zeros(lesion.mask.shape)
    left, top, width, height = lesion.box
    # A pixel around the box is enough to find the nearest one outside: a lesion never touches the image's border.
    window = np.s_[top - 1 : top + height + 1, left - 1 : left + width + 1]
    depth[window] = distance_transform_edt(lesion.mask[window]) / pixel
    if lesion.term == "nodule":
        values = np.ones_like(depth)
    elif lesion.term == "cyst":
        values = np.where(depth < 2, 1.0, -0.8)
    else:
        grains = gaussian_filter(rng.normal(size=depth.shape), 0.9 * pixel)
        values = np.where(grains > 0, 2.2, 0.9)
    return lesion.mask * values * np.where(depth < 1.5, 0.8, 1.0)

"""The three looks: what a patient's image shows where there is no lesion.

Every anatomy fills the image, so that a 3x3 grid over the image is a 3x3 grid over the anatomy. The traits of a patient
are drawn large enough to be seen, because reports name them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

Array = np.ndarray


@dataclass(frozen=True)
class Look:
    """One kind of image.

    Attributes:
        modality: As in `pipelines.records.MODALITIES`.
        view: As in `pipelines.records.VIEWS`; None where there is no projection.
        traits: The two visible properties that vary between patients, each with its two values.
        draw: (size, traits, rng) -> values 0 to 1, float, (size, size) or (size, size, 3).
        noise: Standard deviation of the pixel noise, fraction of the grey range.
    """

    modality: str
    view: str | None
    traits: dict[str, tuple[str, str]]
    draw: Callable[[int, dict[str, str], np.random.Generator], Array]
    noise: float


def _grid(size: int) -> tuple[Array, Array]:
    """Row and column of every pixel centre, in image sides (0 to 1), after numpy's order (y, x)."""
    axis = (np.arange(size) + 0.5) / size
    return axis[:, None], axis[None, :]


def _inside(distance: Array, softness: float = 0.04) -> Array:
    """1 where `distance` is well below 1, 0 well above it, smooth between."""
    return 1 / (1 + np.exp(np.clip((distance - 1) / softness, -30, 30)))


def _ellipse(y: Array, x: Array, centre: tuple[float, float], radii: tuple[float, float], power: float = 2) -> Array:
    """Soft (super)ellipse: 1 inside, 0 outside; larger powers give squarer corners."""
    distance = np.abs((y - centre[0]) / radii[0]) ** power + np.abs((x - centre[1]) / radii[1]) ** power
    return _inside(distance ** (1 / power))


def _mottle(size: int, rng: np.random.Generator) -> Array:
    """A smooth random field, mean 0, standard deviation about 1: makes every patient's tissue differ."""
    field = zoom(rng.normal(size=(9, 9)), (size + 8) / 9, order=3)[:size, :size]
    return (field - field.mean()) / field.std()


def _radiograph(size: int, traits: dict[str, str], rng: np.random.Generator) -> Array:
    y, x = _grid(size)
    middle = 0.5 + rng.uniform(-0.03, 0.03)
    base = {"deep": 0.88, "shallow": 0.70}[traits["inspiration"]] + rng.uniform(-0.02, 0.02)
    top = rng.uniform(0.04, 0.12)
    image = 0.50 + 0.05 * _mottle(size, rng) + rng.uniform(-0.06, 0.06) * (x - 0.5) + 0 * y
    # The heart lies towards the patient's left, which is the right half of a frontal radiograph.
    radius = {"slim": 0.10, "broad": 0.20}[traits["heart"]] * rng.uniform(0.95, 1.05)
    heart = _ellipse(y, x, (base - 0.15, middle + 0.40 * radius + 0.01), (0.16, radius))
    for side in (-1, 1):
        # Lungs taper towards the apex: the horizontal distance is stretched near the top.
        width = rng.uniform(0.17, 0.22) * (0.55 + 0.45 * np.clip((y - top) / 0.5, 0, 1))
        half = (base - top) / 2
        centre = middle + side * rng.uniform(0.22, 0.26)
        distance = (np.abs((y - top - half) / half) ** 3 + np.abs((x - centre) / width) ** 3) ** (1 / 3)
        lung = _inside(distance, 0.05) * (1 - heart)
        spacing, phase, slope = rng.uniform(0.085, 0.115), rng.uniform(0, 1), rng.uniform(0.8, 1.6)
        ribs = np.cos(2 * np.pi * ((y - slope * (np.abs(x - middle) - 0.2) ** 2) / spacing + phase))
        image = image - lung * rng.uniform(0.24, 0.30) + lung * 0.07 * np.clip(ribs - 0.2, 0, 1)
        collarbone = np.abs(y - top - 0.05 + side * (x - middle) * 0.25)
        image = image + 0.08 * _inside(collarbone / 0.016, 0.3) * (side * (x - middle) > 0.05)
    spine = np.abs(x - middle) / rng.uniform(0.045, 0.06)
    image = image + 0.05 * _inside(spine, 0.2) + 0.06 * heart
    body = _ellipse(y, x, (0.62, 0.5), (0.66, rng.uniform(0.52, 0.62)), power=4)
    return image * (0.25 + 0.75 * body)


def _ct(size: int, traits: dict[str, str], rng: np.random.Generator) -> Array:
    y, x = _grid(size)
    centre = (0.5 + rng.uniform(-0.02, 0.02), 0.5 + rng.uniform(-0.02, 0.02))
    radii = (rng.uniform(0.42, 0.47), rng.uniform(0.46, 0.49))
    fat = {"thin": 0.025, "thick": 0.085}[traits["fat layer"]]
    body = _ellipse(y, x, centre, radii, power=2.8)
    wall = _ellipse(y, x, centre, (radii[0] - fat, radii[1] - fat), power=2.8)
    cavity = _ellipse(y, x, centre, (radii[0] - fat - 0.04, radii[1] - fat - 0.04), power=2.6)
    image = 0.03 + 0.19 * body + 0.24 * wall - 0.07 * cavity + 0.022 * _mottle(size, rng) * body
    liver = _ellipse(
        y,
        x,
        (centre[0] + rng.uniform(-0.08, 0.02), centre[1] - rng.uniform(0.14, 0.22)),
        (rng.uniform(0.18, 0.26), rng.uniform(0.14, 0.22)),
        power=2.4,
    )
    image = image + 0.11 * liver * cavity
    for side in (-1, 1):
        organ = (centre[0] + rng.uniform(-0.02, 0.18), centre[1] + side * rng.uniform(0.15, 0.27))
        image = image + rng.uniform(0.04, 0.10) * cavity * _ellipse(
            y, x, organ, (rng.uniform(0.06, 0.11), rng.uniform(0.05, 0.09))
        )
    gas = (centre[0] - rng.uniform(0.12, 0.22), centre[1] + rng.uniform(0.06, 0.22))
    image = image - 0.2 * cavity * _ellipse(y, x, gas, (rng.uniform(0.03, 0.06), rng.uniform(0.05, 0.10)))
    for angle in np.linspace(0, 2 * np.pi, 11)[:-1] + rng.uniform(0, 0.6):
        rib = (
            centre[0] + (radii[0] - fat - 0.03) * np.sin(angle) * 0.97,
            centre[1] + (radii[1] - fat - 0.03) * np.cos(angle) * 0.97,
        )
        image = image + 0.22 * _ellipse(y, x, rib, (0.016, 0.016))
    spine = (centre[0] + radii[0] - fat - 0.10, centre[1])
    image = image + 0.28 * _ellipse(y, x, spine, (0.06, 0.07))
    vessel = {"enhanced": 0.38, "unenhanced": 0.02}[traits["vessels"]]
    for offset, radius in ((0.05, 0.036), (-0.07, 0.030)):
        at = (spine[0] - 0.115, centre[1] + offset)
        image = image + vessel * _ellipse(y, x, at, (radius, radius))
    return image


def _endoscopy(size: int, traits: dict[str, str], rng: np.random.Generator) -> Array:
    y, x = _grid(size)
    centre = (rng.uniform(0.36, 0.64), rng.uniform(0.36, 0.64))
    dy, dx = y - centre[0], x - centre[1]
    angle = np.arctan2(dy, dx)
    wobble = 1 + 0.12 * np.cos(2 * angle + rng.uniform(0, 6.3)) + 0.08 * np.cos(3 * angle + rng.uniform(0, 6.3))
    radius = np.hypot(dy, dx) * wobble
    lumen = _inside(radius / {"narrow": 0.07, "wide": 0.17}[traits["lumen"]], 0.15)
    spacing = {"sparse": 0.30, "dense": 0.11}[traits["folds"]] * rng.uniform(0.95, 1.05)
    folds = np.clip(np.cos(2 * np.pi * radius / spacing + rng.uniform(0, 6.3)) - 0.35, 0, 1)
    light = 0.54 + 0.16 * np.clip(radius / 0.5, 0, 1) + 0.06 * _mottle(size, rng) - 0.16 * folds - 0.40 * lumen
    colour = np.array([1.06, rng.uniform(0.58, 0.74), rng.uniform(0.46, 0.62)])
    image = light[:, :, None] * colour
    highlights = np.zeros((size, size))
    for _ in range(rng.integers(4, 8)):
        row, column = rng.uniform(0.15, 0.85, size=2) * size
        highlights[int(row), int(column)] = 1
    shine = gaussian_filter(highlights, size * 0.011)
    image = image + 0.55 * (shine / shine.max())[:, :, None]
    return image * _inside(np.hypot(y - 0.5, x - 0.5) / 0.62, 0.015)[:, :, None]


LOOKS = (
    Look(
        modality="radiograph",
        view="frontal",
        traits={"inspiration": ("deep", "shallow"), "heart": ("slim", "broad")},
        draw=_radiograph,
        noise=0.022,
    ),
    Look(
        modality="ct",
        view=None,
        traits={"fat layer": ("thin", "thick"), "vessels": ("enhanced", "unenhanced")},
        draw=_ct,
        noise=0.026,
    ),
    Look(
        modality="endoscopy",
        view=None,
        traits={"lumen": ("narrow", "wide"), "folds": ("sparse", "dense")},
        draw=_endoscopy,
        noise=0.012,
    ),
)

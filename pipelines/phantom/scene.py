"""One image: anatomy, lesions that the report names, a look-alike that it does not, marks, noise."""

from dataclasses import dataclass

import numpy as np

from pipelines.phantom.anatomy import Look
from pipelines.phantom.config import PhantomConfig
from pipelines.phantom.lesions import ADJECTIVES, COLUMNS, ROWS, TERMS, Lesion, place, texture
from pipelines.phantom.marks import KINDS, draw_mark

Array = np.ndarray


@dataclass(frozen=True)
class Patient:
    """What all images of a patient share.

    Attributes:
        number: Counted from 1.
        look: Kind of image.
        traits: Visible properties by name, one value each.
        anatomy: Pixel values 0 to 1 without lesions, marks and noise, (size, size) or (size, size, 3).
    """

    number: int
    look: Look
    traits: dict[str, str]
    anatomy: Array


@dataclass(frozen=True)
class Scene:
    """What one image shows, and what only its report tells.

    Attributes:
        pixels: uint8, (size, size) or (size, size, 3).
        lesions: The lesions that the report names: none in a normal image, else 1 to 4.
        look_alike: A lesion that nothing names; None in a normal image.
        marks: Pixels of each mark by its kind, bool, (size, size).
    """

    pixels: Array
    lesions: list[Lesion]
    look_alike: Lesion | None
    marks: dict[str, Array]


def draw_scene(config: PhantomConfig, patient: Patient, rng: np.random.Generator) -> Scene:
    """One more image of a patient; `rng` decides all that the patient's images do not share."""
    drawn = [] if rng.random() < config.normal_fraction else _draw_lesions(config.size, rng)
    taken = np.zeros((config.size, config.size), dtype=bool)
    for lesion in drawn:
        taken |= lesion.mask
    kinds = [str(kind) for kind in rng.permutation(KINDS)[: rng.integers(1, 3)]]
    marks = {kind: draw_mark(kind, patient.look.modality, taken, rng) for kind in kinds}
    exposure = rng.uniform(0.93, 1.07)
    pixels = compose(patient.anatomy * exposure, drawn, marks, config.contrast, patient.look.noise, rng)
    return Scene(pixels, drawn[1:], drawn[0] if drawn else None, marks)


def _draw_lesions(size: int, rng: np.random.Generator) -> list[Lesion]:
    """The look-alike, then 1 to 4 lesions to name, the first of them with the look-alike's term.

    No two agree in both adjective and term, and none share a cell of the grid: adjective and term together name one
    lesion, and so does the position.
    """
    pairs = [(adjective, term) for adjective in ADJECTIVES for term in TERMS]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    same_term = next(pair for pair in pairs[1:] if pair[1] == pairs[0][1])
    pairs.remove(same_term)
    pairs.insert(1, same_term)
    cells = [(column, row) for column in COLUMNS for row in ROWS]
    drawn: list[Lesion] = []
    taken = np.zeros((size, size), dtype=bool)
    for pair in pairs[: rng.integers(2, 6)]:
        order = [cells[i] for i in rng.permutation(len(cells))]
        lesion = place(*pair, str(rng.choice(["small", "large"])), order, taken, rng)
        # Where the image is too full for one more, it stays as it is; two lesions always fit.
        if lesion is not None:
            drawn.append(lesion)
            taken |= lesion.mask
            cells.remove((lesion.column, lesion.row))
    return drawn


def compose(
    anatomy: Array,
    lesions: list[Lesion],
    marks: dict[str, Array],
    contrast: float,
    noise: float,
    rng: np.random.Generator,
) -> Array:
    """Pixels as uint8: marks and lesions on the anatomy, then noise.

    Args:
        anatomy: Values 0 to 1, (size, size) or (size, size, 3).
        contrast: Brightness of a nodule over its surroundings, fraction of the grey range.
        noise: Standard deviation, fraction of the grey range.
    """
    grain = rng.normal(scale=noise, size=anatomy.shape)
    image = anatomy.copy()
    for mark in marks.values():
        image[mark] = 0.95
    for lesion in lesions:
        inside = image[lesion.mask]
        # Over bone or air the contrast would drown in black or white: the surroundings are drawn towards the middle.
        level = np.clip(inside.mean(axis=0), 0.25, 0.55)
        added = contrast * texture(lesion, rng)[lesion.mask]
        image[lesion.mask] = (
            level + 0.3 * (inside - inside.mean(axis=0)) + (added if inside.ndim == 1 else added[:, None])
        )
    return np.round(np.clip(image + grain, 0, 1) * 255).astype(np.uint8)

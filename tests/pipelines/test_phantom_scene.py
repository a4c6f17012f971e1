"""What the generator draws, checked against its own record of the scene."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon2mask
from skimage.measure import regionprops

from pipelines.phantom.anatomy import LOOKS
from pipelines.phantom.config import PhantomConfig
from pipelines.phantom.lesions import ADJECTIVES, TERMS, Lesion, cell_of, outline, texture
from pipelines.phantom.marks import draw_mark
from pipelines.phantom.scene import compose
from pipelines.phantom.stage import draw_scenes
from pipelines.phantom.text import position


def config(seed: int, size: int = 96, images: int = 3, normal_fraction: float = 0.15) -> PhantomConfig:
    return PhantomConfig(
        images=images,
        size=size,
        seed=seed,
        images_per_patient=(1, 3),
        normal_fraction=normal_fraction,
        contrast=0.3,
    )


def disc(row: float, column: float, radius: float = 8, size: int = 96) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([64, 96, 131]))
def test_what_a_scene_promises(seed: int, size: int) -> None:
    for patient, scene, _ in draw_scenes(config(seed, size, normal_fraction=0.3)):
        drawn = scene.lesions + [scene.look_alike] * (scene.look_alike is not None)
        assert scene.pixels.shape[:2] == patient.anatomy.shape[:2] == (size, size)
        assert 1 <= len(scene.marks) <= 2
        assert all(mark.sum() >= 4 for mark in scene.marks.values())
        for one, other in itertools.combinations([lesion.mask for lesion in drawn] + list(scene.marks.values()), 2):
            if not any(one is mark for mark in scene.marks.values()):
                assert not (one & other).any()
        if not scene.lesions:
            assert scene.look_alike is None
            continue
        assert 1 <= len(scene.lesions) <= 4
        assert scene.look_alike is not None
        assert scene.look_alike.term in {lesion.term for lesion in scene.lesions}
        assert len({(lesion.adjective, lesion.term) for lesion in drawn}) == len(drawn)
        assert len({(lesion.column, lesion.row) for lesion in drawn}) == len(drawn)


def test_look_alikes_and_marks_show_in_the_pixels() -> None:
    seen = {look.modality: 0 for look in LOOKS}
    for patient, scene, _ in draw_scenes(config(seed=1, images=90)):
        change = np.abs(scene.pixels / 255 - patient.anatomy)
        change = change if change.ndim == 2 else change.mean(axis=2)
        background = np.ones(change.shape, dtype=bool)
        for lesion in scene.lesions:
            background &= ~lesion.mask
        for mark in scene.marks.values():
            background &= ~mark
            assert (scene.pixels[mark] > 200).mean() > 0.95
        if scene.look_alike:
            unnamed = scene.look_alike.mask
            assert change[unnamed].mean() > 3 * change[background & ~unnamed].mean()
            seen[patient.look.modality] += 1
    assert min(seen.values()) > 20


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: look.modality)
@pytest.mark.parametrize("term", TERMS)
def test_a_lesion_changes_its_mask_and_nothing_else(look, term: str) -> None:
    traits = {name: values[0] for name, values in look.traits.items()}
    anatomy = look.draw(96, traits, np.random.default_rng(0))
    lesion = Lesion("round", term, "large", "left", "middle", disc(48, 20))
    without, with_it = (
        compose(anatomy, lesions, {}, 0.3, look.noise, np.random.default_rng(5)) for lesions in ([], [lesion])
    )
    changed = without != with_it
    changed = changed if changed.ndim == 2 else changed.any(axis=2)
    assert not changed[~lesion.mask].any()
    assert changed[lesion.mask].mean() > 0.9


def test_textures_tell_the_terms_apart() -> None:
    mask = disc(48, 48)
    values = {}
    for term in TERMS:
        lesion = Lesion("round", term, "large", "center", "middle", mask)
        added = texture(lesion, np.random.default_rng(0))
        assert not added[~mask].any()
        values[term] = (added[disc(48, 48, 4)].mean(), added[disc(48, 48, 4)].std())
    assert values["nodule"] == (1, 0)
    assert values["cyst"][0] < -0.5
    assert values["calcification"][0] > 1.2
    assert values["calcification"][1] > 0.4


# (eccentricity, solidity), from the shapes: an ellipse 2:1 has eccentricity 0.866, a convex shape solidity 1.
BOUNDS = {
    "round": ((0.0, 0.2), (0.97, 1.0)),
    "oval": ((0.84, 0.89), (0.97, 1.0)),
    "triangular": ((0.0, 0.5), (0.97, 1.0)),
    "lobulated": ((0.0, 0.3), (0.6, 0.9)),
    "spiculated": ((0.0, 0.55), (0.4, 0.75)),
    "crescent": ((0.6, 0.95), (0.5, 0.85)),
}


@pytest.mark.parametrize("adjective", ADJECTIVES)
def test_shapes(adjective: str) -> None:
    for seed in range(12):
        mask = polygon2mask((400, 400), outline(adjective, np.random.default_rng(seed)) * 80 + 200)
        (shape,) = regionprops(mask.astype(np.uint8))
        assert shape.area == pytest.approx(np.pi * 80**2, rel=0.03)
        assert shape.centroid == pytest.approx((200, 200), abs=1.5)
        for value, (low, high) in zip((shape.eccentricity, shape.solidity), BOUNDS[adjective], strict=True):
            assert low <= value <= high
    if adjective == "triangular":
        # An equilateral triangle covers 0.41 of the circle through its corners, a disc all of it.
        reach = np.hypot(*(np.argwhere(mask) - 200).T).max()
        assert shape.area / (np.pi * reach**2) == pytest.approx(0.41, abs=0.1)


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        (15, 15, ("left", "upper")),
        (48, 48, ("center", "middle")),
        (80, 20, ("left", "lower")),
        (31, 64, ("right", "upper")),
    ],
)
def test_cells_of_the_grid(row: int, column: int, expected: tuple[str, str]) -> None:
    assert cell_of(disc(row, column)) == expected


def test_left_is_the_patients_only_on_the_radiograph() -> None:
    lesion = Lesion("round", "cyst", "large", "right", "lower", disc(80, 80))
    assert {look.modality: position(lesion, look) for look in LOOKS} == {
        "radiograph": "left lower",
        "ct": "right lower",
        "endoscopy": "right lower",
    }


def test_the_side_marker_stands_on_its_side() -> None:
    seen = set()
    for seed in range(20):
        mark = draw_mark("letter", "radiograph", np.zeros((96, 96), dtype=bool), np.random.default_rng(seed))
        rows, columns = np.nonzero(mark)
        glyph = mark[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        # An R has strokes in its upper right quarter, an L has none there.
        letter = "R" if glyph[: len(glyph) // 2, -2:].any() else "L"
        assert letter == ("R" if columns.mean() < 48 else "L")
        seen.add(letter)
    assert seen == {"R", "L"}


def test_a_patient_keeps_anatomy_and_traits() -> None:
    scenes = list(draw_scenes(config(seed=0, images=30)))
    for (one, first, _), (other, second, _) in itertools.pairwise(scenes):
        if one.number == other.number:
            assert one is other
            assert (first.pixels != second.pixels).any()
        else:
            assert one.anatomy.shape != other.anatomy.shape or (one.anatomy != other.anatomy).any()

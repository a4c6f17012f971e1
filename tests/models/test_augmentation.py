"""Changes to training images: picture, mask and words stay in agreement, and chance is reproducible."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest

from models.data.augmentation import Augmentation, augment, generator
from models.places import flip_text, names_position

KEY = "00000000000000a7"
SIDE = 48


def sample(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """A mask without any symmetry, and a picture of it: white where the mask is."""
    mask = np.zeros((side, side), bool)
    mask[side // 6 : side // 2, side // 5 : side // 3] = True
    mask[side // 2 : side // 2 + side // 8, side // 5 : side - side // 4] = True
    return np.repeat(mask[..., None] * np.uint8(255), 3, axis=2), mask


def changed(config: Augmentation, text: str = "", count: int = 60) -> Iterator[tuple[np.ndarray, np.ndarray, str]]:
    image, mask = sample()
    for epoch in range(count):
        yield augment(image, mask, text, config, generator(0, epoch, KEY))


def agreement(image: np.ndarray, mask: np.ndarray) -> float:
    """IoU of the mask with what is bright in the picture."""
    bright = image[..., 0] > 127
    return float((bright & mask).sum() / (bright | mask).sum())


GEOMETRY = {
    "mirror": {"mirror": 0.5},
    "quarter_turns": {"quarter_turns": 0.7},
    "rotation": {"rotation": 30.0},
    "zoom": {"zoom": 0.7, "zoom_to": 1.8},
    "all": {"mirror": 0.5, "quarter_turns": 0.5, "rotation": 20.0, "zoom": 0.5, "zoom_to": 1.5},
}


@pytest.mark.parametrize("settings", GEOMETRY.values(), ids=GEOMETRY)
def test_mask_and_picture_stay_registered(settings: dict[str, float]) -> None:
    image, mask = sample()
    found = list(changed(Augmentation(**settings)))
    assert all(one.dtype == np.uint8 and one.shape == image.shape for one, _, _ in found)
    assert all(one.dtype == bool and one.shape == mask.shape for _, one, _ in found)
    # Edges are interpolated in the picture and not in the mask, twice where a zoom follows a turn.
    assert min(agreement(one, other) for one, other, _ in found) > (0.9 if "mirror" in settings else 0.98)
    moved = [not np.array_equal(other, mask) for _, other, _ in found]
    assert any(moved)
    assert settings.get("rotation") or not all(moved)


def test_one_pixel_off_would_be_seen() -> None:
    image, mask = sample()
    assert agreement(image, mask) == 1
    assert max(agreement(image, np.roll(mask, 1, axis)) for axis in (0, 1)) < 0.87


def test_nothing_is_changed_by_default() -> None:
    image, mask = sample()
    for one, other, text in changed(Augmentation(), "Left."):
        assert np.array_equal(one, image)
        assert np.array_equal(other, mask)
        assert text == "Left."


def test_mirrored_twice_is_the_identity() -> None:
    always = Augmentation(mirror=1.0)
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    _, mask = sample()
    once = augment(image, mask, "Left upper lobe, right base.", always, generator(0, 0, KEY))
    assert np.array_equal(once[0], image[:, ::-1])
    assert np.array_equal(once[1], mask[:, ::-1])
    assert once[2] == "Right upper lobe, left base."
    twice = augment(*once, always, generator(0, 1, KEY))
    assert np.array_equal(twice[0], image)
    assert np.array_equal(twice[1], mask)
    assert twice[2] == "Left upper lobe, right base."


def test_quarter_turns_are_all_three_and_exact() -> None:
    image, mask = sample()
    turned = Augmentation(quarter_turns=1.0)
    times = [
        next(
            k for k in range(4) if np.array_equal(other, np.rot90(mask, k)) and np.array_equal(one, np.rot90(image, k))
        )
        for one, other, _ in changed(turned)
    ]
    assert set(times) == {1, 2, 3}


@pytest.mark.parametrize("text", ["Polyp at the top.", "left lung", "RUL infiltrate", "an upper-left polyp"])
def test_no_turn_where_the_text_names_a_place(text: str) -> None:
    _, mask = sample()
    assert all(np.array_equal(other, mask) for _, other, _ in changed(Augmentation(quarter_turns=1.0), text))


def test_a_rotation_goes_either_way_and_uncovers_black() -> None:
    white, everything = np.full((SIDE, SIDE, 3), 255, np.uint8), np.ones((SIDE, SIDE), bool)
    image, mask, _ = augment(white, everything, "", Augmentation(rotation=30.0), generator(0, 0, KEY))
    assert image[0, 0].tolist() == [0, 0, 0]
    assert not mask[0, 0]
    # A bar along the middle: its left end goes down or up with the sign of the angle, by at most tan(30 degrees).
    bar = np.zeros((SIDE, SIDE), bool)
    bar[SIDE // 2 - 2 : SIDE // 2 + 2] = True
    slopes = []
    for epoch in range(60):
        _, turned, _ = augment(white, bar, "", Augmentation(rotation=30.0), generator(0, epoch, KEY))
        left, right = (np.nonzero(turned[:, column])[0].mean() for column in (10, 37))
        slopes.append((left - right) / 27)
    assert min(slopes) < -0.3
    assert max(slopes) > 0.3
    assert np.abs(slopes).max() < np.tan(np.radians(30)) + 0.05


def test_zoom_enlarges_up_to_its_limit_and_lies_anywhere() -> None:
    image, _ = sample()
    square = np.zeros((SIDE, SIDE), bool)
    square[20:28, 20:28] = True
    sizes, places = [], []
    for epoch in range(80):
        config = Augmentation(zoom=1.0, zoom_to=1.5)
        _, found, _ = augment(image, square, "", config, generator(0, epoch, KEY))
        rows, columns = np.nonzero(found)
        sizes.append(np.ptp(rows) + 1)
        places.append((rows.mean(), columns.mean()))
    assert min(sizes) == 8
    assert max(sizes) == 12
    down, across = np.array(places).T
    # Two independent draws.
    assert np.abs(np.corrcoef(down, across)[0, 1]) < 0.4
    assert np.ptp(down) > 6
    assert np.ptp(across) > 6


def test_zoom_keeps_the_sides_that_the_text_names() -> None:
    _, mask = sample()
    left = np.zeros_like(mask)
    left[:, : SIDE // 2] = True
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for epoch in range(40):
        _, found, _ = augment(image, left, "left", Augmentation(zoom=1.0, zoom_to=2.0), generator(0, epoch, KEY))
        assert np.array_equal(found, left)


def test_no_zoom_where_it_would_cut_off_what_the_text_names() -> None:
    corner = np.zeros((SIDE, SIDE), bool)
    corner[:6, :6] = True
    image = np.repeat(corner[..., None] * np.uint8(255), 3, axis=2)
    config = Augmentation(zoom=1.0, zoom_to=3.0)
    found = [augment(image, corner, "A polyp.", config, generator(0, epoch, KEY)) for epoch in range(60)]
    assert all(mask.any() for _, mask, _ in found)
    # Some zooms cut it off, and leave the picture as it is; others are taken.
    kept = [np.array_equal(one, image) for one, _, _ in found]
    assert 0 < sum(kept) < len(found)
    nothing = np.zeros_like(corner)
    assert not any(
        np.array_equal(augment(image, nothing, "", config, generator(0, n, KEY))[0], image) for n in range(9)
    )


@pytest.mark.parametrize("name", ["blur", "brightness", "contrast", "saturation", "hue"])
def test_colours_change_the_picture_alone(name: str) -> None:
    _, mask = sample()
    image = np.random.default_rng(0).integers(60, 190, (SIDE, SIDE, 3), dtype=np.uint8)
    config = Augmentation(**{name: 0.1})
    found = [augment(image, mask, "Left.", config, generator(0, epoch, KEY)) for epoch in range(20)]
    assert all(np.array_equal(other, mask) and text == "Left." for _, other, text in found)
    assert all(one.dtype == np.uint8 for one, _, _ in found)
    # Some draws round to the same bytes.
    assert len({one.tobytes() for one, _, _ in found}) > 12


def colour_of(config: Augmentation, colour: tuple[int, int, int]) -> np.ndarray:
    """(draws, 3): what becomes of a picture of one colour."""
    image, mask = np.full((8, 8, 3), colour, np.uint8), np.zeros((8, 8), bool)
    found = [augment(image, mask, "", config, generator(0, epoch, KEY))[0] for epoch in range(200)]
    assert all((one == one[0, 0]).all() for one in found)
    return np.array([one[0, 0] for one in found], dtype=int)


def test_the_strength_of_each_colour_change() -> None:
    bright = colour_of(Augmentation(brightness=0.4), (100, 100, 100))[:, 0]
    assert (bright.min(), bright.max()) == (pytest.approx(60, abs=1), pytest.approx(140, abs=1))
    assert bright.mean() == pytest.approx(100, abs=4)
    # A picture of one grey has no contrast to change; grey has neither saturation nor hue.
    for name in ("contrast", "saturation", "hue"):
        assert (colour_of(Augmentation(**{name: 0.5}), (100, 100, 100)) == 100).all(), name
    red, _, blue = colour_of(Augmentation(saturation=1.0), (200, 100, 100)).T
    # Luma 0.299 * 200 + 0.701 * 100 = 130: grey at one end, twice the distance from it at the other.
    assert (red - blue).min() < 8
    assert (red.max(), blue.min()) == (pytest.approx(255, abs=1), pytest.approx(70, abs=1))
    turned = colour_of(Augmentation(hue=1 / 3), (255, 0, 0))
    # A third of the circle either way is green and blue; red stays one of the three's largest in between.
    assert turned[:, 1].max() >= 250
    assert turned[:, 2].max() >= 250
    assert (turned.max(axis=1) >= 250).all()
    contrast = Augmentation(contrast=0.5)
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4], image[4:] = 80, 120
    spread = [
        int(np.ptp(augment(image, np.zeros((8, 8), bool), "", contrast, generator(0, epoch, KEY))[0].astype(int)))
        for epoch in range(200)
    ]
    assert (min(spread), max(spread)) == (pytest.approx(20, abs=2), pytest.approx(60, abs=2))


def test_blur_is_a_share_of_the_side() -> None:
    def width(side: int) -> float:
        """Largest width of a line after the blur, as a share of the side."""
        image = np.zeros((side, side, 3), np.uint8)
        image[:, side // 2 - side // 16 : side // 2 + side // 16] = 255
        lines = [
            augment(image, np.zeros((side, side), bool), "", Augmentation(blur=0.05), generator(0, epoch, KEY))[0]
            for epoch in range(20)
        ]
        return max(float((line[side // 2, :, 0] > 12).mean()) for line in lines)

    assert width(32) == pytest.approx(width(128), abs=0.07)
    assert width(128) > 2 / 16 + 0.05


def test_shares_are_near_the_probabilities() -> None:
    image, mask = sample()
    config = Augmentation(mirror=0.5, quarter_turns=0.3, zoom=0.1, zoom_to=2.0)
    upright = [np.rot90(mask, k) for k in range(4)]
    counts = dict.fromkeys(("mirror", "turn", "zoom"), 0)
    for epoch in range(2000):
        _, found, _ = augment(image, mask, "", config, generator(3, epoch, KEY))
        flipped = [np.rot90(mask[:, ::-1], k) for k in range(4)]
        place = next((k for k, one in enumerate([*upright, *flipped]) if np.array_equal(found, one)), None)
        counts["zoom"] += place is None
        counts["mirror"] += place is not None and place >= 4
        counts["turn"] += place is not None and place % 4 != 0
    # Standard deviations: 7 for a zoom in 10, and about 21 for the others among those that are not zoomed.
    assert counts["zoom"] == pytest.approx(200, abs=45)
    assert counts["mirror"] == pytest.approx(900, abs=90)
    assert counts["turn"] == pytest.approx(540, abs=90)


def test_the_same_seed_epoch_and_key_give_the_same_bytes() -> None:
    image, mask = sample()
    strong = Augmentation(mirror=0.5, rotation=20.0, zoom=0.5, blur=0.02, brightness=0.3, hue=0.2)

    def once(seed: int, epoch: int, key: str) -> bytes:
        one, other, text = augment(image, mask, "left", strong, generator(seed, epoch, key))
        return one.tobytes() + other.tobytes() + text.encode()

    first = once(1, 2, KEY)
    assert once(1, 2, KEY) == first
    assert len({first, once(2, 2, KEY), once(1, 3, KEY), once(1, 2, "ffffffffffffffff")}) == 4


def test_a_setting_does_not_move_the_draws_of_another() -> None:
    rotated = Augmentation(rotation=20.0)
    more = dataclasses.replace(rotated, brightness=0.5, blur=0.01, saturation=0.5, hue=0.3, contrast=0.3)
    for (_, one, _), (_, other, _) in zip(changed(rotated), changed(more), strict=True):
        assert np.array_equal(one, other)
    mirrored = [text for *_, text in changed(Augmentation(mirror=0.5), "left")]
    assert mirrored == [text for *_, text in changed(Augmentation(mirror=0.5, rotation=9, zoom=0.5, hue=0.1), "left")]
    assert set(mirrored) == {"left", "right"}
    # A more likely change happens wherever the less likely one did.
    likely = [text for *_, text in changed(Augmentation(mirror=0.8), "left")]
    assert all(second == "right" for first, second in zip(mirrored, likely, strict=True) if first == "right")


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        (
            "LEFT lung: Right-sided nodule, leftmost zone; upright, copyright.",
            "RIGHT lung: Left-sided nodule, rightmost zone; upright, copyright.",
        ),
        (
            "Bilateral pulmonary infection, two infected areas, all left lung and middle lower right lung.",
            "Bilateral pulmonary infection, two infected areas, all right lung and middle lower left lung.",
        ),
        ("Unilateral pulmonary infection, all right lung.", "Unilateral pulmonary infection, all left lung."),
        ("round polyp center upper. flat polyp left lower", "round polyp center upper. flat polyp right lower"),
        ("one small pink circle polyp, located in top right", "one small pink circle polyp, located in top left"),
        ("Left-sided, RIGHT, upper-left, left/right", "Right-sided, LEFT, upper-right, right/left"),
        ("leftmost, Rightward, rightwards, left_lung", "rightmost, Leftward, leftwards, right_lung"),
        ("RUL and LLL opacity, right hilum", "LUL and RLL opacity, left hilum"),
        ("bilateral, upright, leftover, righteous, ALL", "bilateral, upright, leftover, righteous, ALL"),
        ("UPPER middle Lower", "UPPER middle Lower"),
        ("", ""),
    ],
)
def test_left_and_right_are_exchanged_and_nothing_else(text: str, mirrored: str) -> None:
    assert flip_text(text) == mirrored
    assert flip_text(mirrored) == text


@pytest.mark.parametrize(
    "text",
    [
        "left",
        "A round nodule in the RIGHT zone",
        "left-sided effusion",
        "upper-left",
        "leftmost",
        "Uppermost",
        "located in top right",
        "bottom of the image",
        "center upper",
        "the middle zone",
        "Basal opacities",
        "at the lung bases.",
        "superior, inferior",
        "RLL consolidation",
        "left_lung",
    ],
)
def test_a_place_is_named(text: str) -> None:
    assert names_position(text)
    assert names_position(text.upper()) == names_position(text.lower()) or "RLL" in text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No pulmonary infection, zero infected areas.",
        "Bilateral pulmonary infection",
        "one round polyp in the center of the image",
        "upright film, based on stopped topical supply",
        "all clear",
    ],
)
def test_no_place_is_named(text: str) -> None:
    assert not names_position(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mirror": 1.5}, r"augmentation\.mirror 1\.5 does not lie between 0 and 1"),
        ({"brightness": -0.1}, r"augmentation\.brightness -0\.1"),
        ({"rotation": 45.0}, "more than 30 degrees would turn left into up"),
        ({"zoom_to": 0.9}, "zoom_to is at least 1"),
        ({"blur": -1.0}, "blur not negative"),
        ({"hue": 0.6}, r"hue at most 0\.5"),
        ({"phrases": 1.5}, r"augmentation\.phrases 1\.5 does not lie between 0 and 1"),
        ({"text_dropout": -0.1}, r"augmentation\.text_dropout -0\.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Augmentation(**settings)
    assert "\n" not in str(caught.value)

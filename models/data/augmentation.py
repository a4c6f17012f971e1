"""Changes to training images that keep picture, mask and text in agreement.

A mirrored picture whose text still says "left" teaches the opposite of what it should (published code of LViT and
RecLMIS does that in part of its training). Here a change that makes words of place false either changes the words too,
or is not applied.
"""

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

# A word begins and ends at anything but letters and digits: "upper-left", "left_lung".
_START, _END = r"(?<![^\W_])", r"(?![^\W_])"
# Left and right alone, or as a part of "leftmost", "rightward", "right-sided"; lobes and zones as in "RUL". Not
# "bilateral" and "upright", which stay true.
_SIDE = re.compile(
    rf"{_START}(?:(?i:left|right)(?=(?i:most|wards?|hand|handed|side|sided)?{_END})|[LR](?=[UML][LZ]{_END}))"
)
_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}
_LEVEL = re.compile(
    rf"{_START}(?:(?:upper|lower|top|bottom)(?:most)?|up|down|(?:up|down)wards?|middle|mid|superior|inferior|above|below"
    rf"|apical|apex|apices|basal|basilar|bases?|cranial|caudal|horizontal(?:ly)?|vertical(?:ly)?){_END}",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How a training image is changed; 0 leaves a change out.

    Attributes:
        mirror: Probability of exchanging left and right, in picture, mask and words. The words stay true, but the
            anatomy becomes an unusual one: the heart of a mirrored frontal radiograph lies on the other side.
        quarter_turns: Probability of a turn by 90, 180 or 270 degrees; never where the text names a place.
        rotation: Largest turn in degrees, either way.
        zoom: Probability of cutting out a square and enlarging it to the picture's size (paper 002: 0.1). The square
            lies anywhere, or in the middle where the text names a place: what is left of the middle stays so.
        zoom_to: Largest enlargement.
        blur: Largest sigma of a Gaussian blur, as a share of the image's side.
        brightness: Largest change of the brightness, as a share; contrast and saturation alike.
        contrast: See `brightness`.
        saturation: See `brightness`.
        hue: Largest turn of the hue, as a share of the circle.
    """

    mirror: float = 0.0
    quarter_turns: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0
    zoom_to: float = 1.2
    blur: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def __post_init__(self) -> None:
        for name in ("mirror", "quarter_turns", "zoom", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation.{name} {getattr(self, name)} does not lie between 0 and 1")
        if not 0 <= self.rotation <= 30:
            raise ValueError(f"augmentation.rotation {self.rotation}: more than 30 degrees would turn left into up")
        if self.zoom_to < 1 or self.blur < 0 or not 0 <= self.hue <= 0.5:
            raise ValueError("augmentation: zoom_to is at least 1, blur not negative, and hue at most 0.5")


def generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """What decides the changes of one sample in one epoch, whatever worker reads it."""
    return np.random.default_rng([seed, epoch, int(key, 16)])


def names_place(text: str) -> bool:
    """Whether a text could become false if its picture were turned; in doubt it does ("middle", "base")."""
    return _SIDE.search(text) is not None or _LEVEL.search(text) is not None


def mirrored_text(text: str) -> str:
    """The text of the mirrored picture: left and right exchanged, everything else as it is."""

    def exchange(found: re.Match[str]) -> str:
        word = found.group()
        other = _OTHER[word.lower()]
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return _SIDE.sub(exchange, text)


def augment(
    image: np.ndarray, mask: np.ndarray, text: str, config: Augmentation, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """Change one sample: mirror, quarter turn, rotation, zoom, then blur and colours.

    Args:
        image: (height, width, 3) uint8, square.
        mask: (height, width) bool.
        text: What is said of it.
        config: What may happen.
        random: Draws it.

    Returns:
        The same three, changed; what a turn uncovers is black and no part of the mask.
    """
    # All numbers are drawn, whatever is applied: a setting changes nothing but what it is for.
    mirror, turn, turns, angle, zoom, enlarge, x, y = random.random(8).tolist()
    colours = random.random(5).tolist()
    if mirror < config.mirror:
        image, mask, text = image[:, ::-1], mask[:, ::-1], mirrored_text(text)
    has_place = names_place(text)
    if turn < config.quarter_turns and not has_place:
        times = 1 + int(3 * turns)
        image, mask = np.rot90(image, times), np.rot90(mask, times)
    picture, outline = Image.fromarray(image), Image.fromarray(mask.astype(np.uint8))
    if config.rotation:
        degrees = config.rotation * _either_way(angle)
        picture = picture.rotate(degrees, Image.Resampling.BILINEAR)
        outline = outline.rotate(degrees, Image.Resampling.NEAREST)
    if zoom < config.zoom:
        corner = (0.5, 0.5) if has_place else (x, y)
        box = _window(picture.width, 1 + (config.zoom_to - 1) * enlarge, corner)
        picture = picture.resize(picture.size, Image.Resampling.BICUBIC, box)
        outline = outline.resize(outline.size, Image.Resampling.NEAREST, box)
    return np.asarray(_coloured(picture, config, colours)), np.asarray(outline) > 0, text


def _either_way(drawn: float) -> float:
    """0 to 1 -> -1 to 1."""
    return 2 * drawn - 1


def _window(side: int, enlargement: float, corner: tuple[float, float]) -> tuple[float, float, float, float]:
    """The square (x0, y0, x1, y1) that becomes the whole picture; `corner` is its place, 0 to 1 across and down."""
    cut = side / enlargement
    x, y = ((side - cut) * share for share in corner)
    return x, y, x + cut, y + cut


def _coloured(picture: Image.Image, config: Augmentation, drawn: list[float]) -> Image.Image:
    """Blur and changed colours, by five numbers from 0 to 1."""
    blur, *enhanced, hue = drawn
    if config.blur:
        picture = picture.filter(ImageFilter.GaussianBlur(config.blur * picture.width * blur))
    changes = (
        (ImageEnhance.Brightness, config.brightness),
        (ImageEnhance.Contrast, config.contrast),
        (ImageEnhance.Color, config.saturation),
    )
    for (enhance, largest), number in zip(changes, enhanced, strict=True):
        if largest:
            picture = enhance(picture).enhance(1 + largest * _either_way(number))
    if config.hue:
        values = np.array(picture.convert("HSV"))
        # Hue is a circle of 256 steps, and bytes overflow as it does.
        values[..., 0] += np.uint8(round(256 * config.hue * _either_way(hue)) % 256)
        picture = Image.fromarray(values, "HSV").convert("RGB")
    return picture

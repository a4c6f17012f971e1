"""Changes to training images that keep picture, mask and text in agreement.

A mirrored picture whose text still says "left" teaches the opposite of what it should (published code of LViT and
RecLMIS does that in part of its training). Here a change that makes words of place false either changes the words too,
or is not applied.
"""

import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

_PLACE = re.compile(r"\b(left|right|upper|lower|top|bottom|superior|inferior)(?=\b|most|-)", re.IGNORECASE)
_SIDES = {"left": "right", "right": "left"}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How a training image is changed; 0 leaves a change out.

    Attributes:
        mirror: Probability of exchanging left and right, in picture, mask and words.
        quarter_turns: Probability of a turn by 90, 180 or 270 degrees; never where the text names a place.
        rotation: Largest turn in degrees, either way.
        zoom: Probability of cutting out a part and enlarging it (paper 002: 0.1).
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
    """Whether a text would become false if its picture were turned."""
    return _PLACE.search(text) is not None


def mirrored_text(text: str) -> str:
    """The text of the mirrored picture: left and right exchanged, everything else as it is."""

    def exchange(found: re.Match[str]) -> str:
        word = found.group()
        other = _SIDES.get(word.lower(), word.lower())
        return other.upper() if word.isupper() and len(word) > 1 else (other.capitalize() if word[0].isupper() else other)

    return _PLACE.sub(exchange, text)


def augment(
    image: np.ndarray, mask: np.ndarray, text: str, config: Augmentation, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """Change one sample.

    Args:
        image: (height, width, 3) uint8, square.
        mask: (height, width) bool.
        text: What is said of it.
        config: What may happen.
        random: Draws it.

    Returns:
        The same three, changed.
    """
    raise NotImplementedError

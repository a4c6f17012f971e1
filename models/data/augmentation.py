"""Augmentation of training images that keeps image, mask and text in agreement.

A flipped image whose text still says "left" teaches the opposite of what it should (published code of LViT and RecLMIS
does that in part of its training). Here a change that makes words of position false either changes the words too, or
is not applied.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from models.geometry import Box
from models.places import flip_text, names_position

_FRACTIONS = ("mirror", "quarter_turns", "zoom", "brightness", "contrast", "saturation", "phrases", "text_dropout")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How a training image is changed, and what is asked of it; 0 leaves a change out.

    Attributes:
        mirror: Probability of exchanging left and right, in image, mask and words. The words stay true, but the
            anatomy becomes an unusual one: the heart of a flipped frontal radiograph lies on the other side.
        quarter_turns: Probability of a turn by 90, 180 or 270 degrees; never where the text names a position.
        rotation: Largest turn in degrees, either way.
        zoom: Probability of cutting out a square and enlarging it to the image's size (paper 002: 0.1). The square
            lies anywhere, or in the middle where the text names a position: what is left of the middle stays so. Where
            it would cut off all of the mask, which the text describes, the image stays as it is.
        zoom_to: Largest enlargement.
        blur: Largest sigma of a Gaussian blur, as a fraction of the image's side.
        brightness: Largest change of the brightness, as a fraction; contrast and saturation alike.
        contrast: See `brightness`.
        saturation: See `brightness`.
        hue: Largest turn of the hue, as a fraction of the circle.
        phrases: Probability that an image is trained on one of its (phrase, mask) pairs (`models/data/pairs.py`), such
            as a label and what is outlined under it, in the place of its text and all that is outlined; an image
            without pairs keeps these. For methods that read the text.
        text_dropout: Probability that the text is the empty one, whatever the mask. For methods that read the text.
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
    phrases: float = 0.0
    text_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in _FRACTIONS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augmentation.{name} {getattr(self, name)} does not lie between 0 and 1")
        if not 0 <= self.rotation <= 30:
            raise ValueError(f"augmentation.rotation {self.rotation}: more than 30 degrees would turn left into up")
        if self.zoom_to < 1 or self.blur < 0 or not 0 <= self.hue <= 0.5:
            raise ValueError("augmentation: zoom_to is at least 1, blur not negative, and hue at most 0.5")

    @property
    def changes_images(self) -> bool:
        """Whether any image may be changed, and not only what is asked of it."""
        return replace(self, phrases=0.0, text_dropout=0.0) != Augmentation()

    @property
    def changes_texts(self) -> bool:
        """Whether an image may be asked another text than its own."""
        return self.phrases > 0 or self.text_dropout > 0


def generator(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The random numbers for one sample in one epoch; the same in every worker."""
    return np.random.default_rng([seed, epoch, int(key, 16)])


def augment(
    image: np.ndarray, mask: np.ndarray, text: str, config: Augmentation, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, str]:
    """Change one sample: mirror, quarter turn, rotation, zoom, then blur and colours.

    Args:
        image: (height, width, 3) uint8, square.
        mask: (height, width) bool.
        text: Its text.
        config: Which changes are possible.
        random: Decides which are applied.

    Returns:
        Image, mask and text after the changes; what a turn uncovers is black and no part of the mask.
    """
    # All numbers are drawn, whatever is applied, so that one setting does not change the effect of another.
    mirror, turn, turns, angle, zoom, enlarge, x, y = random.random(8).tolist()
    colours = random.random(5).tolist()
    if mirror < config.mirror:
        image, mask, text = image[:, ::-1], mask[:, ::-1], flip_text(text)
    has_position = names_position(text)
    if turn < config.quarter_turns and not has_position:
        times = 1 + int(3 * turns)
        image, mask = np.rot90(image, times), np.rot90(mask, times)
    pil_image, pil_mask = Image.fromarray(image), Image.fromarray(mask.astype(np.uint8))
    if config.rotation:
        degrees = config.rotation * _signed(angle)
        pil_image = pil_image.rotate(degrees, Image.Resampling.BILINEAR)
        pil_mask = pil_mask.rotate(degrees, Image.Resampling.NEAREST)
    if zoom < config.zoom:
        corner = (0.5, 0.5) if has_position else (x, y)
        box = _window(pil_image.width, 1 + (config.zoom_to - 1) * enlarge, corner)
        zoomed = pil_mask.resize(pil_mask.size, Image.Resampling.NEAREST, box)
        if zoomed.getbbox() or not pil_mask.getbbox():
            pil_image, pil_mask = pil_image.resize(pil_image.size, Image.Resampling.BICUBIC, box), zoomed
    return np.asarray(_jitter(pil_image, config, colours)), np.asarray(pil_mask) > 0, text


def _signed(number: float) -> float:
    """0 to 1 -> -1 to 1."""
    return 2 * number - 1


def _window(side: int, enlargement: float, corner: tuple[float, float]) -> Box:
    """The square (x0, y0, x1, y1) that becomes the whole image; `corner` is its position, 0 to 1 across and down."""
    window = side / enlargement
    x, y = ((side - window) * fraction for fraction in corner)
    return x, y, x + window, y + window


def _jitter(image: Image.Image, config: Augmentation, numbers: list[float]) -> Image.Image:
    """Blur and colour jitter, by five random numbers from 0 to 1."""
    blur, *enhancements, hue = numbers
    if config.blur:
        image = image.filter(ImageFilter.GaussianBlur(config.blur * image.width * blur))
    changes = (
        (ImageEnhance.Brightness, config.brightness),
        (ImageEnhance.Contrast, config.contrast),
        (ImageEnhance.Color, config.saturation),
    )
    for (enhance, largest), number in zip(changes, enhancements, strict=True):
        if largest:
            image = enhance(image).enhance(1 + largest * _signed(number))
    if config.hue:
        values = np.array(image.convert("HSV"))
        # Hue is a circle of 256 steps, and the sum of two bytes wraps around in the same way.
        values[..., 0] += np.uint8(round(256 * config.hue * _signed(hue)) % 256)
        image = Image.fromarray(values, "HSV").convert("RGB")
    return image

"""Finds text that is burned into a picture, with an OCR model that runs on the CPU.

The models are PP-OCRv4's for detection and recognition, as the wheel of rapidocr-onnxruntime holds them (the extra
`ocr`); nothing is fetched. They look at the whole picture, and once more at its upper and lower edge, much enlarged:
there stand the small lines of scanners, viewers and publishers. How much is found: benchmarks/results/README.md.

Text is what is read with a confidence of at least 0.3 and has three letters or digits, unless it is a mark: side,
projection, position of the patient, a scale in mm or cm, a window. So the side markers L and R never count. What was
read is compared and forgotten: boxes alone are handed on.
"""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from pipelines.cache import ResultCache
from pipelines.errors import UserError, item_boundary
from pipelines.files import digest_of
from pipelines.images import PixelBox, pixel_sha256

LEAST_CONFIDENCE = 0.3
LEAST_CHARACTERS = 3

# Raised when the same pixels may give other boxes, for the result cache.
_ANSWER_FORMAT = 1
_PACKAGES = ("rapidocr-onnxruntime", "onnxruntime")

# RapidOCR gives its detector a shorter side of at least 736 pixels, for it loses letters of less than about 10.
_SHORTER_SIDE, _LONGER_SIDE = 736, 2000
# The edges: fraction of the picture's height and least pixels, how often enlarged, and at most how wide.
_EDGE, _LEAST_EDGE, _ENLARGED, _WIDEST = 0.06, 30, 6, 3072
# Three letters do not fit in less, and enlarged with its padding it would have millions of pixels.
_LEAST_SIDE = 16
_PADDING = 12  # black pixels around what is looked at: a line of text that touches the edge is not detected
# Of the picture's shorter side: taller letters are ribs or gyri that the model reads something into.
_TALLEST = 0.15
# Around a box: across the line a fraction of its height and least pixels, for the tails of letters; along it a multiple
# of its height and most pixels, for words of small lines that are not read: names stand at their ends.
_ACROSS, _LEAST_ACROSS = 0.25, 2
_ALONG, _MOST_ALONG = 3, 30

# Readers leave out blanks, so that several words may come as one. Short words count alone: together they spell names.
_LONG_MARK = (
    "portable|portatil|mobile|bedside|upright|erect|semierect|semi|supine|prone|standing|sitting|decubitus|decub|"
    "frontal|lateral|right|left|inspiration|expiration|derecha|izquierda|derecho|izquierdo|rechts|links|stehend|liegend"
)
_SHORT_MARK = "dcha|dch|izda|izq|der|lat|apx|pax|rao|lao|rpo|lpo|mlo|rcc|lcc|rmlo|lmlo"
_MARK = re.compile(
    rf"(?:ap|pa|ed|er|icu)?(?:{_LONG_MARK})+|{_SHORT_MARK}|\d+(?:mm|cm|kv|kvp|ma|mas)|ww?\d+w?l\d+|wl\d+ww?\d+"
)


def is_text(words: str, confidence: float) -> bool:
    """Whether what was read is text that may say who the patient is: neither a mark nor too short, and read clearly."""
    characters = "".join(filter(str.isalnum, words)).casefold()
    return (
        confidence >= LEAST_CONFIDENCE and len(characters) >= LEAST_CHARACTERS and _MARK.fullmatch(characters) is None
    )


class TextFinder:
    """Looks for text; the models are loaded for the first picture that the result cache does not know.

    Args:
        cache: File of the result cache. It keeps boxes under the digest of the pixels, never words. None: boxes are not
            kept.

    Attributes:
        identity: What decides which boxes are found in given pixels, as JSON.

    Raises:
        UserError: The extra is not installed, or a library of the system that it needs.
    """

    def __init__(self, cache: Path | None) -> None:
        try:
            # Here, for the import takes a second, and few sources ask for it.
            from rapidocr_onnxruntime import RapidOCR
        except ModuleNotFoundError:
            raise UserError("burned_in: looking for text in pixels needs pip install 'medregion[ocr]'") from None
        except ImportError as error:  # OpenCV, which it asks for, is built with a window system
            raise UserError(
                f"burned_in: looking for text in pixels needs libraries of the system ({error}): on Debian, apt-get "
                "install libgl1 libglib2.0-0 libxcb1"
            ) from None
        self._load = RapidOCR
        self.identity = [*(f"{name} {metadata.version(name)}" for name in _PACKAGES), _ANSWER_FORMAT]
        self._cache = None if cache is None else ResultCache(cache)

    def boxes(self, picture: Image.Image) -> tuple[PixelBox, ...]:
        """Where a picture has text.

        Args:
            picture: 8 bits, of mode 'L' or 'RGB'.

        Returns:
            Boxes around the letters, with a margin that is wider along the line, sorted; they may overlap.
        """
        key = digest_of(["burned_in", self.identity, pixel_sha256(picture)])
        known = None if self._cache is None else self._cache.get(key)
        if known is None:
            known = [list(box) for box in self._look(picture)]
            if self._cache is not None:
                self._cache.put(key, "burned_in", known)
        lines = [box for box in known if min(box[2] - box[0], box[3] - box[1]) <= _TALLEST * min(picture.size)]
        return tuple(sorted({_with_margin(box, picture.size) for box in lines}))

    def _look(self, picture: Image.Image) -> list[PixelBox]:
        """The upright boxes of what is read as text, without a margin."""
        found: set[PixelBox] = set()
        if max(picture.size) < _LEAST_SIDE:
            return []
        for view, top, factor in _views(picture.convert("L")):
            with item_boundary("text_search_failed"):
                read, _ = self._model(np.asarray(view))
            for corners, words, confidence in read or ():
                if is_text(words, float(confidence)):
                    inside = (np.asarray(corners) / factor - _PADDING + (0, top)).clip(0, picture.size)
                    found.add((*_whole(np.floor(inside.min(axis=0))), *_whole(np.ceil(inside.max(axis=0)))))
        return sorted(found)

    @cached_property
    def _model(self) -> Any:
        # One thread: a picture's boxes must not depend on how many there are. The views have the right size.
        model = self._load(
            use_cls=False,
            text_score=0.0,
            width_height_ratio=-1,
            max_side_len=2 * _WIDEST,
            det_limit_side_len=32,
            intra_op_num_threads=1,
            inter_op_num_threads=1,
        )
        logging.getLogger("RapidOCR").handlers.clear()  # it logs to its own taste
        return model


def _views(grey: Image.Image) -> Iterator[tuple[Image.Image, int, float]]:
    """What the model looks at: a part of the picture in another size, the part's upper edge, and the factor of size."""
    width, height = grey.size
    factor = min(max(1, _SHORTER_SIDE / min(grey.size)), _LONGER_SIDE / max(grey.size))
    yield _resized(grey, factor), 0, factor
    edge = min(height, max(_LEAST_EDGE, round(_EDGE * height)))
    factor = max(1, min(_ENLARGED, _WIDEST / width))
    for top in sorted({0, height - edge}):
        yield _resized(grey.crop((0, top, width, top + edge)), factor), top, factor


def _resized(image: Image.Image, factor: float) -> Image.Image:
    padded = ImageOps.expand(image, _PADDING)
    size = max(1, round(padded.width * factor)), max(1, round(padded.height * factor))
    return padded.resize(size, Image.Resampling.BICUBIC)


def _whole(point: np.ndarray) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _with_margin(box: Sequence[int], size: tuple[int, int]) -> PixelBox:
    x0, y0, x1, y1 = box
    height = min(x1 - x0, y1 - y0)  # of the letters: a line may run upwards
    across = max(_LEAST_ACROSS, math.ceil(_ACROSS * height))
    along = max(across, min(_MOST_ALONG, _ALONG * height))
    x, y = (along, across) if x1 - x0 >= y1 - y0 else (across, along)
    return max(0, x0 - x), max(0, y0 - y), min(size[0], x1 + x), min(size[1], y1 + y)

"""The served model: a table of images and texts in, one column for each output back (`pipelines/tracking`)."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from models.data.shards import Sample
from models.orientation import orientation_of, turned_image
from models.prediction import THRESHOLD, PredictionError, Predictor
from models.preparation import eight_bit

MAX_PIXELS = 100_000_000

T = TypeVar("T")


def answer(predictor: Predictor, rows: Sequence[Mapping[str, Any]], outputs: Sequence[str]) -> dict[str, list[Any]]:
    """What a model says about rows of an image, a text, or both.

    Args:
        predictor: The model.
        rows: `image`: bytes of a PNG or JPEG file; `text`; `regions`: boxes x0, y0, x1, y1 in pixels of the image. Each
            may be missing or None.
        outputs: Names of `models.prediction.OUTPUTS`.

    Returns:
        Output -> a value a row; None where the row lacks what the output is made from:

        - image_embedding, text_embedding: (dimensions,) float32, of length 1.
        - similarity: cosine of the two, -1 to 1.
        - region_embeddings: (regions, dimensions) float32, of length 1.
        - heat_map: (height, width) float32, in pixels of the image; NaN where the model does not look.
        - mask: (height, width) bool, in pixels of the image; without a text, for the empty one.

    Raises:
        PredictionError: The model does not have an output, or a row cannot be read; the message says which.
    """
    predictor.require(outputs)
    samples = [_sample(predictor, number, row) for number, row in enumerate(rows)]
    texts = [_text(number, row) for number, row in enumerate(rows)]
    both = list(zip(samples, texts, strict=True))
    found: dict[str, list[Any]] = {}
    needed = {*outputs, *(("image_embedding", "text_embedding") if "similarity" in outputs else ())}
    if "image_embedding" in needed:
        found["image_embedding"] = _where(samples, predictor.embed_images)
    if "text_embedding" in needed:
        found["text_embedding"] = _where(texts, predictor.embed_texts)
    if "similarity" in needed:
        vectors = zip(found["image_embedding"], found["text_embedding"], strict=True)
        found["similarity"] = [None if one is None or other is None else float(one @ other) for one, other in vectors]
    if "region_embeddings" in needed:
        found["region_embeddings"] = _where(samples, predictor.embed_regions)
    if "heat_map" in needed:
        pairs = [None if sample is None or text is None else (sample, text) for sample, text in both]
        found["heat_map"] = _where(pairs, predictor.heat_maps)
    if "mask" in needed:
        told = [None if sample is None else (sample, text or "") for sample, text in both]
        found["mask"] = _where(told, lambda inputs: (values > THRESHOLD for values in predictor.masks(inputs)))
    return {name: found[name] for name in outputs}


def _where(inputs: Sequence[T | None], compute: Callable[[list[T]], Iterable[Any]]) -> list[Any]:
    """The results of the inputs that are there, in their places."""
    there = [value for value in inputs if value is not None]
    results = iter(compute(there) if there else ())
    return [None if value is None else next(results) for value in inputs]


def _sample(predictor: Predictor, number: int, row: Mapping[str, Any]) -> Sample | None:
    data = row.get("image")
    if data is None:
        return None
    try:
        return predictor.prepare(str(number), open_picture(data), _regions(row.get("regions")))
    except PredictionError as error:
        raise PredictionError(f"row {number}: {error}") from None


def _regions(given: object) -> Sequence[Any]:
    boxes = given.tolist() if isinstance(given, np.ndarray) else given
    if boxes is not None and not isinstance(boxes, list | tuple):
        raise PredictionError(f"regions are boxes x0, y0, x1, y1 in pixels, not {type(given).__name__}")
    return boxes or []


def open_picture(data: bytes) -> Image.Image:
    """A PNG or JPEG file as the shards read it, turned by its EXIF orientation: mode 'L' or 'RGB'.

    Raises:
        PredictionError: It is neither, is damaged, or has too many pixels.
    """
    if not isinstance(data, bytes | bytearray):
        raise PredictionError(f"an image is the bytes of a PNG or JPEG file, not {type(data).__name__}")
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG", "JPEG"])
        if image.width * image.height > MAX_PIXELS:
            raise PredictionError(f"{image.width} x {image.height} pixels, at most {MAX_PIXELS}")
        shown = eight_bit(image)
        return turned_image(shown, orientation_of(image))
    except PredictionError:
        raise
    except UnidentifiedImageError:
        raise PredictionError("not a PNG or JPEG file") from None
    except Exception as error:  # noqa: BLE001 - foreign bytes: Pillow's readers raise anything
        detail = " ".join(str(error).split()) or type(error).__name__
        raise PredictionError(f"the image cannot be read: {detail}") from None


def _text(number: int, row: Mapping[str, Any]) -> str | None:
    text = row.get("text")
    if text is not None and not isinstance(text, str):
        raise PredictionError(f"row {number}: a text is a string, not {type(text).__name__}")
    # A table may hold it, no tokenizer takes it.
    if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise PredictionError(f"row {number}: a text has half a surrogate pair, which is no character")
    return text

"""What a trained model says about images from outside the shards: the same in `flows.predict` and in the served model.

An image is prepared as the shards prepare it (`models/preparation.py`) and goes through the functions that evaluation
uses (`models/inference.py`).
"""

import reprlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from models import checkpoint, inference
from models.capabilities import EmbedsImages, EmbedsRegions, EmbedsText, GroundsPhrases, SegmentsFromText
from models.data.format import CROPS, IMAGE, ImageCaptions, ImageMeta, RegionMeta, pack
from models.data.shards import Sample
from models.geometry import Box, clip_box, fitted_size, unit_box
from models.method import Method
from models.preparation import crop_bytes, image_bytes

# Output -> the capabilities that it needs; a heat map can also come from Grad-CAM (`Predictor.offers`).
OUTPUTS: dict[str, tuple[type, ...]] = {
    "image_embedding": (EmbedsImages,),
    "text_embedding": (EmbedsText,),
    "similarity": (EmbedsImages, EmbedsText),
    "region_embeddings": (EmbedsRegions,),
    "heat_map": (GroundsPhrases,),
    "mask": (SegmentsFromText,),
}

# Of a mask: the least probability of a pixel that belongs to it, as in evaluation.
THRESHOLD = 0.5

Heatmap = NDArray[np.float32]


class PredictionError(ValueError):
    """What was asked cannot be answered; one line that says what to change."""


class Predictor:
    """A trained model with the preparation of its images.

    Args:
        folder: Of its checkpoint.
        method_class: Its method.
        batch_size: Images, regions or texts that are computed at a time.

    Attributes:
        model: In evaluation mode.
        wanted: How it wants its images.
        offers: Names of `OUTPUTS` that the model has.

    Raises:
        DamagedError: A file of the checkpoint is not the one that was written.
    """

    def __init__(self, folder: Path, method_class: type[Method], batch_size: int = 16) -> None:
        self.model, self._tokenizer = checkpoint.load(folder, method_class)
        self.wanted = checkpoint.input_format(folder)
        self.batch_size = batch_size
        self.offers = tuple(name for name in OUTPUTS if self._offers(name))

    def _offers(self, output: str) -> bool:
        if output == "heat_map":
            return inference.can_ground(self.model)
        return all(self.model.offers(need) for need in OUTPUTS[output])

    @property
    def reads_regions(self) -> bool:
        """Whether regions of an image change or give an output."""
        return self.model.max_regions > 0 or "region_embeddings" in self.offers

    def require(self, outputs: Sequence[str]) -> None:
        """Refuse outputs that the model does not have.

        Raises:
            PredictionError: The message names what it has.
        """
        if missing := [name for name in outputs if name not in self.offers]:
            raise PredictionError(
                f"{type(self.model).__name__} gives no {', '.join(missing)}; it gives {', '.join(self.offers)}"
            )

    def prepare(self, key: str, image: Image.Image, boxes: Sequence[Sequence[float]] = ()) -> Sample:
        """An image as the model sees it, of which nothing is known but its pixels.

        Args:
            key: Tells it from the others that are given together.
            image: The original, of 8 bits: mode 'L' or 'RGB'.
            boxes: Of its regions, x0, y0, x1, y1 in pixels of the original.

        Raises:
            PredictionError: A box is none, or lies outside of the image.
        """
        inside = [_checked(box, image) for box in boxes]
        crops, spans = pack(crop_bytes(image, box, self.wanted) for box in inside)
        regions = tuple(
            RegionMeta(
                region_id=str(number),
                role="input",
                label=None,
                score=1.0,
                box=unit_box(box, image.width, image.height, self.wanted.image_size),
                crop=span,
                mask=None,
            )
            for number, (box, span) in enumerate(zip(inside, spans, strict=True))
        )
        members = {IMAGE: image_bytes(image, self.wanted), CROPS: crops}
        return Sample(key, _meta(image, regions), _NO_TEXTS, members)

    def embed_images(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """(images, dimensions), of length 1; a method with `max_regions` looks at so many of an image's regions."""
        return _finite(inference.embed_images(self.model, samples, self.batch_size), "image embedding")

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(texts, dimensions), of length 1, in the space of the images."""
        return _finite(inference.embed_texts(self.model, self._tokenizer, texts, self.batch_size), "text embedding")

    def embed_regions(self, samples: Sequence[Sample]) -> list[NDArray[np.float32]]:
        """Of each image (regions, dimensions), of length 1, in the space of the texts."""
        counts = [len(sample.meta.regions) for sample in samples]
        pairs = [(sample, number) for sample, count in zip(samples, counts, strict=True) for number in range(count)]
        if not pairs:
            return [np.zeros((0, 0), np.float32) for _ in counts]
        rows = _finite(inference.embed_regions(self.model, pairs, self.batch_size), "region embedding")
        ends = np.cumsum([0, *counts])
        return [rows[start:end] for start, end in pairwise(ends)]

    def heat_maps(self, pairs: Iterable[tuple[Sample, str]]) -> Iterator[Heatmap]:
        """Where in its image each text is: (height, width) of the original, higher where the text is seen.

        Bilinear between the centres of the method's patches, which are coarser; NaN where its encoder sees nothing of
        the image. The values have no unit, and those of two methods cannot be compared.
        """
        for sample, grid in inference.ground(self.model, self._tokenizer, pairs, self.batch_size):
            side = self.wanted.image_size
            visible = self.model.visible_crop(side)
            square = np.full((side, side), np.nan, np.float32)
            length = visible.stop - visible.start
            square[visible, visible] = _resized(_finite(grid, "heat map"), length, length)
            yield _at_original_size(square, sample)

    def masks(self, pairs: Iterable[tuple[Sample, str]]) -> Iterator[NDArray[np.float32]]:
        """What the method outlines in each image, told by its text: (height, width) of the original, 0 to 1.

        It belongs to the mask where it is above `THRESHOLD`. An image without a text has the empty one.
        """
        for sample, square in inference.segment(self.model, self._tokenizer, pairs, self.batch_size):
            yield _at_original_size(_finite(square, "mask"), sample)


_NO_TEXTS = ImageCaptions(image_id="", status="", basis=None, oracle=False, summary=None, report=None, regions=())


def _meta(image: Image.Image, regions: tuple[RegionMeta, ...]) -> ImageMeta:
    return ImageMeta(
        image_id="",
        source="",
        split="",
        group="",
        modality="",
        view=None,
        labels=None,
        width=image.width,
        height=image.height,
        has_target=False,
        regions=regions,
    )


def _checked(box: object, image: Image.Image) -> Box:
    edges = box.tolist() if isinstance(box, np.ndarray) else box
    if not isinstance(edges, Sequence) or len(edges) != 4 or not all(map(_is_finite, edges)):
        raise PredictionError(f"a region is a box x0, y0, x1, y1 in pixels, not {reprlib.repr(edges)}")
    x0, y0, x1, y1 = inside = clip_box((edges[0], edges[1], edges[2], edges[3]), image.width, image.height)
    if x1 <= x0 or y1 <= y0:
        raise PredictionError(
            f"the box {reprlib.repr(edges)} has no area in the image of {image.width} x {image.height} pixels"
        )
    return inside


def _is_finite(edge: object) -> bool:
    """Whether it is a number that a float can hold; a request may bring anything."""
    largest = sys.float_info.max
    return isinstance(edge, int | float | np.integer | np.floating) and bool(-largest <= edge <= largest)


def _at_original_size(square: NDArray[np.float32], sample: Sample) -> NDArray[np.float32]:
    """The part of a padded square that the image fills, (height, width) of the original."""
    width, height = fitted_size(sample.meta.width, sample.meta.height, len(square))
    return _resized(square[:height, :width], sample.meta.height, sample.meta.width)


def _resized(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Bilinear between the centres of the pixels."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    resized: NDArray[np.float32] = F.interpolate(tensor, (height, width), mode="bilinear", align_corners=False)[
        0, 0
    ].numpy()
    return resized


def _finite(values: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    if not np.isfinite(values).all():
        raise PredictionError(f"the {kind} is not finite: the weights of the model diverged")
    return values

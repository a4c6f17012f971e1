"""What a model says about one image, for a page: maps over it, texts and findings ranked, and what it cannot do."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.data.shards import Sample
from models.prediction import THRESHOLD, PredictionError, Predictor
from pipelines.errors import UserError
from pipelines.evaluate.tasks.zero_shot import ZeroShotConfig, label_directions
from pipelines.predict.pictures import heat_picture, mask_overlay, overlay
from pipelines.try_model.study import StudyTexts

# Pixels of the longer side of a picture on the page.
SHOWN_SIDE = 768
# How many of the ranked texts are shown.
NEAREST = 10

Vectors = NDArray[np.float32]
Ranking = list[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class Opened:
    """An image as the model sees it and as the page shows it.

    Attributes:
        shown: The image, its longer side at most `SHOWN_SIDE` pixels.
        sample: What the model sees; its maps are made in the size of `shown`.
        vector: Its embedding, where the model compares images with texts.
    """

    shown: Image.Image
    sample: Sample
    vector: Vectors | None


@dataclass(frozen=True, kw_only=True)
class Map:
    """Where a model sees a sentence.

    Attributes:
        picture: The image under its map.
        note: What the map says, in words.
    """

    picture: Image.Image
    note: str


@dataclass(frozen=True, kw_only=True)
class SentenceAnswer:
    """What a model says about a sentence in an image.

    Attributes:
        sentence: Empty where the model reads none.
        maps: A heat map, a mask, or both.
        cosine: Of sentence and image, -1 to 1; None where the model does not compare them.
    """

    sentence: str
    maps: tuple[Map, ...]
    cosine: float | None


class TriedModel:
    """A trained model. It answers one question at a time, for pages of several people share it.

    Args:
        predictor: The model.
        study: Texts of the study's training images, which an image is compared with.
        prompts: Of the findings; None: params.yaml has none.

    Attributes:
        asks: Whether a sentence changes what the model says.
        limits: What it cannot do, a sentence each.

    Raises:
        UserError: The weights of the model diverged.
    """

    def __init__(self, predictor: Predictor, study: StudyTexts, prompts: ZeroShotConfig | None) -> None:
        self.study = study
        self.compares = "similarity" in predictor.offers
        self._predictor = predictor
        self._lock = threading.Lock()
        outlines = "mask" in predictor.offers
        self.asks = "heat_map" in predictor.offers or (outlines and predictor.model.reads_text)
        self.limits = _limits(predictor, asks=self.asks)
        self._captions = self._labels = np.zeros((0, 0), np.float32)
        with _one_line():
            if self.compares and study.captions:
                self._captions = predictor.embed_texts(study.captions)
            if self.compares and study.labels and prompts is not None:
                self._labels = label_directions(predictor.embed_texts, study.labels, prompts)

    def open(self, image: Image.Image) -> Opened:
        """Prepare an image (mode 'L' or 'RGB') as the shards of the training were.

        Raises:
            UserError: The weights of the model diverged.
        """
        shown = image.copy()
        shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
        with self._lock, _one_line():
            sample = self._predictor.prepare("image", image)
            vector = self._predictor.embed_images([sample])[0] if self.compares else None
        meta = replace(sample.meta, width=shown.width, height=shown.height)
        return Opened(shown=shown, sample=replace(sample, meta=meta), vector=vector)

    def answer(self, opened: Opened, sentence: str) -> SentenceAnswer:
        """Where a sentence is in an image; raises as `open`."""
        found: list[Map] = []
        cosine = None
        asked = [(opened.sample, sentence)]
        with self._lock, _one_line():
            if "heat_map" in self._predictor.offers:
                (heat,) = self._predictor.heat_maps(asked)
                found.append(_heat_map(opened.shown, heat))
            if "mask" in self._predictor.offers:
                (probability,) = self._predictor.masks(asked)
                found.append(_mask(opened.shown, probability > THRESHOLD))
            if opened.vector is not None:
                cosine = float(self._predictor.embed_texts([sentence])[0] @ opened.vector)
        return SentenceAnswer(sentence=sentence, maps=tuple(found), cosine=cosine)

    def nearest(self, opened: Opened, own: Sequence[str]) -> Ranking:
        """The texts that are most like the image, by cosine: of a person's own, or else of the study's captions."""
        if opened.vector is None:
            return []
        if not own:
            return rank(self.study.captions, self._captions, opened.vector)[:NEAREST]
        with self._lock, _one_line():
            vectors = self._predictor.embed_texts(own)
        return rank(own, vectors, opened.vector)

    def findings(self, opened: Opened) -> Ranking:
        """The study's findings, ranked as the task `zero_shot` scores them."""
        return [] if opened.vector is None else rank(self.study.labels, self._labels, opened.vector)


def rank(texts: Sequence[str], vectors: Vectors, image: Vectors) -> Ranking:
    """Texts with their scores, the best first; none where there are no vectors.

    Args:
        texts: One for each row of `vectors`.
        vectors: (texts, dimensions).
        image: (dimensions,).
    """
    if not len(vectors):
        return []
    scores = vectors @ image
    return [(texts[index], float(scores[index])) for index in np.argsort(-scores, kind="stable")]


def _limits(predictor: Predictor, *, asks: bool) -> list[str]:
    name, offers = type(predictor.model).__name__, predictor.offers
    found = []
    if "heat_map" not in offers and "mask" not in offers:
        found.append(f"{name} neither locates a sentence in an image nor outlines anything: there is no map.")
    elif not asks:
        found.append(f"{name} reads no text: its mask is the same for every sentence, so none is asked for.")
    if "similarity" not in offers:
        found.append(
            f"{name} does not compare images with texts: there are no nearest texts and no scores of findings."
        )
    return found


def _heat_map(shown: Image.Image, heat: Vectors) -> Map:
    note = (
        "From blue (least like the sentence) to red (most). The colours span this map's own range: they have no unit, "
        "and a map is red somewhere even where the sentence is wrong."
    )
    return Map(picture=overlay(shown, heat_picture(heat)), note=note)


def _mask(shown: Image.Image, mask: NDArray[np.bool_]) -> Map:
    part = float(mask.mean())
    note = f"Outlined: {part:.1%} of the image." if part else "The model outlines nothing."
    return Map(picture=mask_overlay(shown, mask), note=note)


@contextmanager
def _one_line() -> Iterator[None]:
    try:
        yield
    except PredictionError as error:
        raise UserError(str(error)) from None

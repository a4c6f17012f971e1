"""The test split as the tasks see it: its texts and labels, and what the method makes of its images and of texts."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from models import inference
from models.data.shards import Sample
from pipelines.stage import progress


class NotFiniteError(ValueError):
    """Embeddings with NaN or infinity: the method's weights diverged."""


@dataclass(frozen=True)
class Item:
    """One test image without its pixels.

    Attributes:
        key: The image_id.
        source: Name of its source.
        labels: Findings; empty where the source says that there is none; None where nobody said.
        status: Outcome of its caption.
        report: Its text, or None.
        oracle: Whether that text was made from annotations of this image.
    """

    key: str
    source: str
    labels: tuple[str, ...] | None
    status: str
    report: str | None
    oracle: bool


class EvaluationSet:
    """A method and the split that it is scored on.

    Args:
        model: In eval mode.
        tokenizer: The method's own.
        samples: Gives the split's samples from the first to the last, anew on each call.
        batch_size: Images or texts that are embedded at a time; no more images are held at once.
    """

    def __init__(self, model: Any, tokenizer: Any, samples: Callable[[], Iterator[Sample]], batch_size: int) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._samples = samples
        self._batch_size = batch_size

    @cached_property
    def items(self) -> list[Item]:
        """The images in stored order."""
        return [_item(sample) for sample in self._samples()]

    @cached_property
    def image_embeddings(self) -> np.ndarray:
        """(images, dimensions) float32, of length 1, in the order of `items`; computed once for all tasks.

        Raises:
            NotFiniteError: The method's weights diverged.
        """
        samples = progress(self._samples(), "images embedded", total=len(self.items))
        return _finite(inference.embed_images(self.model, samples, self._batch_size), "image")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """(texts, dimensions) float32, of length 1. Equal texts get the same embedding, bit by bit.

        Raises:
            NotFiniteError: The method's weights diverged.
        """
        unique = list(dict.fromkeys(texts))
        place = {text: index for index, text in enumerate(unique)}
        found = inference.embed_texts(self.model, self._tokenizer, unique, self._batch_size)
        return _finite(found, "text")[[place[text] for text in texts]]


def _item(sample: Sample) -> Item:
    labels, captions = sample.meta["labels"], sample.captions
    return Item(
        sample.key,
        sample.meta["source"],
        None if labels is None else tuple(labels),
        captions["status"],
        captions["report"],
        captions["oracle"],
    )


def _finite(embeddings: np.ndarray, kind: str) -> np.ndarray:
    broken = int((~np.isfinite(embeddings)).any(axis=1).sum())
    if broken:
        raise NotFiniteError(f"{broken} of {len(embeddings)} {kind} embeddings are not finite: the weights diverged")
    return embeddings

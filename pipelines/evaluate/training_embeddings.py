"""The method's embeddings of the training split, for tasks that learn from labelled images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from sys import intern

import numpy as np

from models import inference
from models.data.shards import Sample
from models.method import Method
from pipelines.stage import progress


@dataclass(frozen=True, slots=True)
class TrainingEmbeddings:
    """What tasks know of the training images, which stand in stored order in each attribute.

    Attributes:
        keys: The image_id of each.
        sources: Name of its source.
        labels: Its findings; empty where the source says that there is none; None where the source says nothing.
        embeddings: (images, dimensions) float32, of length 1.
    """

    keys: list[str]
    sources: list[str]
    labels: list[tuple[str, ...] | None]
    embeddings: np.ndarray


def embed_training(model: Method, samples: Iterable[Sample], total: int, batch_size: int) -> TrainingEmbeddings:
    """Embed the training split in one pass; of its pixels one batch is held at a time.

    Args:
        model: Offers EmbedsImages; in evaluation mode.
        samples: Of the training split, with their pixels.
        total: How many they are.
        batch_size: Images at a time.
    """
    keys: list[str] = []
    sources: list[str] = []
    labels: list[tuple[str, ...] | None] = []

    def noted() -> Iterator[Sample]:
        for sample in progress(samples, "training images embedded", total=total):
            keys.append(sample.key)
            sources.append(intern(sample.meta.source))
            labels.append(None if sample.meta.labels is None else tuple(map(intern, sample.meta.labels)))
            yield sample

    embeddings = inference.embed_images(model, noted(), batch_size)
    return TrainingEmbeddings(keys, sources, labels, embeddings)

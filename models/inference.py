"""Embeddings of many samples and texts, a batch at a time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from models.data.batches import Tokenise, input_regions, stack_images
from models.data.shards import Sample

T = TypeVar("T")


@torch.inference_mode()
def embed_images(model: Any, samples: Iterable[Sample], batch_size: int) -> np.ndarray:
    """One vector a sample, from its pixels and its `input` regions, never from the regions that are truth.

    Args:
        model: Offers EmbedsImages; in evaluation mode.
        samples: Decoded batch by batch.
        batch_size: Images at a time.

    Returns:
        (samples, dimensions) float32, rows of length 1.
    """
    device = _device(model)
    rows = []
    for group in _groups(samples, batch_size):
        images = stack_images(group, [input_regions(sample, model.max_regions) for sample in group])
        rows.append(model.embed_images(images.to(device)).float().cpu().numpy())
    return np.concatenate(rows)


@torch.inference_mode()
def embed_texts(model: Any, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], batch_size: int) -> np.ndarray:
    """One vector a text: (texts, dimensions) float32, rows of length 1."""
    device = _device(model)
    tokenise = Tokenise(tokenizer, tokenizer.model_max_length)
    groups = _groups(texts, batch_size)
    return np.concatenate([model.embed_text(tokenise(group).to(device)).float().cpu().numpy() for group in groups])


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device

"""Embeddings and maps of many samples and texts, a batch at a time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.capabilities import EmbedsImages, EmbedsRegions, EmbedsText, GroundsPhrases, SegmentsFromText
from models.data.batches import Images, Tokenise, Tokens, input_regions, stack_images
from models.data.shards import Sample
from models.grad_cam import grad_cam
from models.method import Method

T = TypeVar("T")


def answer(model: Method, images: Images, tokens: Tokens) -> Tensor:
    """What a method is for, of one image and one text: the mask where it segments, else both embeddings."""
    if isinstance(model, SegmentsFromText):
        return model.segment(images, tokens)
    assert isinstance(model, EmbedsImages)
    assert isinstance(model, EmbedsText)
    return torch.cat([model.embed_images(images), model.embed_text(tokens)])


@torch.inference_mode()
def embed_images(model: Method, samples: Iterable[Sample], batch_size: int) -> np.ndarray:
    """One vector for each sample, from its pixels and its `input` regions, never from the regions that are truth.

    Args:
        model: Offers EmbedsImages; in evaluation mode.
        samples: Decoded batch by batch.
        batch_size: Images at a time.

    Returns:
        (samples, dimensions) float32, rows of length 1.
    """
    assert isinstance(model, EmbedsImages)
    device = _device(model)
    rows = _Rows()
    for group in _groups(samples, batch_size):
        images = stack_images(group, [input_regions(sample, model.max_regions) for sample in group])
        rows.add(model.embed_images(images.to(device)))
    return rows.all()


@torch.inference_mode()
def embed_regions(model: Method, regions: Iterable[tuple[Sample, int]], batch_size: int) -> np.ndarray:
    """One vector for each region, whatever its role.

    Args:
        model: Offers EmbedsRegions; in evaluation mode.
        regions: Regions by their index in `meta.regions`, those of one image one after another.
        batch_size: Regions at a time.

    Returns:
        (regions, dimensions) float32, rows of length 1.
    """
    assert isinstance(model, EmbedsRegions)
    device = _device(model)
    rows = _Rows()
    for group in _groups(regions, batch_size):
        by_image = [list(pairs) for _, pairs in groupby(group, key=lambda pair: pair[0].key)]
        images = stack_images(
            [pairs[0][0] for pairs in by_image], [[number for _, number in pairs] for pairs in by_image]
        )
        rows.add(model.embed_regions(images.to(device)))
    return rows.all()


def can_ground(model: Method) -> bool:
    """Whether `ground` has a map of the method's own, or can make one by Grad-CAM."""
    if model.offers(GroundsPhrases):
        return True
    return model.offers(EmbedsImages) and model.offers(EmbedsText) and model.image_backbone is not None


def ground(
    model: Method, tokenizer: PreTrainedTokenizerFast, phrases: Iterable[tuple[Sample, str]], batch_size: int
) -> Iterator[tuple[Sample, np.ndarray]]:
    """Where in its image each phrase is: by the method's own map, or by Grad-CAM where it has none.

    Args:
        model: Offers GroundsPhrases, or what `grad_cam` needs; in evaluation mode.
        tokenizer: The method's own.
        phrases: One image and one phrase each.
        batch_size: Phrases at a time.

    Yields:
        The image and (rows, columns) float32, the map over the rows and columns that `model.visible_crop` gives.
    """
    device = _device(model)
    tokenise = _tokenise(model, tokenizer)
    for group in _groups(phrases, batch_size):
        samples, texts = zip(*group, strict=True)
        images = stack_images(samples, [input_regions(sample, model.max_regions) for sample in samples]).to(device)
        tokens = tokenise(texts).to(device)
        if model.offers(GroundsPhrases):
            assert isinstance(model, GroundsPhrases)
            with torch.inference_mode():
                maps = model.ground(images, tokens)
        else:
            maps = grad_cam(model, images, tokens)
        yield from zip(samples, maps.float().cpu().numpy(), strict=True)


@torch.inference_mode()
def segment(
    model: Method, tokenizer: PreTrainedTokenizerFast, pairs: Iterable[tuple[Sample, str]], batch_size: int
) -> Iterator[tuple[Sample, np.ndarray]]:
    """The masks that a method predicts from an image and a text.

    Args:
        model: Offers SegmentsFromText; in evaluation mode.
        tokenizer: The method's own.
        pairs: One image and one text each.
        batch_size: Pairs at a time.

    Yields:
        The image and (image_size, image_size) float32, probability of the foreground.
    """
    assert isinstance(model, SegmentsFromText)
    device = _device(model)
    tokenise = _tokenise(model, tokenizer)
    for group in _groups(pairs, batch_size):
        samples, texts = zip(*group, strict=True)
        images = stack_images(samples, [[] for _ in samples]).to(device)
        maps = model.segment(images, tokenise(texts).to(device))
        yield from zip(samples, maps.float().cpu().numpy(), strict=True)


@torch.inference_mode()
def embed_texts(model: Method, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], batch_size: int) -> np.ndarray:
    """One vector for each text: (texts, dimensions) float32, rows of length 1."""
    assert isinstance(model, EmbedsText)
    device = _device(model)
    rows = _Rows()
    for group in _groups(texts, batch_size):
        # Anew for each batch: it keeps the tokens of texts, and each comes once.
        tokens = _tokenise(model, tokenizer)(group).to(device)
        rows.add(model.embed_text(tokens))
    return rows.all()


class _Rows:
    """Embeddings of batches, one after the other in one piece of memory.

    Kept by themselves, small arrays would lie between what the next batches need, and memory would grow by holes.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._width = 0

    def add(self, embeddings: Tensor) -> None:
        """(batch, dimensions)."""
        self._width = embeddings.shape[1]
        self._data += embeddings.float().cpu().numpy().tobytes()

    def all(self) -> np.ndarray:
        """(rows, dimensions) float32."""
        return np.frombuffer(self._data, np.float32).reshape(-1, self._width)


def _tokenise(model: Method, tokenizer: PreTrainedTokenizerFast) -> Tokenise:
    return Tokenise(tokenizer, tokenizer.model_max_length, normalises=model.normalises_text)


def _groups(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group


def _device(model: Method) -> torch.device:
    return next(model.parameters()).device

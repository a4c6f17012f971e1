"""Small shards and models."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import checkpoint
from models.data.batches import Images, Tokens
from models.data.format import ImageCaptions
from models.regionmed_clip.model import RegionMedClip
from tests import shards
from tests.shards import SmallSample, image_captions, image_meta, jpeg, png, region_caption, region_meta

ENCODERS = {
    "image_encoder": {
        "architecture": {
            "model_type": "vit",
            "image_size": 16,
            "patch_size": 4,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "hidden_dropout_prob": 0.1,
        },
        "convolutional_stem": True,
        "pooling": "mean",
    },
    "text_encoder": {
        "architecture": {
            "model_type": "bert",
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
        }
    },
    "embedding_size": 8,
}
# The entities are the terms of the small shards' captions, of one source.
MEDKLIP = {
    "width": 8,
    "layers": 2,
    "heads": 2,
    "feed_forward": 12,
    "entities": {"red": "the picture is red", "green": "green", "blue": "blue number 3"},
    "description_length": 12,
    "named": {"one": ["blue", "green", "red"]},
}
PRIOR = {"heads": 2, "prototypes": 5, "queries": 3, "decoder_layers": 1, "decoder_feed_forward": 8}
# What a method needs beside the encoders to be small, by the name of its class: a method may need a library that is not
# there (tests/models/test_bare_loop.py).
SIZES = {
    "RegionMedClip": {"heads": 2},
    "Mgca": {"hidden_size": 8, "prototypes": 5},
    "Medklip": MEDKLIP,
    "Prior": PRIOR,
}
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
ADJECTIVES = ("round", "oval", "irregular", "lobulated", "spiculated", "flat")


def teach_phrase(model: Any, images: Images, tokens: Tokens) -> None:
    """Let the phrase's embedding be what a pattern changes in an image's, on the mean over its 16 places.

    Args:
        model: A dual encoder.
        images: One for each place, and one without the pattern.
        tokens: The phrase, once an image.
    """
    with torch.no_grad():
        embeddings = model.embed_images(images)
        change = embeddings[:16].mean(dim=0) - embeddings[16]
        words = model.text_encoder(tokens)[0][0]
        model.text_projection.weight.copy_(torch.outer(change, words) / words.dot(words))


def write_shards(
    root: Path,
    count: int,
    split: str = "train",
    per_shard: int = 8,
    size: int = 16,
    *,
    with_regions: bool = True,
    sources: Sequence[str] = ("one",),
) -> Path:
    """`count` images of one colour; every fifth is unannotated, every seventh has no region, or all without regions.

    All but every sixth have a target: the half of the image that the report names; nothing in every fourth. They are
    of the sources in turn.
    """
    random = np.random.default_rng(0)
    numbers = range(count) if with_regions else range(6, 7 * count, 7)
    shards.write_shards(
        root, [_sample(number, size, sources[number % len(sources)], random) for number in numbers], split, per_shard
    )
    return root


def _sample(number: int, size: int, source: str, random: np.random.Generator) -> SmallSample:
    key, colour = f"{number:016x}", list(COLOURS)[number % 3]
    pixels = np.full((size, size, 3), COLOURS[colour], np.uint8) + random.integers(
        0, 20, (size, size, 3), dtype=np.uint8
    )
    side = "left" if number % 2 else "right"
    target = np.zeros((size, size), np.uint8)
    if number % 4:
        target[:, slice(0, size // 2) if number % 2 else slice(size // 2, size)] = 255
    region_ids = [f"{key}-{n}" for n in range(0 if number % 7 == 6 else 1 + number % 2)]
    return SmallSample(
        meta=image_meta(key, [region_meta(one) for one in region_ids], source=source, width=size, height=size),
        captions=_captions(number, colour, side, region_ids),
        image=jpeg(pixels, quality=95),
        crops=[jpeg(pixels[: size // 2, : size // 2], quality=95) for _ in region_ids],
        masks=[None for _ in region_ids],
        target=png(target) if number % 6 != 5 else None,
    )


def _captions(number: int, colour: str, side: str, region_ids: list[str]) -> ImageCaptions:
    adjective, described = ADJECTIVES[number % 6], number % 5 != 4
    negatives = tuple(f"{word} | {colour} | left upper" for word in ADJECTIVES if word != adjective)
    return image_captions(
        f"{number:016x}",
        [region_caption(region_id, adjective, colour, "left upper", negatives=negatives) for region_id in region_ids],
        status="ok" if described else "unannotated",
        summary=f"A {colour} picture." if described and number % 2 else None,
        report=f"The picture is {colour}, number {number}, {side} half." if described else None,
        basis="report" if described else None,
    )


def make_model(
    tokenizer, method: type[torch.nn.Module] = RegionMedClip, seed: int = 0, **changes: object
) -> torch.nn.Module:
    """A method of a few thousand weights, the same on each call with the same seed."""
    torch.manual_seed(seed)
    known = {field.name for field in dataclasses.fields(method.Config)}
    values = (
        {name: value for name, value in ENCODERS.items() if name in known} | SIZES.get(method.__name__, {}) | changes
    )
    return method(checkpoint.build(method.Config, values), len(tokenizer))

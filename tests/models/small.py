"""Small shards and models. The shards are written by hand in the documented format."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch
import webdataset
from PIL import Image

from models import checkpoint
from models.data.shards import keys_sha256
from models.mgca.model import Mgca
from models.regionmed_clip.model import RegionMedClip

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
# What a method needs beside the encoders to be small.
SIZES = {RegionMedClip: {"heads": 2}, Mgca: {"hidden_size": 8, "prototypes": 5}}
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
ADJECTIVES = ("round", "oval", "irregular", "lobulated", "spiculated", "flat")


def jpeg(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def png(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask).save(stream, "PNG")
    return stream.getvalue()


def write_shards(root: Path, count: int, split: str = "train", per_shard: int = 8, size: int = 16) -> Path:
    """`count` images of one colour; every fifth is unannotated, every seventh has no region.

    All but every sixth have a target: the half of the image that the report names; nothing in every fourth.
    """
    random = np.random.default_rng(0)
    keys, entries, total_regions = [], {"images": [], "captions": []}, 0
    for start in range(0, count, per_shard):
        name = f"{split}/{start // per_shard:06d}.tar"
        numbers = range(start, min(start + per_shard, count))
        for family in entries:
            (root / family / split).mkdir(parents=True, exist_ok=True)
            entries[family].append({"file": name, "samples": len(numbers)})
        with (
            webdataset.TarWriter(str(root / "images" / name), mtime=0) as images,
            webdataset.TarWriter(str(root / "captions" / name), mtime=0) as captions,
        ):
            for number in numbers:
                key, colour = f"{number:016x}", list(COLOURS)[number % 3]
                keys.append(key)
                pixels = np.full((size, size, 3), COLOURS[colour], np.uint8) + random.integers(
                    0, 20, (size, size, 3), dtype=np.uint8
                )
                side = "left" if number % 2 else "right"
                target = np.zeros((size, size), np.uint8)
                if number % 4:
                    target[:, slice(0, size // 2) if number % 2 else slice(size // 2, size)] = 255
                described, regions = number % 5 != 4, 0 if number % 7 == 6 else 1 + number % 2
                total_regions += regions
                adjective = ADJECTIVES[number % 6]
                meta = {
                    "image_id": key,
                    "regions": [
                        {"region_id": f"{key}-{n}", "role": "input", "label": None, "score": 1.0, "box": [0, 0, 1, 1]}
                        for n in range(regions)
                    ],
                }
                others = [word for word in ADJECTIVES if word != adjective]
                texts = {
                    "image_id": key,
                    "status": "ok" if described else "unannotated",
                    "summary": f"A {colour} picture." if described and number % 2 else None,
                    "report": f"The picture is {colour}, number {number}, {side} half." if described else None,
                    "basis": "report" if described else None,
                    "oracle": False,
                    "regions": [
                        {
                            "region_id": f"{key}-{n}",
                            "status": "ok",
                            "oracle": False,
                            "basis": "proposal",
                            "adjective": adjective,
                            "term": colour,
                            "position": "left upper",
                            "negatives": [f"{word} | {colour} | left upper" for word in others],
                        }
                        for n in range(regions)
                    ],
                }
                files = {f"crop{n}.jpg": jpeg(pixels[: size // 2, : size // 2]) for n in range(regions)}
                if number % 6 != 5:
                    files["target.png"] = png(target)
                images.write(
                    {"__key__": key, "image.jpg": jpeg(pixels), "meta.json": json.dumps(meta).encode(), **files}
                )
                captions.write({"__key__": key, "captions.json": json.dumps(texts).encode()})
    rows = {"images": count, "captions": count + total_regions}
    for family, shards in entries.items():
        for shard in shards:
            data = (root / family / shard["file"]).read_bytes()
            shard |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        of_split = {
            "samples": count,
            "regions": total_regions,
            "keys_sha256": keys_sha256(keys),
            "shards": shards,
        }
        manifest = {
            "family": family,
            "samples_per_shard": per_shard,
            "splits": {split: of_split},
            "tables": {family: {"sha256": "0" * 64, "rows": rows[family]}},
        }
        (root / family / "manifest.json").write_text(json.dumps(manifest))
    return root


def make_model(tokenizer, method: type[torch.nn.Module] = RegionMedClip, **changes: object) -> torch.nn.Module:
    """A method of a few thousand weights, the same on each call."""
    torch.manual_seed(0)
    values = ENCODERS | SIZES.get(method, {}) | changes
    return method(checkpoint.build(method.Config, values), len(tokenizer))

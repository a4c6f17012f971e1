"""Small real inputs: shards in the documented format, a checkpoint of `clip`, and methods with known answers."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import one_hot

from models import checkpoint
from models.clip.model import Clip
from models.data.batches import Images, Tokenise, Tokens
from models.encoders import EncoderConfig
from models.losses import info_nce
from models.text import train_tokenizer

WORDS = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "theta", "kappa"),
    *("lambda", "sigma", "omega", "quartz", "ruby", "topaz", "opal", "jade"),
)
STEP = 15


def image(number: int, word: int | None = None, **changes: Any) -> dict[str, Any]:
    """One test image: a plain grey square of level `number * STEP`, whose report names a word."""
    report = f"A finding called {WORDS[number if word is None else word]}."
    values = {
        "level": number * STEP,
        "source": "one",
        "labels": None,
        "status": "ok",
        "report": report,
        "oracle": False,
    }
    return {"key": f"{number:016x}", **values, **changes}


def write_shards(root: Path, images: list[dict[str, Any]]) -> tuple[Path, Path]:
    """Both families of the test split, one tar each, with their manifests."""
    folders = root / "images", root / "captions"
    keys = hashlib.sha256("".join(f"{one['key']}\n" for one in images).encode()).hexdigest()
    for folder, files in zip(folders, (_image_files, _caption_files), strict=True):
        tar = folder / "test" / "000000.tar"
        tar.parent.mkdir(parents=True, exist_ok=True)
        with webdataset.TarWriter(str(tar), mtime=0, encoder=False) as writer:
            for one in images:
                writer.write({"__key__": one["key"], **files(one)})
        data = tar.read_bytes()
        shard = {
            "file": "test/000000.tar",
            "samples": len(images),
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
        }
        split = {"samples": len(images), "regions": 0, "keys_sha256": keys, "shards": [shard] if images else []}
        manifest = {"family": folder.name, "samples_per_shard": 100, "splits": {"test": split}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    return folders


def _image_files(one: dict[str, Any]) -> dict[str, bytes]:
    stream = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), one["level"], np.uint8)).save(stream, "JPEG", quality=95)
    meta = {"image_id": one["key"], "source": one["source"], "split": "test", "labels": one["labels"], "regions": []}
    return {"image.jpg": stream.getvalue(), "meta.json": json.dumps(meta).encode()}


def _caption_files(one: dict[str, Any]) -> dict[str, bytes]:
    captions = {name: one[name] for name in ("status", "report", "oracle")}
    return {"captions.json": json.dumps({"image_id": one["key"], "summary": None, "regions": [], **captions}).encode()}


def tokenizer_of(texts: list[str]) -> Any:
    tokenizer = train_tokenizer([text for text in texts for _ in range(3)], 400)
    tokenizer.model_max_length = 32
    return tokenizer


class Matcher(nn.Module):
    """Knows which word belongs to which grey level: image and text embeddings are one-hot vectors of the number.

    A text with "no" in it points the other way.
    """

    max_regions = 0

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        vocabulary = tokenizer.get_vocab()
        self.words = {vocabulary[word]: number for number, word in enumerate(WORDS) if word in vocabulary}
        self.negation = vocabulary.get("no")

    def embed_images(self, images: Images) -> Tensor:
        level = (images.pixels.mean(dim=(1, 2, 3)) + 1) * 127.5
        return one_hot((level / STEP).round().long(), len(WORDS) + 2).float()

    def embed_text(self, tokens: Tokens) -> Tensor:
        rows = []
        for ids in tokens.ids.tolist():
            number = next((self.words[token] for token in ids if token in self.words), len(WORDS) + 1)
            sign = -1.0 if self.negation in ids else 1.0
            rows.append(sign * one_hot(torch.tensor(number), len(WORDS) + 2).float())
        return torch.stack(rows)


class Collapsed(nn.Module):
    """Gives every input the same embedding, NaN where asked for."""

    max_regions = 0

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.value = value

    def embed_images(self, images: Images) -> Tensor:
        return torch.full((len(images.pixels), 1), self.value)

    def embed_text(self, tokens: Tokens) -> Tensor:
        return torch.full((len(tokens.ids), 1), self.value)


class ImagesOnly(nn.Module):
    """Cannot read text."""

    def embed_images(self, images: Images) -> Tensor:
        return torch.ones(len(images.pixels), 1)


def _train(model: Clip, tokenizer: Any, steps: int) -> None:
    numbers = torch.arange(len(WORDS))
    pixels = (numbers * STEP / 127.5 - 1).reshape(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    images = Images(pixels, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    tokens = Tokenise(tokenizer, 32)([image(int(number))["report"] for number in numbers])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(steps):
        optimizer.zero_grad()
        info_nce(model.embed_images(images), model.embed_text(tokens), 0.07).backward()
        optimizer.step()
    model.eval()


def save_clip(folder: Path, seed: int, steps: int = 0) -> Path:
    """A real checkpoint of `clip`, trained for some steps on the images of `image`; its curve has three points."""
    tokenizer = tokenizer_of([image(number)["report"] for number in range(len(WORDS))])
    vision = {
        "model_type": "vit",
        "image_size": 16,
        "patch_size": 8,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    text = {
        "model_type": "bert",
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": 32,
    }
    torch.manual_seed(seed)
    encoders = {
        "image_encoder": EncoderConfig(architecture=vision, pooling="mean"),
        "text_encoder": EncoderConfig(architecture=text, pooling="mean"),
    }
    config = Clip.Config(**encoders, embedding_size=8)
    model = Clip(config, len(tokenizer))
    _train(model, tokenizer, steps)
    points = [
        {"step": step, "phase": "warm-up", "loss": 3.0 / step, "terms": {"report": 3.0 / step}, "lr": 0.001}
        for step in (1, 2, 3)
    ]
    curve = {"method": "clip", "steps": points, "phases": ["warm-up"], "parameters": 1, "samples_seen": 48}
    folder.mkdir(parents=True)
    checkpoint.save(folder, "clip", model, model.state_dict(), tokenizer, curve)
    return folder

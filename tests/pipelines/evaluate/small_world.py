"""Small real inputs: shards in the documented format, a checkpoint of `clip`, and methods with known answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, one_hot

from models import checkpoint
from models.clip.model import Clip
from models.data.batches import Images, Tokenise, Tokens
from models.data.format import ImageQuestion, RegionCaption
from models.encoders import EncoderConfig
from models.losses import info_nce
from models.method import Method
from models.text import train_tokenizer
from pipelines.config import parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.stage import evaluate
from tests import shards
from tests.shards import INPUT_FORMAT, SmallSample, image_captions, image_meta, jpeg, png, region_caption, region_meta

WORDS = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "theta", "kappa"),
    *("lambda", "sigma", "omega", "quartz", "ruby", "topaz", "opal", "jade"),
)
STEP = 15
SIDE = 16


def image(number: int, word: int | None = None, **changes: Any) -> dict[str, Any]:
    """One test image: a grey square of level `number * STEP` with its regions in it, whose report names a word.

    `target` is None or boxes, which are painted white; `look_alikes` are boxes, which are not painted; `questions` are
    (question, answer, type) and, where there is one, the published split; `group` is the key unless it is given.
    """
    report = f"A finding called {WORDS[number if word is None else word]}."
    values = {
        "level": number * STEP,
        "source": "one",
        "labels": None,
        "status": "ok",
        "report": report,
        "oracle": False,
        "other_reports": (),
        "size": (SIDE, SIDE),
        "regions": [],
        "target": None,
        "view": None,
        "sides": None,
        "split": "test",
        "modality": "other",
        "attributes": {},
        "look_alikes": [],
        "group": None,
        "questions": [],
    }
    return {"key": f"{number:016x}", **values, **changes}


def region(number: int, box: tuple[int, int, int, int] = (0, 0, 4, 4), **changes: Any) -> dict[str, Any]:
    """An annotated region: a square of level `number * STEP` whose adjective is a word; its negatives the next five."""
    negatives = [f"{WORDS[(number + step) % len(WORDS)]} | spot | left upper" for step in range(1, 6)]
    values = {
        "level": number * STEP,
        "box": box,
        "role": "truth",
        "label": None,
        "mask": True,
        "status": "ok",
        "adjective": WORDS[number],
        "term": "spot",
        "position": "left upper",
        "negatives": negatives,
        "oracle": True,
        "phrase": None,
        "basis": "annotation",
    }
    return {**values, **changes}


def write_shards(root: Path, images: list[dict[str, Any]]) -> tuple[Path, Path]:
    """Both families, a tar for each split, with their manifests; a split without images has no tar."""
    ordered = sorted(images, key=lambda one: ("train", "validation", "test").index(one["split"]))
    return shards.write_shards(root, [_sample(one) for one in ordered], None, per_shard=100)


def task_result(
    folder: Path, images: list[dict[str, Any]], task: str, options: dict[str, Any], model: Any, tokenizer: Any
) -> dict[str, Any]:
    """What metrics.json says of one task on the test split; shards and results lie in `shards` and `out`."""
    values = {"tasks": {task: options}, "batch_size": 4, "bootstrap": {"samples": 50, "seed": 0}}
    config = parse(EvaluateConfig, values, "here")
    families = write_shards(folder / "shards", images)
    evaluate(config, "probe", model, tokenizer, "0" * 64, *families, folder / "out", folder / "sum")
    found: dict[str, Any] = json.loads((folder / "out" / "metrics.json").read_text())["tasks"][task]
    return found


def _sample(one: dict[str, Any]) -> SmallSample:
    pixels, target = np.full((SIDE, SIDE), one["level"], np.uint8), None
    if one["target"] is not None:
        target = np.zeros((SIDE, SIDE), np.uint8)
        for box in one["target"]:
            target |= _filled(box)
        pixels = np.maximum(pixels, target)
    for found in one["regions"]:
        pixels[_filled(found["box"]) > 0] = found["level"]
    regions = list(enumerate(one["regions"]))
    width, height = one["size"]
    known = {name: one[name] for name in ("source", "view", "sides", "split", "modality", "attributes")}
    return SmallSample(
        meta=image_meta(
            one["key"],
            [
                region_meta(
                    f"{one['key']}-{number}",
                    found["role"],
                    box=tuple(edge / SIDE for edge in found["box"]),
                    label=found["label"],
                )
                for number, found in regions
            ],
            labels=None if one["labels"] is None else tuple(one["labels"]),
            width=width,
            height=height,
            group=one["group"] or one["key"],
            **known,
        ),
        captions=image_captions(
            one["key"],
            [_region_caption(f"{one['key']}-{number}", found) for number, found in regions],
            questions=_questions(one),
            **{name: one[name] for name in ("status", "report", "oracle", "other_reports")},
        ),
        image=_jpeg(pixels),
        crops=[_jpeg(np.full((8, 8), found["level"], np.uint8)) for found in one["regions"]],
        masks=[png(_filled(found["box"])) if found["mask"] else None for found in one["regions"]],
        target=None if target is None else png(target),
        look_alikes=[png(_filled(box)) for box in one["look_alikes"]],
    )


def _questions(one: dict[str, Any]) -> tuple[ImageQuestion, ...]:
    names = ("question", "answer", "answer_type", "published_split")
    return tuple(
        ImageQuestion(question_id=f"{one['key']}-{number}", **dict(zip(names, asked, strict=False)))
        for number, asked in enumerate(one["questions"])
    )


def _filled(box: tuple[int, int, int, int]) -> np.ndarray:
    x0, y0, x1, y1 = box
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[y0:y1, x0:x1] = 255
    return mask


def _jpeg(pixels: np.ndarray) -> bytes:
    # No loss but rounding where the boxes' edges are multiples of 8; elsewhere a few levels.
    return jpeg(np.repeat(pixels[..., None], 3, axis=2), quality=100, subsampling=0)


def _region_caption(region_id: str, found: dict[str, Any]) -> RegionCaption:
    words = (found[name] for name in ("adjective", "term", "position"))
    rest = {name: found[name] for name in ("status", "oracle", "phrase", "basis")}
    return region_caption(region_id, *words, negatives=tuple(found["negatives"] or ()), **rest)


def tokenizer_of(texts: list[str]) -> Any:
    tokenizer = train_tokenizer([text for text in texts for _ in range(3)], 400)
    tokenizer.model_max_length = 32
    return tokenizer


class Matcher(Method):
    """Knows which word belongs to which grey level: embeddings of images, crops and texts are one-hot vectors of it.

    A text with "no" in it points the other way.
    """

    max_regions = 0
    normalises_text = True

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        vocabulary = tokenizer.get_vocab()
        self.words = {vocabulary[word]: number for number, word in enumerate(WORDS) if word in vocabulary}
        self.negation = vocabulary.get("no")

    def embed_images(self, images: Images) -> Tensor:
        return self._embed(images.pixels)

    def embed_regions(self, images: Images) -> Tensor:
        return self._embed(images.crops)

    def _embed(self, pixels: Tensor) -> Tensor:
        return one_hot((levels(pixels).mean(dim=(1, 2)) / STEP).round().long(), len(WORDS) + 2).float()

    def embed_text(self, tokens: Tokens) -> Tensor:
        rows = []
        for ids in tokens.ids.tolist():
            number = next((self.words[token] for token in ids if token in self.words), len(WORDS) + 1)
            sign = -1.0 if self.negation in ids else 1.0
            rows.append(sign * one_hot(torch.tensor(number), len(WORDS) + 2).float())
        return torch.stack(rows)


def levels(pixels: Tensor) -> Tensor:
    """(batch, 3, height, width), -1 to 1 -> (batch, height, width), 0 to 255."""
    return pixels.float().mean(dim=1)


class Grounder(Matcher):
    """Its map of a word is `sign` where the image has the word's grey level, the mean of 4 x 4 pixels each."""

    def __init__(self, tokenizer: Any, sign: float = 1.0) -> None:
        super().__init__(tokenizer)
        self.sign = sign

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        wanted = self.embed_text(tokens).argmax(dim=-1) * STEP
        near = ((levels(images.pixels) - wanted[:, None, None]).abs() < STEP / 2).float()
        return self.sign * avg_pool2d(near, 4)


class Collapsed(Method):
    """Gives every input the same embedding and map, NaN where asked for."""

    max_regions = 0
    normalises_text = True

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.value = value

    def embed_images(self, images: Images) -> Tensor:
        return torch.full((len(images.pixels), 1), self.value)

    def embed_regions(self, images: Images) -> Tensor:
        return torch.full((len(images.crops), 1), self.value)

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        return torch.full((len(images.pixels), 4, 4), self.value)

    def embed_text(self, tokens: Tokens) -> Tensor:
        return torch.full((len(tokens.ids), 1), self.value)


class ImagesOnly(Method):
    """Cannot read text."""

    def embed_images(self, images: Images) -> Tensor:
        return torch.ones(len(images.pixels), 1)


def _train(model: Clip, tokenizer: Any, steps: int) -> None:
    numbers = torch.arange(len(WORDS))
    pixels = (numbers * STEP).reshape(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    images = Images(pixels, torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    tokens = Tokenise(tokenizer, 32)([image(int(number))["report"] for number in numbers])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(steps):
        optimizer.zero_grad()
        info_nce(model.embed_images(images), model.embed_text(tokens), 0.07).backward()
        optimizer.step()
    model.eval()


def save_clip(folder: Path, seed: int, steps: int = 0) -> Path:
    """A real checkpoint of `clip`, trained for some steps on the images of `image`; its curve has four points."""
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
    curve["validation"] = [{"step": 3, "phase": "warm-up", "loss": 1.5, "terms": {"report": 1.5}}]
    folder.mkdir(parents=True)
    checkpoint.save(folder, "clip", model, model.state_dict(), tokenizer, curve, INPUT_FORMAT)
    return folder

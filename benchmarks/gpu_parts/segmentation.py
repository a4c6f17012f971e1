"""Part 2: QaTa-COV19 at 224 pixels, methods trained from scratch for the length of a time box."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_parts import packed
from gpu_parts.context import Context, Measures
from gpu_parts.pretraining import gradients, seconds_per_call, tokenizer_of
from gpu_parts.random_shards import png, random_jpeg, write_once
from models import checkpoint, inference
from models.data.batches import Tokenise
from models.data.shards import ShardSet
from models.method import Method
from models.reclmis.model import RecLMIS
from models.segmentation.batches import training_text
from models.tmca.model import Tmca
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import SamplingPlan
from models.training.loop import fit
from models.training.prepare import prepare
from models.training.state import SavedState
from models.unet.model import UNet

METHODS: dict[str, type[Method]] = {"unet": UNet, "reclmis": RecLMIS, "tmca": Tmca}
# Papers 003 (per image) and 002 (pooled), as benchmarks/results/README.md has them.
PAPERS = {
    "unet": {"dice_per_image": 0.790, "dice_pooled": 0.830},
    "reclmis": {"dice_per_image": 0.852},
    "tmca": {"dice_pooled": 0.909},
}
DIFFERS = (
    "the papers have all 2113 test images, 100 to 200 epochs, pretrained encoders of text (and of images in 002), "
    "augmentation and images that were compressed once less"
)
# Seconds of a time box that are not for training: start, loader processes, the test images.
RESERVED = 28
MAX_LENGTH = 96


class OutOfTime(Exception):
    """The time for training is over; the model keeps the weights of the last step."""


def measure(context: Context, name: str) -> Measures:
    """Train until the time is used up, then segment the test images with their own texts."""
    train = _shards(context)
    test = dataclasses.replace(train, split="test")
    tokenizer = tokenizer_of(train, 100 if context.small else 1000)
    tokenizer.model_max_length = MAX_LENGTH
    method = METHODS[name]
    torch.manual_seed(0)
    model = method(checkpoint.build(method.Config, _config(context, name)), len(tokenizer)).to(context.device).train()
    collate = model.collate(Tokenise(tokenizer, MAX_LENGTH, normalises=model.normalises_text), None, 0)
    plan = SamplingPlan(shards=train, usable=np.ones(len(train), dtype=bool), seed=0, buffer=8192)
    phase = Phase(
        epochs=1,
        batch_size=4 if context.small else 32,
        learning_rate=3e-4,
        losses=model.losses,
        schedule="cosine",
        warmup_steps=2 if context.small else 50,
    )
    steps = plan.steps(phase.batch_size)
    engine = EngineConfig(
        precision="bfloat16", loader_workers=context.loader_workers, checkpoint_every=max(1, steps // 4)
    )
    config = TrainingConfig(phases={"all": phase}, weight_decay=1e-4, gradient_clip=1.0)
    prepare(model, config, engine)
    batch = collate([train.sample(number) for number in range(phase.batch_size)], None).to(context.device)
    pace = seconds_per_call(lambda: gradients(model, batch, phase), 2 if context.small else 10, context)
    # The optimiser, and what the loader cannot keep up with, come on top of forward and backward pass.
    epochs = 2 if context.small else max(1, int((context.seconds_left() - RESERVED) / (1.25 * pace * steps)))
    config = dataclasses.replace(config, phases={"all": dataclasses.replace(phase, epochs=epochs)})
    context.reset_peak_memory()
    began, done = time.perf_counter(), 0

    def save(state: SavedState) -> None:
        nonlocal done
        done = state["position"][3]
        if not context.small and context.seconds_left() < RESERVED / 2:
            raise OutOfTime

    with contextlib.suppress(OutOfTime):
        fit(model, plan, collate, config, engine, device=context.device, saved=None, save=save)
    seconds = time.perf_counter() - began
    setting = f"bfloat16, batch {phase.batch_size}, cosine over {epochs} epochs"
    yield setting, "epochs_reached", done / steps, ""
    yield setting, "training_time", seconds, "s"
    yield setting, "training_images", len(train), ""
    yield from ((*row[:1], f"training_{row[1]}", *row[2:]) for row in context.peak_memory())
    yield from _scores(model, tokenizer, test, name)


def dice(counts: np.ndarray) -> tuple[float, float]:
    """Mean over images, and of all pixels together; 1 where prediction and target are empty.

    Args:
        counts: (images, 3), pixels of the prediction, of the target, and of both.
    """
    return float(_dice(counts).mean()), float(_dice(counts.sum(axis=0)))


def _dice(counts: np.ndarray) -> np.ndarray:
    total = counts[..., 0] + counts[..., 1]
    return np.where(total > 0, 2 * counts[..., 2] / np.maximum(total, 1), 1.0)


def _scores(model: Method, tokenizer: Any, test: ShardSet, name: str) -> Measures:
    pairs = ((sample, training_text(sample)) for sample in test.samples())
    counts = []
    for sample, probability in inference.segment(model.eval(), tokenizer, pairs, 64):
        predicted, target = probability > 0.5, sample.target
        counts.append((predicted.sum(), target.sum(), (predicted & target).sum()))
    setting = f"{len(counts)} test images, own text"
    for measure, value in zip(("dice_per_image", "dice_pooled"), dice(np.array(counts)), strict=True):
        yield setting, measure, value, ""
        if measure in PAPERS[name]:
            yield DIFFERS, f"{measure}_of_the_paper", PAPERS[name][measure], ""


def _shards(context: Context) -> ShardSet:
    if context.small:
        return write_once(context.work / "qata", lambda: packed.members(small_samples(64), 64), 64, *packed.SPLITS)
    path: Path = context.qata  # type: ignore[assignment]  # gpu.py runs no item whose file is missing
    side, samples = packed.read(path)
    return write_once(context.work / "qata", lambda: packed.members(samples, side), side, *packed.SPLITS)


def small_samples(side: int) -> Iterator[packed.PackedSample]:
    """Eight training images and four test images; the finding is the half that the text names."""
    for number in range(12):
        mask = np.zeros((side, side), dtype=bool)
        half = "left" if number % 2 else "right"
        mask[:, : side // 2] = number % 2
        mask[:, side // 2 :] = not number % 2
        yield packed.PackedSample(
            key=f"image{number}",
            split="train" if number < 8 else "test",
            group=f"patient{number}",
            text=f"Unilateral pulmonary infection, one infected area, {half} lung.",
            image=random_jpeg(np.random.default_rng(number), side),
            mask=png(mask),
        )


def _config(context: Context, name: str) -> dict[str, Any]:
    small = context.small
    width, layers = (16, 1) if small else (256, 4)
    text = {
        "architecture": {
            "model_type": "bert",
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "intermediate_size": 4 * width,
            "max_position_embeddings": 128,
        }
    }
    base = {"base": 4 if small else 64}
    # Without settings of its own, transformers' ConvNeXt is the tiny one of the paper.
    sizes = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]} if small else {}
    image = {"architecture": {"model_type": "convnext", **sizes}}
    return {
        "unet": base,
        "reclmis": base | {"grid": 4 if small else 14, "text_encoder": text},
        # The paper's weight of 1 is worse on validation images (benchmarks/results/segmentation.md).
        "tmca": {"image_encoder": image, "text_encoder": text, "contrastive_weight": 0.1},
    }[name]

"""Part 1: the bare loop at the papers' sizes in bfloat16, from shards of random images and texts."""

import dataclasses
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedTokenizerFast

from gpu_parts.context import Context, Measures, device_name, peak_tflops
from gpu_parts.random_shards import random_shards
from models import checkpoint
from models.clip.model import Clip
from models.data.batches import Tokenise
from models.data.shards import ShardSet
from models.method import CollateFunction, Encoder, Method
from models.plan.model import Plan
from models.regionmed_clip.model import RegionMedClip
from models.text import normalise, train_tokenizer
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import SamplingPlan
from models.training.loop import fit
from models.training.prepare import prepare

METHODS: dict[str, tuple[type[Method], tuple[str, ...]]] = {
    "clip": (Clip, ("report",)),
    "regionmed_clip": (RegionMedClip, ("report", "region", "negatives")),
    "plan": (Plan, ("report", "local")),
}
# ViT-B/16 and BERT-base (PubMedBERT's shape) are the defaults of transformers, and so is ResNet-50.
VIT = {"model_type": "vit", "image_size": 224, "patch_size": 16}
BERT = {"model_type": "bert"}
RESNET = {"model_type": "resnet"}
VOCABULARY = 30522
MAX_LENGTH = 128
SMALL_LAYERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SMALL_VIT = {"model_type": "vit", "image_size": 32, "patch_size": 8, **SMALL_LAYERS}
SMALL_BERT = {"model_type": "bert", **SMALL_LAYERS}
SMALL_RESNET = {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1]}
NEVER = 10**9


def measure(context: Context, name: str, *, compiled: bool) -> Measures:
    """Train one method for some seconds; steps before these are left out."""
    method, losses = METHODS[name]
    shards, batch_size = _shards(context), 4 if context.small else 64
    tokenizer = tokenizer_of(shards, 200 if context.small else 2000)
    torch.manual_seed(0)
    model = method(_config(context, name, method), _vocabulary(context, tokenizer)).to(context.device).train()
    collate = model.collate(Tokenise(tokenizer, MAX_LENGTH, normalises=model.normalises_text), None, 0)
    plan = SamplingPlan(shards=shards, usable=np.ones(len(shards), dtype=bool), seed=0, buffer=2048)
    engine = EngineConfig(precision="bfloat16", num_workers=1, checkpoint_every=NEVER)
    phase = Phase(epochs=1, batch_size=batch_size, learning_rate=1e-4, losses=losses)
    flops = _flops(model, plan, collate, phase, engine, context) / batch_size
    if compiled:
        compile_encoders(model, "eager" if context.small else "inductor")
    warm_up = dataclasses.replace(plan, usable=np.arange(len(shards)) < (2 if context.small else 8) * batch_size)
    _fit(model, warm_up, collate, phase, engine, context)
    batch = _batch(plan, collate, phase, context)
    pace = batch_size / seconds_per_call(lambda: gradients(model, batch, phase), 1 if context.small else 5, context)
    # Processes that decode start within about 10 s; no more than 8 s of steps are needed.
    seconds = 0.0 if context.small else max(2.0, min(8.0, context.seconds_left() - 14))
    epochs = max(1, round(seconds * pace / (plan.steps(batch_size) * batch_size)))
    workers = 1 if context.small and name == "clip" and not compiled else context.loader_workers
    engine = dataclasses.replace(engine, loader_workers=workers)
    context.reset_peak_memory()
    speed = _fit(model, plan, collate, dataclasses.replace(phase, epochs=epochs), engine, context)
    rate, peak = speed["samples_per_second"], peak_tflops(device_name(context.device))
    setting = f"bfloat16, batch {batch_size}, {'compiled' if compiled else 'eager'}, {workers} loader processes"
    yield setting, "samples_per_second", rate, "1/s"
    yield setting, "model_flops", flops / 1e9, "GFLOP/sample"
    yield setting, "achieved", rate * flops / 1e12, "TFLOP/s"
    if peak is not None:
        yield f"{setting}, peak {peak:.0f} TFLOP/s", "peak_fraction", rate * flops / (peak * 1e12), ""
    yield setting, "data_wait_fraction", speed["data_wait_fraction"], ""
    yield setting, "steps", epochs * plan.steps(batch_size) - 1, ""
    yield from context.peak_memory()


def measure_matmul(context: Context) -> Measures:
    """What a large product of random bfloat16 matrices reaches: the ceiling in practice."""
    size, repeats = (64, 2) if context.small else (8192, 20)
    left, right = (torch.randn(size, size, device=context.device, dtype=torch.bfloat16) for _ in range(2))
    seconds = seconds_per_call(lambda: left @ right, repeats, context)
    yield f"bfloat16, {size} x {size} x {size}", "achieved", 2 * size**3 / seconds / 1e12, "TFLOP/s"


def seconds_per_call(function: Any, repeats: int, context: Context) -> float:
    """Mean over `repeats` calls, after two that are left out."""
    for _ in range(2):
        function()
    context.synchronise()
    start = context.seconds_left()
    for _ in range(repeats):
        function()
    context.synchronise()
    return (start - context.seconds_left()) / repeats


def tokenizer_of(shards: ShardSet, vocabulary: int) -> PreTrainedTokenizerFast:
    """Trained on the reports of a split."""
    reports = (sample.captions.report or "" for sample in shards.samples(with_image=False))
    return train_tokenizer({normalise(report) for report in reports}, vocabulary)


def compile_encoders(model: Method, backend: str) -> None:
    """What `EngineConfig.compile` does, with a choice of the backend: the small run traces and generates no code."""
    for part in model.modules():
        if part is not model and isinstance(part, Encoder):
            part.backbone.compile(backend=backend)  # type: ignore[attr-defined]


def _shards(context: Context) -> ShardSet:
    if context.small:
        return random_shards(context.work / "random", 16, 32, 8)
    return random_shards(context.work / "random", 512, 224, 90)


def _config(context: Context, name: str, method: type[Method]) -> Any:
    vit, bert, resnet = (SMALL_VIT, SMALL_BERT, SMALL_RESNET) if context.small else (VIT, BERT, RESNET)
    values: dict[str, Any] = {
        "image_encoder": {"architecture": resnet if name == "plan" else vit},
        "text_encoder": {"architecture": bert},
        "embedding_size": 16 if context.small else 512,
    }
    return checkpoint.build(method.Config, values)


def _vocabulary(context: Context, tokenizer: PreTrainedTokenizerFast) -> int:
    return len(tokenizer) if context.small else VOCABULARY


def gradients(model: Method, batch: Any, phase: Phase) -> None:
    """The forward and the backward pass of one batch."""
    model.zero_grad(set_to_none=True)
    torch.stack(list(model(batch, phase.losses).values())).sum().backward()


def _batch(plan: SamplingPlan, collate: CollateFunction, phase: Phase, context: Context) -> Any:
    samples = [plan.shards.sample(number) for number in next(plan.batches(0, phase.batch_size))]
    return collate(samples, None).to(context.device)


def _flops(
    model: Method, plan: SamplingPlan, collate: CollateFunction, phase: Phase, engine: EngineConfig, context: Context
) -> int:
    """Of the forward and backward pass of a batch."""
    prepare(model, TrainingConfig(phases={"all": phase}), engine)
    batch = _batch(plan, collate, phase, context)
    with FlopCounterMode(display=False) as counter:
        gradients(model, batch, phase)
    return counter.get_total_flops()


def _fit(
    model: Method, plan: SamplingPlan, collate: CollateFunction, phase: Phase, engine: EngineConfig, context: Context
) -> dict[str, Any]:
    config = TrainingConfig(phases={"all": phase})
    state = fit(model, plan, collate, config, engine, device=context.device, saved=None, save=lambda _: None)
    speed: dict[str, Any] = state["throughput"]
    return speed

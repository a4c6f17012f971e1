"""Part 5: the published weights that hosts without a GPU use, LiteMedSAM and DINOv2-S, as `make weights` makes them.

Beside the rates stands what half precision costs, which random weights cannot tell: the cosine between the answer in
float32 and the one under autocast. benchmarks/pack_weights.py packs the weights.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import Dinov2Config, Dinov2Model, SamModel

from gpu_parts.context import Context, Measures
from gpu_parts.proposals import BOXES, SMALL_LAYERS, TYPES, random_boxes, rates, sam_config
from models.lite_medsam import WEIGHTS, empty_model, load_weights
from models.tiny_vit import SIDE, fold

NAMES = ("lite_medsam", "dinov2_small")
# Images whose answers are compared.
COMPARED = 4


def lite_medsam(context: Context) -> Measures:
    """Images of 256 pixels with eight boxes each."""
    side = 64 if context.small else SIDE
    if context.small:
        # A small SAM with a convolution for TinyViT, whose sizes are fixed: a CPU takes a minute for one image of it.
        model: Any = SamModel(sam_config(small=True)).eval()
        model.vision_encoder = torch.nn.Conv2d(3, 32, 16, stride=16)
    else:
        model = empty_model().eval()
        load_weights(model, _folder(context, "lite_medsam") / WEIGHTS)
        # As the segmenter has it.
        fold(model.vision_encoder)
        model.vision_encoder.to(memory_format=torch.channels_last)
    model.to(context.device)

    def answer(batch: int) -> Callable[[], Tensor]:
        pixels = torch.rand(batch, 3, side, side, device=context.device)
        boxes = random_boxes(batch, side, context)

        def call() -> Tensor:
            features = model.vision_encoder(pixels)
            masks: Tensor = model(image_embeddings=features, input_boxes=boxes, multimask_output=False).pred_masks
            return masks

        return call

    yield from _measure(context, answer, f"{side} pixels, {BOXES} boxes")


def dinov2_small(context: Context) -> Measures:
    """Images of 224 pixels, 16 x 16 patches."""
    side = 28 if context.small else 224
    model: Any
    if context.small:
        model = Dinov2Model(Dinov2Config(image_size=side, patch_size=14, **SMALL_LAYERS))
    else:
        # In float32 as in training: autocast lowers what can be lowered.
        folder = _folder(context, "dinov2_small")
        model = Dinov2Model.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    model.eval().to(context.device)

    def answer(batch: int) -> Callable[[], Tensor]:
        pixels = torch.randn(batch, 3, side, side, device=context.device)

        def call() -> Tensor:
            features: Tensor = model(pixel_values=pixels).last_hidden_state
            return features

        return call

    yield from _measure(context, answer, f"{side} pixels")


def _measure(context: Context, answer: Callable[[int], Callable[[], Tensor]], size: str) -> Measures:
    yield from rates(context, answer, size)
    yield from _agreement(context, answer(COMPARED), f"{COMPARED} images of noise, {size}")


@torch.inference_mode()
def _agreement(context: Context, answer: Callable[[], Tensor], images: str) -> Measures:
    """The least cosine over some images between the answer in float32 and the one in each type."""
    exact = answer().flatten(1)
    for dtype in TYPES:
        with torch.autocast(context.device.type, dtype=dtype):
            lowered = answer().float().flatten(1)
        setting = f"{str(dtype).removeprefix('torch.')} autocast, {images}"
        yield setting, "least_cosine_with_float32", float(cosine_similarity(exact, lowered).min()), ""


def _folder(context: Context, name: str) -> Path:
    folder: Path = context.weights / name  # type: ignore[operator]  # gpu.py runs no item whose file is missing
    return folder

"""Part 3: the models behind the proposals, Grounding DINO (Swin-T) and MedSAM (ViT-B), with random weights."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    SamConfig,
    SamModel,
    SamVisionConfig,
)

from gpu_parts.context import Context, Measures
from gpu_parts.pretraining import seconds_per_call

BATCHES = (1, 4, 16)
TYPES = (torch.bfloat16, torch.float16)
# Boxes for each image, as MedSAM is asked for.
BOXES = 8
TOKENS = 32
SMALL_LAYERS = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def grounding_dino(context: Context) -> Measures:
    """Images of 800 pixels, a text of 32 tokens; transformers' default configuration is Swin-T's."""
    side = 64 if context.small else 800
    model = GroundingDinoForObjectDetection(_dino_config(context.small)).to(context.device).eval()

    def call(batch: int) -> Callable[[], object]:
        pixels = torch.randn(batch, 3, side, side, device=context.device)
        ids = torch.randint(1000, 1100, (batch, TOKENS), device=context.device)
        # [CLS], the end of a phrase and [SEP] bound what attends to what.
        ids[:, 0], ids[:, -2], ids[:, -1] = 101, 1012, 102
        return lambda: model(pixel_values=pixels, input_ids=ids, attention_mask=torch.ones_like(ids))

    yield from rates(context, call, f"{side} pixels, {TOKENS} tokens")


def medsam(context: Context) -> Measures:
    """Images of 1024 pixels with eight boxes each; SAM's default configuration is ViT-B's."""
    side = 64 if context.small else 1024
    model = SamModel(sam_config(small=context.small)).to(context.device).eval()

    def call(batch: int) -> Callable[[], object]:
        pixels = torch.randn(batch, 3, side, side, device=context.device)
        boxes = random_boxes(batch, side, context)
        return lambda: model(pixel_values=pixels, input_boxes=boxes, multimask_output=False)

    yield from rates(context, call, f"{side} pixels, {BOXES} boxes")


def random_boxes(batch: int, side: int, context: Context) -> Tensor:
    """Squares of a quarter of the side, (batch, BOXES, 4) in pixels."""
    corners = torch.rand(batch, BOXES, 2, device=context.device) * side / 2
    return torch.cat([corners, corners + side / 4], dim=-1)


@torch.inference_mode()
def rates(context: Context, call: Callable[[int], Callable[[], object]], size: str) -> Measures:
    """Images per second and memory for each type and batch, as far as the time goes."""
    for dtype in TYPES:
        for batch in BATCHES[:2] if context.small else BATCHES:
            if context.seconds_left() < 4:
                return
            function = call(batch)
            context.reset_peak_memory()
            with torch.autocast(context.device.type, dtype=dtype):
                seconds = seconds_per_call(function, 1 if context.small else 5, context)
            setting = f"{str(dtype).removeprefix('torch.')} autocast, batch {batch}, {size}"
            yield setting, "images_per_second", batch / seconds, "1/s"
            yield from ((setting, *row[1:]) for row in context.peak_memory())


def _dino_config(small: bool) -> GroundingDinoConfig:
    if not small:
        return GroundingDinoConfig()
    swin = AutoConfig.for_model(
        "swin", embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=2, out_indices=[2, 3, 4]
    )
    text = AutoConfig.for_model("bert", vocab_size=1200, **SMALL_LAYERS)
    return GroundingDinoConfig(
        backbone_config=swin,
        text_config=text,
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=5,
    )


def sam_config(*, small: bool) -> SamConfig:
    """SAM with ViT-B, or the smallest that answers squares of 64 pixels."""
    if not small:
        return SamConfig()
    vision = SamVisionConfig(
        hidden_size=32,
        output_channels=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        window_size=2,
        global_attn_indexes=[0],
        num_pos_feats=16,
    )
    decoder = {
        "hidden_size": 32,
        "mlp_dim": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    }
    prompts = {"hidden_size": 32, "image_size": 64, "patch_size": 16}
    return SamConfig(vision_config=vision.to_dict(), prompt_encoder_config=prompts, mask_decoder_config=decoder)

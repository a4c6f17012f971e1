"""LiteMedSAM (Ma et al., "Segment Anything in Medical Images", Nature Communications 15, 2024): a TinyViT that learnt
MedSAM's features, with SAM's prompt encoder and mask decoder from `transformers`; and how its weights are kept.

It stands here, and not beside the segmenter that asks it, for hosts that have none of the pipeline's packages.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import SamConfig, SamModel

from models.tiny_vit import SIDE, TinyViT

WEIGHTS = "model.safetensors"
# Two names of one tensor.
_POSITIONS = "shared_image_embedding.positional_embedding"
_SAME = "prompt_encoder.shared_embedding.positional_embedding"
# Of its side: the decoder's positions are 64 x 64.
_PATCH = 4


def empty_model() -> Any:
    """SAM with TinyViT in the place of its vision encoder, its weights not loaded."""
    shape = {"image_size": SIDE, "patch_size": _PATCH}
    # Of the vision encoder nothing stays but the shape of its answer.
    vision = {**shape, "num_hidden_layers": 0, "hidden_size": 4, "global_attn_indexes": []}
    model: Any = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=shape))
    model.vision_encoder = TinyViT()
    return model


def save_weights(model: Any, file: Path) -> None:
    """Write the weights of such a model; the same bytes for the same weights."""
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name != _SAME}
    save_file(weights, file, metadata={"format": "pt"})


def load_weights(model: Any, file: Path) -> None:
    """Read what `save_weights` wrote.

    Raises:
        RuntimeError: Weights are missing, are left over, or have another shape.
    """
    model.load_state_dict(complete(load_file(file)))


def complete(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with the second name of the tensor that has two."""
    return {**weights, **({_SAME: weights[_POSITIONS]} if _POSITIONS in weights else {})}

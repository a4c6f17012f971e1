"""Checkpoints with the real architectures and random weights, built in seconds and read like downloaded ones."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertTokenizer,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Sam2Config,
    Sam2Model,
    Sam3VideoConfig,
    Sam3VideoModel,
    SamConfig,
    SamModel,
    SwinConfig,
)

WORDS = ("polyp", "mass", "nodule", "pleural", "effusion", "opacity", "lesion", "round", "with", "of", "the", "co", "-")
# Of CLIP's kind, for the tokenizer below.
CLIP_TEXT = {"vocab_size": 400, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SAM_DECODER = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


def grounding_dino(folder: Path, shorter_side: int = 800, longest_side: int = 1333) -> Path:
    """A Grounding DINO with one layer a Swin stage, one encoder and two decoder layers; width 32, 30 queries."""
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(GroundingDinoConfig(**_dino_settings())).eval().save_pretrained(folder)
    return _beside_dino(folder, shorter_side, longest_side)


def mm_grounding_dino(folder: Path, shorter_side: int = 800, longest_side: int = 1333) -> Path:
    """An MM Grounding DINO of the same size."""
    torch.manual_seed(0)
    config = MMGroundingDinoConfig(**_dino_settings(), decoder_bbox_embed_share=False, decoder_cls_embed_share=False)
    MMGroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    return _beside_dino(folder, shorter_side, longest_side)


def _dino_settings() -> dict[str, Any]:
    return {
        "backbone_config": SwinConfig(
            embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=7, out_indices=[2, 3, 4]
        ),
        "text_config": BertConfig(
            vocab_size=1200,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=256,
        ),
        "num_queries": 30,
        "d_model": 32,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }


def _beside_dino(folder: Path, shorter_side: int, longest_side: int) -> Path:
    _bert_tokenizer().save_pretrained(folder)
    size = {"shortest_edge": shorter_side, "longest_edge": longest_side}
    GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)
    return folder


def owlv2(folder: Path) -> Path:
    """An OWLv2 for squares of 96 pixels in patches of 8, with one layer of width 32 in each tower."""
    torch.manual_seed(0)
    layers = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config=layers | CLIP_TEXT | {"max_position_embeddings": 16},
        vision_config=layers | {"image_size": 96, "patch_size": 8},
        projection_dim=32,
    )
    Owlv2ForObjectDetection(config).eval().save_pretrained(folder)
    _clip_tokenizer(16).save_pretrained(folder)
    Owlv2ImageProcessorPil(size={"height": 96, "width": 96}).save_pretrained(folder)
    return folder


def sam2(folder: Path) -> Path:
    """A SAM 2 for squares of 256 pixels: a Hiera of five blocks, and a decoder of width 32."""
    torch.manual_seed(0)
    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [256, 256],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "global_attention_blocks": [3],
    }
    vision = {
        "backbone_config": hiera,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]],
        "fpn_hidden_size": 32,
    }
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 256, "mask_input_channels": 4},
        mask_decoder_config=SAM_DECODER,
    )
    Sam2Model(config).eval().save_pretrained(folder)
    # ImageNet's.
    _save_statistics(folder, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return folder


def sam3(folder: Path) -> Path:
    """A SAM 3 for squares of 112 pixels in patches of 14, as published: detector and tracker in one file.

    The names of the weights are those of the published file; `save_pretrained` of the whole model would write others,
    which the tracker alone does not find again.
    """
    torch.manual_seed(0)
    layer = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    vit = layer | {
        "model_type": "sam3_vit_model",
        "num_hidden_layers": 2,
        "image_size": 112,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1],
        "pretrain_image_size": 56,
    }
    vision = {
        "model_type": "sam3_vision_model",
        "backbone_config": vit,
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }
    text = layer | CLIP_TEXT | {"num_hidden_layers": 1, "projection_dim": 16, "max_position_embeddings": 32}
    detector = {
        "vision_config": vision,
        "text_config": text | {"model_type": "clip_text_model"},
        "geometry_encoder_config": layer | {"num_layers": 1},
        "detr_encoder_config": layer | {"num_layers": 1},
        "detr_decoder_config": layer | {"num_layers": 2, "num_queries": 20},
        "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
    }
    tracker = {
        "vision_config": vision,
        "prompt_encoder_config": {"hidden_size": 32, "image_size": 112, "mask_input_channels": 4},
        "mask_decoder_config": SAM_DECODER,
        "image_size": 112,
        "memory_attention_hidden_size": 32,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_num_layers": 1,
        "memory_attention_rope_feat_sizes": [8, 8],
        "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": 32,
        "memory_fuser_embed_dim": 32,
        "memory_fuser_intermediate_dim": 32,
        "memory_fuser_num_layers": 1,
    }
    model = Sam3VideoModel(Sam3VideoConfig(detector_config=detector, tracker_config=tracker))
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _clip_tokenizer(32).save_pretrained(folder)
    _save_statistics(folder, [0.5] * 3, [0.5] * 3)
    return folder


def sam(folder: Path) -> Path:
    """A SAM for squares of 1,024 pixels in patches of 16, with one windowed and one global layer of width 32."""
    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
            "mlp_dim": 32,
            "initializer_range": 0.02,
        },
        prompt_encoder_config={"hidden_size": 32, "mask_input_channels": 4},
        mask_decoder_config=SAM_DECODER,
    )
    SamModel(config).eval().save_pretrained(folder)
    return folder


def _bert_tokenizer() -> BertTokenizer:
    """Letters and a few words; the special tokens and the delimiters . and ? where BERT has them.

    The model's code knows their numbers (101, 102, 1012, 1029).
    """
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*letters, *(f"##{letter}" for letter in letters), *WORDS, "(", ")", ",", "/"]
    fixed = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    places = iter(number for number in range(1200) if number not in fixed)
    tokens = {token: number for number, token in fixed.items()} | {token: next(places) for token in pieces}
    tokens |= {f"[unused{number}]": number for number in places}
    return BertTokenizer(vocab=dict(sorted(tokens.items(), key=lambda item: item[1])), do_lower_case=True)


def _clip_tokenizer(length: int) -> CLIPTokenizer:
    """Letters alone, in CLIP's way: a place for each letter, and for start and end; "!" pads, as in OWLv2."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789-()/.,"
    pieces = ["!", "<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], pad_token="!", model_max_length=length)


def _save_statistics(folder: Path, mean: list[float], deviation: list[float]) -> None:
    settings = {"image_mean": mean, "image_std": deviation}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))

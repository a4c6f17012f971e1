"""Checkpoints with the real architectures and random weights, built in seconds and read like downloaded ones."""

from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    SamConfig,
    SamModel,
    SwinConfig,
)

WORDS = ("polyp", "mass", "nodule", "pleural", "effusion", "opacity", "lesion", "round", "with", "of", "the", "co", "-")


def grounding_dino(folder: Path, shorter_side: int = 800, longest_side: int = 1333) -> Path:
    """A Grounding DINO with one layer a Swin stage, one encoder and two decoder layers; width 32, 30 queries."""
    torch.manual_seed(0)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=7, out_indices=[2, 3, 4]
        ),
        text_config=BertConfig(
            vocab_size=1200,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=256,
        ),
        num_queries=30,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
    )
    GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    _bert_tokenizer().save_pretrained(folder)
    size = {"shortest_edge": shorter_side, "longest_edge": longest_side}
    GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)
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
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
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

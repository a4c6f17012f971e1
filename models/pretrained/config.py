"""Settings of the method."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PretrainedConfig:
    """Which checkpoint.

    Attributes:
        pretrained: Folder or hub id in `transformers` format, with safetensors, preprocessor_config.json and
            tokenizer.json, or a folder of `python -m pipelines.weights.open_clip`; None where the last three settings
            hold its settings.
        revision: Revision of a hub id; pin it.
        architecture: Without `pretrained`: `model_type` and the settings of its `transformers` configuration, or those
            of a ViT with a BERT (`models/pretrained/vit_bert.py`).
        image_processor: Without `pretrained`: the settings of its image processor.
        padding: Without `pretrained`: the token that its texts are filled up with.
    """

    pretrained: str | None = None
    revision: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    image_processor: dict[str, Any] = field(default_factory=dict)
    padding: int = 0

    def __post_init__(self) -> None:
        if self.pretrained is None and not (self.architecture and self.image_processor):
            raise ValueError("give 'pretrained': a folder or hub id")

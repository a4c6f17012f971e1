"""A ViT and a BERT with a projection each: the shape of BiomedCLIP (Zhang et al. 2023, arXiv:2303.00915).

As open_clip's TimmModel and HFTextEncoder compute it (github.com/mlfoundations/open_clip): of an image the class token
behind the last normalisation, times a matrix; of a text the first token of the last layer, through a matrix, GELU and
another matrix. No projection has a bias. The temperature is left out: scores here are cosines.

A folder of this shape, which `python -m pipelines.weights.open_clip` writes, holds `config.json` (the sizes),
`projections.safetensors`, the towers in `transformers` format (`image`, `text`), an image processor and a tokenizer.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, BertConfig, BertModel, PreTrainedModel, ViTConfig, ViTModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from models.encoders import architecture_of
from models.loading import load_whole, loading, verify_weights

MODEL_TYPE = "vit_bert"
CONFIG, PROJECTIONS = "config.json", "projections.safetensors"


@dataclass(frozen=True, kw_only=True)
class VitBertSettings:
    """What rebuilds both without their weights; the names are those of CLIP's configuration in `transformers`.

    Attributes:
        vision_config: Of the ViT.
        text_config: Of the BERT.
        image_projection: Widths from the ViT's to the embedding's.
        text_projection: Widths from the BERT's to the embedding's.
    """

    model_type: ClassVar[str] = MODEL_TYPE
    vision_config: ViTConfig
    text_config: BertConfig
    image_projection: Sequence[int]
    text_projection: Sequence[int]


def is_vit_bert(folder: Path) -> bool:
    """Whether a folder holds both.

    Raises:
        ValueError: Its config.json is no JSON.
    """
    file = folder / CONFIG
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("model_type") == MODEL_TYPE


def settings_in(folder: Path) -> VitBertSettings:
    """Settings of both towers in a folder."""
    vision, text = (AutoConfig.from_pretrained(folder / tower, trust_remote_code=False) for tower in ("image", "text"))
    return _settings(vision, text, json.loads((folder / CONFIG).read_text(encoding="utf-8")))


def settings_of(architecture: Mapping[str, Any]) -> VitBertSettings:
    """Settings from what `VitBert.architecture` gives."""
    vision, text = (AutoConfig.for_model(**architecture[name]) for name in ("vision_config", "text_config"))
    return _settings(vision, text, architecture)


def _settings(vision: Any, text: Any, widths: Mapping[str, Any]) -> VitBertSettings:
    return VitBertSettings(
        vision_config=vision,
        text_config=text,
        image_projection=widths["image_projection"],
        text_projection=widths["text_projection"],
    )


def projections(image: Sequence[int], text: Sequence[int]) -> nn.ModuleDict:
    """Of both towers, from widths: matrices without bias, with GELU between two."""

    def projection(widths: Sequence[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after, bias=False), nn.GELU()]
        return nn.Sequential(*layers[:-1])

    return nn.ModuleDict({"image": projection(image), "text": projection(text)})


class VitBert(nn.Module):
    """Both towers with their projections, with random weights; it answers as `transformers`' CLIPModel does."""

    def __init__(self, config: VitBertSettings) -> None:
        super().__init__()
        self.config = config
        self.image_tower: PreTrainedModel = ViTModel(config.vision_config, add_pooling_layer=False)
        self.text_tower: PreTrainedModel = BertModel(config.text_config, add_pooling_layer=False)
        self.projections = projections(config.image_projection, config.text_projection)

    def architecture(self) -> dict[str, Any]:
        """What `settings_of` rebuilds the settings from, as JSON."""
        return {
            "model_type": MODEL_TYPE,
            "vision_config": architecture_of(self.image_tower),
            "text_config": architecture_of(self.text_tower),
            "image_projection": list(self.config.image_projection),
            "text_projection": list(self.config.text_projection),
        }

    def get_image_features(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """Normalised pixels (batch, 3, height, width) -> `pooler_output` (batch, dimensions), of any length."""
        tokens = self.image_tower(pixel_values=pixel_values).last_hidden_state
        return BaseModelOutputWithPooling(pooler_output=self.projections["image"](tokens[:, 0]))

    def get_text_features(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutputWithPooling:
        """Ids and mask (texts, length) -> `pooler_output` (texts, dimensions), of any length."""
        tokens = self.text_tower(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return BaseModelOutputWithPooling(pooler_output=self.projections["text"](tokens[:, 0]))


def load_vit_bert(folder: Path, settings: VitBertSettings) -> VitBert:
    """Both towers in a folder, with their weights.

    Raises:
        ValueError: A part is not there or of another shape; one line.
        DamagedError: The folder is not as the conversion wrote it.
    """
    verify_weights(folder)
    # Without memory or random numbers, for all of it is replaced.
    with torch.device("meta"):
        model = VitBert(settings)
    model.image_tower = load_whole(ViTModel, str(folder / "image"), add_pooling_layer=False)
    model.text_tower = load_whole(BertModel, str(folder / "text"), add_pooling_layer=False)
    with loading(str(folder), PROJECTIONS):
        model.projections.load_state_dict(load_file(folder / PROJECTIONS), assign=True)
    return model

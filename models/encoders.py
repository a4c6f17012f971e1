"""Image and text encoders from `transformers`: a pretrained folder or hub id, or an architecture from scratch."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel

from models.data.batches import Tokens


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which encoder to build.

    Attributes:
        pretrained: Folder or hub id in `transformers` format (safetensors only); None trains from scratch.
        revision: Revision of a hub id; pin it.
        architecture: Without `pretrained`: `model_type` and the settings of its `transformers` configuration.
        convolutional_stem: Replace a ViT's patch projection by stride-2 convolutions, which learn from few images
            (a 0.3 M parameter ViT without it reached a third of the recall in the same time).
        pooling: Which vector stands for the whole: the first token, or the mean of the others.
    """

    pretrained: str | None = None
    revision: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    convolutional_stem: bool = False
    pooling: str = "first"

    def __post_init__(self) -> None:
        if (self.pretrained is None) == (not self.architecture):
            raise ValueError("give either 'pretrained' or 'architecture'")
        if self.pooling not in ("first", "mean"):
            raise ValueError(f"pooling '{self.pooling}' is not one of: first, mean")


def _backbone(config: EncoderConfig, **overrides: Any) -> PreTrainedModel:
    if config.pretrained is not None:
        return AutoModel.from_pretrained(config.pretrained, revision=config.revision, use_safetensors=True)
    settings = {**config.architecture, **overrides}
    model_type = settings.pop("model_type", None)
    if model_type is None:
        raise ValueError("architecture needs 'model_type', such as vit or bert")
    known = AutoConfig.for_model(model_type)
    # transformers takes any keyword in silence; a mistyped one would train another model than the one asked for.
    if unknown := [name for name in settings if not hasattr(known, name)]:
        raise ValueError(f"architecture of {model_type} has no setting {', '.join(unknown)}")
    return AutoModel.from_config(AutoConfig.for_model(model_type, **settings))


def architecture_of(backbone: PreTrainedModel) -> dict[str, Any]:
    """The settings that rebuild a backbone without its weights' origin."""
    return {"model_type": backbone.config.model_type, **backbone.config.to_diff_dict()}


class ImageEncoder(nn.Module):
    """f_img of paper 001, eq. 1.

    Attributes:
        width: Size of the feature vectors.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = _backbone(config)
        settings = self.backbone.config
        self.is_vit = settings.model_type == "vit"
        self.width: int = settings.hidden_size if hasattr(settings, "hidden_size") else settings.hidden_sizes[-1]
        if config.convolutional_stem:
            if not self.is_vit:
                raise ValueError(f"convolutional_stem is for model_type vit, not {settings.model_type}")
            embeddings: Any = self.backbone.embeddings
            embeddings.patch_embeddings.projection = _Stem(settings.patch_size, self.width)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, 3, height, width), -1 to 1 -> whole (batch, width) and patches (batch, patches, width)."""
        # A ViT interpolates its positions, so that region crops may be smaller than the images.
        options = {"interpolate_pos_encoding": True} if self.is_vit else {}
        output = self.backbone(pixel_values=pixels, **options)
        hidden = output.last_hidden_state
        if hidden.ndim == 4:
            patches = hidden.flatten(2).transpose(1, 2)
            return patches.mean(dim=1), patches
        patches = hidden[:, 1:]
        return (hidden[:, 0] if self.config.pooling == "first" else patches.mean(dim=1)), patches


class _Stem(nn.Conv2d):
    """Stride-2 convolutions to the patch grid; itself the last one, for ViT asks its projection for `weight.dtype`."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__(width, width, 1)
        steps = patch_size.bit_length() - 1
        if 2**steps != patch_size:
            raise ValueError(f"convolutional_stem halves the image; patch_size {patch_size} is no power of 2")
        layers: list[nn.Module] = []
        channels = 3
        for step in range(steps):
            wider = width // 2 ** (steps - 1 - step)
            layers.append(nn.Conv2d(channels, wider, 3, stride=2, padding=1, bias=False))
            # GroupNorm: batch statistics of images and of crops differ, and workers would each have their own.
            layers += [nn.GroupNorm(1, wider), nn.GELU()]
            channels = wider
        self.body = nn.Sequential(*layers)

    def forward(self, pixels: Tensor) -> Tensor:
        return super().forward(self.body(pixels))


class TextEncoder(nn.Module):
    """f_txt of paper 001.

    Args:
        config: Which encoder.
        vocabulary_size: Entries of the tokenizer, for an encoder trained from scratch.
    """

    def __init__(self, config: EncoderConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        overrides = {} if config.pretrained else {"vocab_size": vocabulary_size}
        self.backbone = _backbone(config, **overrides)
        self.width: int = self.backbone.config.hidden_size
        table: Any = self.backbone.get_input_embeddings()
        limit: int = table.num_embeddings
        if vocabulary_size > limit:
            raise ValueError(f"the tokenizer has {vocabulary_size} entries, more than the text encoder's {limit}")

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Whole (texts, width) and tokens (texts, length, width)."""
        hidden = self.backbone(input_ids=tokens.ids, attention_mask=tokens.mask).last_hidden_state
        if self.config.pooling == "first":
            return hidden[:, 0], hidden
        weight = tokens.mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1), hidden


def unit_length(features: Tensor) -> Tensor:
    """Eq. 2 of paper 001: vectors of length 1."""
    return torch.nn.functional.normalize(features, dim=-1)

"""Text encoders from `transformers`."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection

from models.data.batches import Tokens
from models.encoders import EncoderConfig, TransformersEncoder, backbone_of
from models.frozen_text import TextFeatureCache


class TextEncoder(TransformersEncoder):
    """f_txt of paper 001.

    Args:
        config: Which encoder.
        vocabulary_size: Entries of the tokenizer, for an encoder trained from scratch.
        projects: Tokens pass CLIP's `text_projection`, too; other encoders have none.
        least_length: Shorter texts get padding of token 0 up to this length, and it has features.
    """

    def __init__(
        self, config: EncoderConfig, vocabulary_size: int, *, projects: bool = False, least_length: int = 0
    ) -> None:
        config.refuse(
            "image",
            convolutional_stem=config.convolutional_stem,
            crop=config.crop is not None,
            frozen_batch_norm=config.frozen_batch_norm,
        )
        overrides = {} if config.pretrained else {"vocab_size": vocabulary_size}
        model: Any = backbone_of(config, reads_text=True, projects=projects, **overrides)
        projected = isinstance(model, CLIPTextModelWithProjection)
        super().__init__(config, model.text_model if projected else model, model.config.hidden_size)
        self.projection = model.text_projection if projected else nn.Identity()
        self.least_length = least_length
        if projected:
            self.width = model.text_projection.out_features
        positions = getattr(self.backbone.config, "max_position_embeddings", least_length)
        if positions < least_length:
            raise ValueError(f"texts of {least_length} tokens: the text encoder has only {positions} positions")
        layers: int = self.backbone.config.num_hidden_layers
        # Without layers its output is that of its embeddings, which is all that a single one asks for.
        if config.last_layers > max(1, layers):
            raise ValueError(f"last_layers {config.last_layers}: the text encoder has only {layers}")
        self.pooling = config.pooling or "first"
        if self.pooling not in ("first", "mean"):
            raise ValueError(f"pooling {self.pooling} is for image encoders: choose mean or first")
        if self.backbone.config.model_type == "clip_text_model" and self.pooling == "first":
            raise ValueError("pooling first of clip_text_model sees the start token alone: choose mean")
        table: Any = self.backbone.get_input_embeddings()
        limit: int = table.num_embeddings
        if vocabulary_size > limit:
            raise ValueError(f"the tokenizer has {vocabulary_size} entries, more than the text encoder's {limit}")
        self.cache = TextFeatureCache(self._hidden, least_length) if config.frozen else None
        if config.frozen:
            self.backbone.requires_grad_(False)
            self.projection.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.frozen:
            self.backbone.eval()
        return self

    def forward(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Whole (texts, width) and tokens (texts, length, width), where length is `least_length` or more."""
        ids, mask = tokens.ids, tokens.mask
        if self.least_length:
            missing = (0, max(0, self.least_length - ids.shape[1]))
            ids, mask = nn.functional.pad(ids * mask, missing), nn.functional.pad(mask, missing)
        if self.cache is not None:
            return self._pooled(self.cache(ids, mask), mask)
        return self._in_parts(self._encode, ids, mask)

    def _encode(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self._pooled(self._hidden(ids, mask), mask)

    def _hidden(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Tokens (texts, length, width)."""
        with self._autocast(ids.device):
            output = self.backbone(input_ids=ids, attention_mask=mask, output_hidden_states=self.config.last_layers > 1)
            layers = output.hidden_states[-self.config.last_layers :] if self.config.last_layers > 1 else None
            hidden = output.last_hidden_state if layers is None else torch.stack(layers).mean(dim=0)
            return self.projection(hidden).to(self.backbone.dtype)

    def _pooled(self, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.pooling == "first":
            return hidden[:, 0], hidden
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1), hidden

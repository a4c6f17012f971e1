"""Psi, the conditioned reconstructor of eqs. 7 and 9.

Eqs. 7 and 9 print one attention and the text names layers of a transformer; the layers here are those of published
code, whose two reconstructors of four layers explain the 50.5 M parameters by which table II's columns differ: layers
over the source, then layers over the target that attend to it, normalised after each step (post-norm). As there, the
weights of attention are not dropped, nor what is between the two layers of the MLP.

Shapes in comments: B batch, N positions of the target (queries), M positions of the source (keys), H heads, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.reclmis.config import RecLMISConfig
from models.reclmis.sequences import Sequences


def conditioned_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    condition: Tensor | None,
    bias: Tensor,
    *,
    after_softmax: bool,
) -> Tensor:
    """Attention whose keys count by a condition.

    Args:
        query: (..., queries, dimensions).
        key: (..., keys, dimensions).
        value: (..., keys, dimensions).
        condition: (..., keys), 0 or more; None for plain attention.
        bias: (..., 1 or queries, keys), added to the scores; -inf where a key must not be seen.
        after_softmax: Multiply the weights and renormalise them (published code); else multiply the scores
            (eqs. 7 and 9).

    Returns:
        (..., queries, dimensions).
    """
    if condition is not None:
        if after_softmax:
            # softmax(s) w, renormalised, is softmax(s + log w).
            bias = bias + (condition + 1e-10).log().unsqueeze(-2)
        else:
            # (q k) w is q (k w).
            key = key * condition.unsqueeze(-1).to(key.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype))


class Attention(nn.Module):
    """`conditioned_attention` of several heads, with residual and normalisation."""

    def __init__(self, config: RecLMISConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.after_softmax = config.differences.after_softmax
        # A key's bias would cancel in the softmax and never learn.
        self.key = nn.Linear(width, width, bias=False)
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)
        self.norm = nn.LayerNorm(width)

    def forward(self, target: Tensor, source: Tensor, bias: Tensor, condition: Tensor | None) -> Tensor:
        # (B, N or M, D) -> (B, N or M, H, D / H) -> (B, H, N or M, D / H)
        query, key, value = (
            layer(features).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, features in ((self.query, target), (self.key, source), (self.value, source))
        )
        attended = conditioned_attention(
            query,
            key,
            value,
            None if condition is None else condition.unsqueeze(1),  # (B, 1, M), the same for every head
            bias,
            after_softmax=self.after_softmax,
        )
        # (B, H, N, D / H) -> (B, N, H, D / H) -> (B, N, D)
        return self.norm(target + self.dropout(self.out(attended.transpose(1, 2).flatten(2))))


class FeedForward(nn.Module):
    """Two layers with residual and normalisation."""

    def __init__(self, config: RecLMISConfig) -> None:
        super().__init__()
        width = config.width
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width), nn.Dropout(config.dropout)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor) -> Tensor:
        return self.norm(features + self.layers(features))


class SourceLayer(nn.Module):
    """The source's positions attend to one another, by their condition."""

    def __init__(self, config: RecLMISConfig) -> None:
        super().__init__()
        self.own = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, source: Tensor, bias: Tensor, condition: Tensor | None) -> Tensor:
        return self.feed_forward(self.own(source, source, bias, condition))


class TargetLayer(nn.Module):
    """The target's positions attend to one another, then to the source by its condition."""

    def __init__(self, config: RecLMISConfig) -> None:
        super().__init__()
        self.own = Attention(config)
        self.other = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(
        self, target: Tensor, bias: Tensor, source: Tensor, source_bias: Tensor, condition: Tensor | None
    ) -> Tensor:
        target = self.own(target, target, bias, None)
        return self.feed_forward(self.other(target, source, source_bias, condition))


class Reconstructor(nn.Module):
    """Psi of eqs. 7 and 9.

    Args:
        config: Layers, heads, width, dropout and variant.
    """

    def __init__(self, config: RecLMISConfig) -> None:
        super().__init__()
        self.adds_positions, self.causal = config.differences.adds_positions, config.differences.causal
        self.source_layers = nn.ModuleList(SourceLayer(config) for _ in range(config.layers))
        self.target_layers = nn.ModuleList(TargetLayer(config) for _ in range(config.layers))

    def forward(self, target: Sequences, source: Sequences, *, conditioned: bool) -> Tensor:
        """Reconstruct what is hidden.

        Args:
            target: Zeros where hidden; its weights are not read.
            source: Complete; its weights are the condition.
            conditioned: Whether the condition counts.

        Returns:
            (batch, n of the target, width).
        """
        features, others = target.features, source.features
        if self.adds_positions:
            features = features + sinusoids(features.shape[1], features)
        condition = source.weights if conditioned else None
        source_bias = _bias(source.read, others)
        own_bias = source_bias + _future(others) if self.causal else source_bias  # (B, 1, M, M), or (B, 1, 1, M)
        for layer in self.source_layers:
            others = layer(others, own_bias, condition)
        own_bias = _bias(target.read, features)
        own_bias = own_bias + _future(features) if self.causal else own_bias
        for layer in self.target_layers:
            features = layer(features, own_bias, others, source_bias, condition)
        return features


def _bias(mask: Tensor, like: Tensor) -> Tensor:
    """(batch, n) -> (batch, 1, 1, n), -inf on padding."""
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(~mask, -torch.inf)[:, None, None]


def _future(features: Tensor) -> Tensor:
    """(n, n), -inf where a key is later than its query."""
    length = features.shape[1]
    return torch.full((length, length), -torch.inf, dtype=features.dtype, device=features.device).triu(1)


def sinusoids(length: int, like: Tensor) -> Tensor:
    """Positions as Vaswani et al. 2017 have them: (length, width) for features of an even `width`, type and device."""
    width = like.shape[-1]
    rate = torch.exp(torch.arange(0, width, 2, dtype=like.dtype, device=like.device) * (-math.log(10000.0) / width))
    angle = torch.arange(length, dtype=like.dtype, device=like.device).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)

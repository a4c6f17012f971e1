"""A decoder: queries look at one another and at the patches of an image, and say where they looked.

A layer is torch's `nn.TransformerDecoderLayer` with `norm_first`, with the same weights of the same names; that one
does not give the attention.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and a perceptron, each behind a norm and beside a residual.

    Args:
        width: Features.
        heads: Of each attention.
        feed_forward: Features inside the perceptron.
        dropout: Of attention weights, inside the perceptron, and of what each part adds.
    """

    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, feed_forward), nn.Linear(feed_forward, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Queries (batch, queries, width) again, and their attention (batch, queries, patches), the mean over heads."""
        beside = self.norm1(queries)
        queries = queries + self.dropout(self.self_attn(beside, beside, beside, need_weights=False)[0])
        seen, attention = self.multihead_attn(self.norm2(queries), patches, patches)
        queries = queries + self.dropout(seen)
        inner = self.dropout(F.relu(self.linear1(self.norm3(queries))))
        return queries + self.dropout(self.linear2(inner)), attention


class QueryDecoder(nn.Module):
    """Layers one after the other, and a norm behind the last.

    Args:
        layers: Number of them.
        width: Features.
        heads: Of each attention.
        feed_forward: Features inside a perceptron.
        dropout: See `DecoderLayer`.
    """

    def __init__(self, layers: int, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, feed_forward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """What the queries found (batch, queries, width), and where they looked: (batch, queries, patches) of sum 1."""
        maps = []
        for layer in self.layers:
            queries, attention = layer(queries, patches)
            maps.append(attention)
        return self.norm(queries), torch.stack(maps).mean(dim=0)

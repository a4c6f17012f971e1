"""CI, the conditioned interaction (section III-B.1): cross-attention of patches and words, and their interest.

Shapes in comments: B batch, P patches, W words, D width.
"""

import torch
from torch import Tensor, nn

from models.reclmis.config import RecLMISConfig


class WordConvolution(nn.Module):
    """Convolution over three neighbouring words; what is not read is 0 before and after it."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels, wider, 3, padding=1)

    def forward(self, words: Tensor, read: Tensor) -> Tensor:
        """(texts, words, channels) and (texts, words) bool, see `Sequences` -> (texts, words, wider)."""
        inside = read.unsqueeze(-1)
        return self.convolution((words * inside).mT).mT * inside  # Conv1d takes (B, channels, W)


class PatchProjection(nn.Module):
    """Input of the attention: projected patches with their learned positions."""

    def __init__(self, config: RecLMISConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(config.width, config.width)
        self.position = nn.Parameter(torch.zeros(config.grid**2, config.width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, patches: Tensor) -> Tensor:
        return self.dropout(self.projection(patches) + self.position)


class CrossInteraction(nn.Module):
    """Eq. 1, both ways, without residual or normalisation: the decoder gets what was attended alone."""

    def __init__(self, config: RecLMISConfig) -> None:
        super().__init__()
        self.sequential = config.differences.sequential
        self.embedding = PatchProjection(config)
        self.text_to_vision = _attention(config)
        if self.sequential or config.weighs_words:
            self.vision_to_text = _attention(config)

    def forward(self, patches: Tensor, words: Tensor, read: Tensor, *, attends_words: bool) -> tuple[Tensor, Tensor]:
        """Let patches and words attend to each other.

        Args:
            patches: V, (batch, patches, width).
            words: E, (batch, words, width).
            read: (batch, words) bool, see `Sequences`.
            attends_words: Whether the caller needs E'; if not, E may be returned in its place.

        Returns:
            V' and E', in the shapes of V and E.
        """
        embedded = self.embedding(patches)
        attended_words = words
        if self.sequential or attends_words:
            attended_words, _ = self.vision_to_text(words, embedded, embedded, need_weights=False)
        keys = attended_words if self.sequential else words
        attended_patches, _ = self.text_to_vision(embedded, keys, keys, key_padding_mask=~read, need_weights=False)
        return attended_patches, attended_words


class SelfInteraction(nn.Module):
    """One attention over patches and words in one row (table V). The paper says so of the reconstruction only; were
    each modality to attend to itself alone, the mask would not depend on the text.
    """

    def __init__(self, config: RecLMISConfig) -> None:
        super().__init__()
        self.embedding = PatchProjection(config)
        self.attention = _attention(config)

    def forward(self, patches: Tensor, words: Tensor, read: Tensor, *, attends_words: bool) -> tuple[Tensor, Tensor]:
        """See `CrossInteraction`."""
        row = torch.cat([self.embedding(patches), words], dim=1)  # (B, P + W, D)
        padding = torch.cat([read.new_zeros(patches.shape[:2]), ~read], dim=1)  # (B, P + W)
        attended, _ = self.attention(row, row, row, key_padding_mask=padding, need_weights=False)
        attended_patches, attended_words = attended.split([patches.shape[1], words.shape[1]], dim=1)
        return attended_patches, attended_words


def _attention(config: RecLMISConfig) -> nn.MultiheadAttention:
    return nn.MultiheadAttention(config.width, config.heads, dropout=config.dropout, batch_first=True)


class ReadWords(nn.Module):
    """Convolution, BatchNorm and ReLU, the statistics of what is read (published code alone)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = WordConvolution(width, width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, words: Tensor, read: Tensor) -> Tensor:
        convolved = self.convolution(words, read)
        normed = torch.zeros_like(convolved)
        normed[read] = self.norm(convolved[read]).relu().to(convolved.dtype)
        return normed


class Interest(nn.Sequential):
    """W_poi and W_woi, eqs. 2 and 3."""

    def __init__(self, width: int) -> None:
        # A bias of the last layer would cancel in the softmax and never learn.
        super().__init__(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1, bias=False))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, n, width), and (batch, n) bool -> (batch, n), of sum 1 and 0 where the mask is false."""
        # As precise as the weights are, whatever precision the features were computed in.
        score = super().forward(features).squeeze(-1).to(self[0].weight.dtype)
        if mask is not None:
            score = score.masked_fill(~mask, -torch.inf)
        return score.softmax(dim=-1)

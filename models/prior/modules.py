"""PRIOR's parts.

Shapes in comments: B images, P patches, M sentences of a report, K prototypes, D dimensions.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LocalAttention(nn.Module):
    """Sentences look at patches, and patches at sentences; each weight is a sigmoid, so that one may see many or none.

    Args:
        size: D.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.patch_query, self.patch_key, self.patch_value = (nn.Linear(size, size) for _ in range(3))
        self.text_query, self.text_key, self.text_value = (nn.Linear(size, size) for _ in range(3))

    def weights(self, sentences: Tensor, patches: Tensor) -> Tensor:
        """Of the patches for each sentence: (B, M, P), between 0 and 1."""
        return (self.text_query(sentences) @ self.patch_key(patches).mT / math.sqrt(patches.shape[-1])).sigmoid()

    def forward(self, sentences: Tensor, patches: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """What sentences found in the patches (B, M, D), and patches in the sentences that are `present` (B, P, D)."""
        seen = self.weights(sentences, patches) @ self.patch_value(patches)
        scores = self.patch_query(patches) @ self.text_key(sentences).mT / math.sqrt(patches.shape[-1])  # (B, P, M)
        return seen, (scores.sigmoid() * present.unsqueeze(1)) @ self.text_value(sentences)


class SentencePool(nn.Module):
    """A report of its sentences: their mean attends to itself and to them; their order does not matter.

    Args:
        size: D.
        heads: Of the attention.
    """

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size, heads, batch_first=True)

    def forward(self, sentences: Tensor, present: Tensor) -> Tensor:
        """(B, M, D), 0 where no sentence is `present` (B, M) -> (B, D)."""
        mean = sentences.sum(dim=1, keepdim=True) / present.sum(dim=1).clamp(min=1).view(-1, 1, 1)
        absent = F.pad(~present, (1, 0), value=False)
        together = torch.cat([mean, sentences], dim=1)
        return self.attention(mean, together, together, key_padding_mask=absent, need_weights=False)[0].squeeze(1)


class Memory(nn.Module):
    """Prototypes of sentences: a sentence becomes a mixture of them, in training with Gumbel noise.

    Args:
        prototypes: K.
        size: D.
        temperature: Of the mixture.
    """

    def __init__(self, prototypes: int, size: int, temperature: float) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(prototypes, size))
        self.temperature = temperature

    def logits(self, sentences: Tensor) -> Tensor:
        """(..., D) -> (..., K)."""
        return sentences @ self.prototypes.T

    def forward(self, sentences: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        logits = self.logits(sentences)
        if self.training:
            return F.gumbel_softmax(logits, self.temperature) @ self.prototypes
        return (logits / self.temperature).softmax(dim=-1) @ self.prototypes


class ImageDecoder(nn.Module):
    """Pixels of patches: their grid is doubled until a position is a pixel, or less than two, and channels halve.

    Args:
        channels: Of the patches.
        stride: Pixels along the side of a patch.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(math.ceil(math.log2(stride))):
            fewer = max(1, channels // 2)
            layers.append(nn.Upsample(scale_factor=2))
            for width in (channels, fewer):
                # GroupNorm for BatchNorm, whose statistics differ between workers.
                layers += [nn.Conv2d(width, fewer, 3, padding=1, bias=False), nn.GroupNorm(1, fewer), nn.ReLU()]
            channels = fewer
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1))

    def forward(self, patches: Tensor) -> Tensor:
        """(B, P, channels) of square images, by rows -> (B, 3, height, width)."""
        side = math.isqrt(patches.shape[1])
        return self.layers(patches.mT.unflatten(2, (side, side)))

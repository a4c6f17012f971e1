"""Patches and words as weighted sequences, which contrast and reconstruction treat alike."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """The patches of a batch's images, or the words of its texts.

    Attributes:
        features: V or E, (batch, n, width).
        weights: W_poi or W_woi, (batch, n), of sum 1 and 0 on padding.
        mask: (batch, n) bool, false on padding.
        read: (batch, n) bool, true on what is read: the mask, or more; see `Variant.reads_padding`.
    """

    features: Tensor
    weights: Tensor
    mask: Tensor
    read: Tensor

    def evenly(self) -> "Sequences":
        """The same, equally weighted."""
        return replace(self, weights=even(self.mask, self.weights))

    def followed_by(self, other: "Sequences") -> "Sequences":
        """Each sequence and, in one row with it, that of `other`; the weights of each add up to 1."""
        return Sequences(
            features=torch.cat([self.features, other.features], dim=1),
            weights=torch.cat([self.weights, other.weights], dim=1),
            mask=torch.cat([self.mask, other.mask], dim=1),
            read=torch.cat([self.read, other.read], dim=1),
        )


def even(mask: Tensor, like: Tensor) -> Tensor:
    """Weights (batch, n) of sum 1, equal where the mask is true and 0 elsewhere, of another tensor's type."""
    weights = mask.to(like.dtype)
    return weights / weights.sum(dim=1, keepdim=True)

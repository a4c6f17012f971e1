"""LTEM: the output of a decoder block, gated by where its input agrees with the text.

Letters in einsum: b batch, c width, i rows, j columns.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.encoders import unit_length


def agreement(features: Tensor, text: Tensor, temperature: float) -> Tensor:
    """Eq. 2 of paper 002 and its softmax over the positions.

    The "normalized dot product" is read as the cosine, as in TSDM: of plain dot products of hundreds of features the
    softmax would leave one position.

    Args:
        features: (batch, width, rows, columns).
        text: (batch, width).
        temperature: tau_3.

    Returns:
        (batch, rows, columns), of sum 1.
    """
    cosine = torch.einsum("bcij,bc->bij", F.normalize(features, dim=1), unit_length(text))
    return (cosine.flatten(1) / temperature).softmax(dim=1).view_as(cosine)


def enhanced(decoded: Tensor, weights: Tensor, *, rescaled: bool, upsampling: str) -> Tensor:
    """Features multiplied with the map at twice its size.

    Args:
        decoded: (batch, width, 2 * rows, 2 * columns).
        weights: (batch, rows, columns), of sum 1.
        rescaled: Times the number of positions, which gives the map a mean of 1. Either upsampling keeps the mean.
        upsampling: bilinear or nearest.
    """
    if rescaled:
        weights = weights * weights[0].numel()
    return decoded * F.interpolate(weights.unsqueeze(1), scale_factor=2, mode=upsampling)

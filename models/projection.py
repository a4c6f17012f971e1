"""Projections that methods share."""

from torch import nn


def non_linear_projection(width: int, hidden: int, size: int) -> nn.Sequential:
    """Linear, ReLU, linear: g_v and g_u of ConVIRT, and the heads of MGCA without their BatchNorm.

    Args:
        width: Features that come in.
        hidden: Features between.
        size: Features that go out.
    """
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, size))

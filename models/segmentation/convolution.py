"""The block of which the decoders of LAVT and TransUNet are made."""

from torch import nn


class NormedConv(nn.Sequential):
    """Convolution 3 x 3 without the bias that BatchNorm would take away, BatchNorm, ReLU."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__(nn.Conv2d(channels, wider, 3, padding=1, bias=False), nn.BatchNorm2d(wider), nn.ReLU())

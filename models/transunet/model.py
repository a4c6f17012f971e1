"""TransUNet (Chen et al. 2021, arXiv:2102.04306): R50-ViT-B/16 with three skips, 105.3 M parameters.

From the paper and the sizes of the published code. It starts from weights as they are drawn: the authors' have a format
of JAX that nothing here reads. The mask is one logit a pixel, and the loss that of all methods; published code has half
of Dice and half of cross-entropy over classes, and SGD.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.segmentation.convolution import NormedConv
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import check_planned, scaled
from models.transunet.config import STRIDE, TransUNetConfig
from models.transunet.stem import ResNetStem

DROPOUT = 0.1


def encoder_layer(width: int, heads: int) -> nn.TransformerEncoderLayer:
    """A layer of ViT (their eqs. 2 and 3), in which only what the MLP computes is dropped, as published."""
    layer = nn.TransformerEncoderLayer(
        width,
        heads,
        4 * width,
        dropout=DROPOUT,
        activation="gelu",
        layer_norm_eps=1e-6,
        batch_first=True,
        norm_first=True,
    )
    layer.self_attn.dropout = 0.0
    layer.dropout1.p = 0.0
    return layer


class SkipBlock(nn.Module):
    """Twice the size, bilinear, beside features of that size where there are any; two convolutions.

    Args:
        channels: Of what comes from below.
        beside: Of the features beside it; 0: none.
        narrower: Of what comes out.
    """

    def __init__(self, channels: int, beside: int, narrower: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.mix = nn.Sequential(NormedConv(channels + beside, narrower), NormedConv(narrower, narrower))

    def forward(self, below: Tensor, *beside: Tensor) -> Tensor:
        """(batch, channels, rows, columns), and the features beside it -> (batch, narrower, 2 rows, 2 columns)."""
        return self.mix(torch.cat([self.up(below), *beside], dim=1))


class TransUNet(SegmentationMethod):
    """Ignores the text."""

    Config = TransUNetConfig
    reads_text = False

    def __init__(self, config: TransUNetConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        base, width = config.base, config.hidden_size
        self.stem = ResNetStem(base, config.depths)
        self.project = nn.Conv2d(16 * base, width, 1)
        self.positions = nn.Parameter(torch.zeros((config.image_size // STRIDE) ** 2, width))
        self.dropout = nn.Dropout(DROPOUT)
        layers = [encoder_layer(width, config.heads) for _ in range(config.layers)]
        self.transformer = nn.Sequential(*layers, nn.LayerNorm(width, eps=1e-6))
        # 512, 256, 128, 64 and 16 in the paper.
        widths = [8 * base, 4 * base, 2 * base, base, base // 4]
        besides = [8 * base, 4 * base, base, 0]
        self.widen = NormedConv(width, widths[0])
        self.up = nn.ModuleList(
            SkipBlock(wide, beside, narrower)
            for (wide, narrower), beside in zip(pairwise(widths), besides, strict=True)
        )
        self.out = nn.Conv2d(widths[-1], 1, 3, padding=1)

    @property
    def first_decoder(self) -> nn.Module:
        return self.up[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        # The transformer has learned positions.
        check_planned("transunet", images.pixels, self.config.image_size)
        half, quarter, eighth, deepest = self.stem(scaled(images.pixels))
        cells = self.project(deepest)  # (B, C, G, G), the grid of cells
        embedded = self.dropout(cells.flatten(2).transpose(1, 2) + self.positions)  # (B, P, C)
        encoded = self.transformer(embedded)
        decoded = self.widen(encoded.transpose(1, 2).unflatten(2, cells.shape[2:]))
        for up, beside in zip(self.up, ([eighth], [quarter], [half], []), strict=True):
            decoded = up(decoded, *beside)
        return self.out(decoded).squeeze(1)

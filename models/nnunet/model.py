"""nnU-Net (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z): the two-dimensional network that it plans.

MONAI's DynUNet with nnU-Net's rule for its size: two convolutions of 3 x 3 a level with InstanceNorm and LeakyReLU
(0.01), halved by strides until less than 8 pixels are left, channels from 32 doubling up to 512, and a loss at every
size of the decoder but the lowest. 20.61 M parameters at 224 pixels.

nnU-Net is more than its network, and the rest is not here: patches, resampling and normalisation planned from a data
set's fingerprint (images are whole, square and scaled to 0 to 1), its augmentation, five folds, the ensemble with 3-D
networks, postprocessing, and its training (SGD with Nesterov momentum 0.99, polynomial decay, 1,000 epochs of 250
batches); it is trained as the other methods are. Its Dice is of the whole batch and of a softmax over two classes, here
of each image and of a sigmoid, as in all methods. Convolutions have no bias, which InstanceNorm would take away again.
"""

from collections.abc import Sequence

import torch
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.nnunet.config import NnUNetConfig, halvings
from models.segmentation.batches import SegmentationBatch
from models.segmentation.losses import mask_loss
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import check_planned, scaled

MOST_CHANNELS = 512


class NnUNet(SegmentationMethod):
    """Ignores the text."""

    Config = NnUNetConfig
    reads_text = False

    def __init__(self, config: NnUNetConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        strides = [1] + [2] * halvings(config.image_size)
        widths = [min(config.base * 2**level, MOST_CHANNELS) for level in range(len(strides))]
        self.network = DynUNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=1,
            kernel_size=[3] * len(strides),
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=widths,
        )
        # It holds all layers under second names, with which no checkpoint can be written.
        del self.network.skip_layers
        # Of the decoder's sizes between full (whose head the network has) and the lowest, which has no loss.
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 1) for width in widths[1:-2])
        self.heads.apply(DynUNet.initialize_weights)

    @property
    def first_decoder(self) -> nn.Module:
        return self.network.upsamples[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        finest, *_ = self._decoded(images)
        return self.network.output_block(finest).squeeze(1)

    def forward(self, batch: SegmentationBatch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The weighted mean of the losses at full size, 1/2, 1/4, ...: weights halve with the side."""
        with self.autocast(batch.target.device):
            features = self._decoded(batch.images)
            heads = (self.network.output_block, *self.heads)
            logits = [head(level).squeeze(1) for head, level in zip(heads, features, strict=False)]
        weights = [0.5**level for level in range(len(logits))]
        terms = [
            weight * mask_loss(found, batch.target[:, :: 2**level, :: 2**level])
            for level, (weight, found) in enumerate(zip(weights, logits, strict=True))
        ]
        return {"segmentation": torch.stack(terms).sum() / sum(weights)}

    def _decoded(self, images: Images) -> list[Tensor]:
        """What the decoder's levels give, the finest first."""
        check_planned("nnunet", images.pixels, self.config.image_size)
        levels = [self.network.input_block(scaled(images.pixels))]
        for down in self.network.downsamples:
            levels.append(down(levels[-1]))
        features, decoded = self.network.bottleneck(levels[-1]), []
        for up, beside in zip(self.network.upsamples, reversed(levels), strict=True):
            features = up(features, beside)
            decoded.append(features)
        return decoded[::-1]

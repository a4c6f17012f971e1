"""Swin UNETR (Hatamizadeh et al. 2022) in two dimensions, as MONAI builds it."""

import einops  # noqa: F401 - MONAI's Swin UNETR imports it when it is built, and does not install it
import torch
from monai.networks.nets.swin_unetr import SwinUNETR
from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import check_sides, scaled
from models.swin_unetr.config import SwinUnetrConfig


class SwinUnetr(SegmentationMethod):
    """Ignores the text."""

    Config = SwinUnetrConfig
    reads_text = False

    def __init__(self, config: SwinUnetrConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        # MONAI reads numbers from tensors while it builds, and on the meta device (models/sizes.py) there are none.
        with torch.device("cpu"):
            self.network = SwinUNETR(in_channels=3, out_channels=1, feature_size=config.feature_size, spatial_dims=2)

    @property
    def first_decoder(self) -> nn.Module:
        return self.network.decoder5

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        # Of 32 pixels nothing but one position would be left, of which InstanceNorm has no deviation.
        check_sides("swin_unetr", images.pixels, 32, 64)
        logits: Tensor = self.network(scaled(images.pixels))
        return logits.squeeze(1)

"""Attention U-Net (Oktay et al. 2018) as MONAI builds it."""

from monai.networks.nets.attentionunet import AttentionUnet
from torch import Tensor, nn

from models.attention_unet.config import AttentionUNetConfig
from models.data.batches import Images, Tokens
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import check_sides, scaled


class AttentionUNet(SegmentationMethod):
    """Ignores the text."""

    Config = AttentionUNetConfig
    reads_text = False

    def __init__(self, config: AttentionUNetConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.network = AttentionUnet(
            spatial_dims=2,
            in_channels=3,
            out_channels=1,
            channels=[config.base * 2**level for level in range(5)],
            strides=[2] * 4,
        )

    @property
    def first_decoder(self) -> nn.Module:
        # MONAI nests its levels; in the order of the definition the innermost comes last.
        *_, deepest = (part for part in self.network.modules() if hasattr(part, "upconv"))
        return deepest

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        check_sides("attention_unet", images.pixels, 16, 16)
        logits: Tensor = self.network(scaled(images.pixels))
        return logits.squeeze(1)

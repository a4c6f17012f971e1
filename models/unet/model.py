"""U-Net (Ronneberger et al. 2015) in the form of LViT's published code, 14.75 M parameters at base 64."""

from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.segmentation.blocks import UNetDecoder, UNetEncoder
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import scaled
from models.unet.config import UNetConfig


class UNet(SegmentationMethod):
    """Ignores the text."""

    Config = UNetConfig
    reads_text = False

    def __init__(self, config: UNetConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = UNetEncoder(config.base)
        self.decoder = UNetDecoder(config.base, learned=True, attention=False)

    @property
    def first_decoder(self) -> nn.Module:
        return self.decoder.up[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        return self.decoder(self.encoder(scaled(images.pixels)))

"""U-Net (Ronneberger et al. 2015) in the form of LViT's published code, 14.75 M parameters at base 64."""

from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.encoders import ImageEncoder
from models.segmentation.blocks import LEVELS, UNetDecoder, UNetEncoder
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import scaled
from models.segmentation.pretrained import PatchFusion
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
        if config.image_encoder is not None:
            self.image_encoder = ImageEncoder(config.image_encoder)
            self.fusion = PatchFusion(self.image_encoder, LEVELS[-1] * config.base)

    @property
    def first_decoder(self) -> nn.Module:
        return self.decoder.up[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        levels = self.encoder(scaled(images.pixels))
        if self.config.image_encoder is not None:
            levels = self.fusion(levels, self.image_encoder(images.pixels)[1])
        return self.decoder(levels)

"""LViT (Li et al. 2023, "LViT: Language meets Vision Transformer in Medical Image Segmentation")."""

from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.encoders import TextEncoder
from models.lvit.config import LViTConfig
from models.lvit.text import NarrowText
from models.lvit.transformers import PATCH_SIZE, UShapedTransformer
from models.segmentation.blocks import UNetDecoder, UNetEncoder
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import scaled


class LViT(SegmentationMethod):
    """The U-Net of `unet` with PLAM, whose features a U-shaped transformer adds to, which reads the text.

    29.93 M parameters at base 64 and 224 pixels without the text encoder, all of them in use. Published code has
    39.93 M, of which 29.91 M are. Its loss weighs the cross-entropy by class; here it is that of every method.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = LViTConfig
    reads_text = True

    def __init__(self, config: LViTConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = UNetEncoder(config.base)
        self.decoder = UNetDecoder(config.base, learned=False, attention=True)
        self.text_encoder = TextEncoder(config.text_encoder, vocabulary_size)
        self.text = NarrowText(self.text_encoder.width, config.base)
        self.transformer = UShapedTransformer(config.base, config.image_size // PATCH_SIZE)

    @property
    def first_decoder(self) -> nn.Module:
        return self.decoder.up[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        height, width = images.pixels.shape[-2:]
        side = self.config.image_size
        if (height, width) != (side, side):
            raise ValueError(
                f"lvit has positions for images of {side} x {side} pixels, and these have {height} x {width}: "
                "set image_size to that of the shards"
            )
        *levels, deepest = self.encoder(scaled(images.pixels))
        _, words = self.text_encoder(tokens)
        changed = self.transformer(levels, self.text(words, tokens.mask), tokens.mask)
        return self.decoder([*changed, deepest])

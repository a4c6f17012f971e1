"""LViT (Li et al. 2023, "LViT: Language meets Vision Transformer in Medical Image Segmentation")."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.lvit.config import LViTConfig
from models.lvit.losses import balanced_mask_loss
from models.lvit.text import NarrowText, first_words
from models.lvit.transformers import PATCH_SIZE, UShapedTransformer
from models.segmentation.batches import SegmentationBatch
from models.segmentation.blocks import UNetDecoder, UNetEncoder
from models.segmentation.method import SegmentationMethod
from models.segmentation.pixels import check_planned, scaled
from models.text_encoder import TextEncoder


class LViT(SegmentationMethod):
    """The U-Net of `unet` with PLAM, whose features a U-shaped transformer adds to, which reads the text.

    29.93 M parameters at base 64 and 224 pixels without the text encoder, all of them in use. Published code has
    39.93 M, of which 29.91 M are, and so has `published`.

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
        self.transformer = UShapedTransformer(config.base, config.image_size // PATCH_SIZE, config.differences)

    @property
    def first_decoder(self) -> nn.Module:
        return self.decoder.up[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        # The transformers have learned positions.
        check_planned("lvit", images.pixels, self.config.image_size)
        _, text = self.text_encoder(tokens)
        if self.config.differences.reads_ten_words:
            return self.logits_with(images.pixels, *first_words(text, tokens))
        return self.logits_with(images.pixels, text, tokens.mask)

    def logits_with(self, pixels: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """Pixels and text features (batch, length, width) with their mask (batch, length) -> (batch, height, width)."""
        *levels, deepest = self.encoder(scaled(pixels))
        changed = self.transformer(levels, self.text(text, mask), mask)
        return self.decoder([*changed, deepest])

    def forward(self, batch: SegmentationBatch, losses: Sequence[str]) -> dict[str, Tensor]:
        if not self.config.differences.balances_classes:
            return super().forward(batch, losses)
        with self.autocast(batch.target.device):
            logits = self.logits(batch.images, batch.text)
        return {"segmentation": balanced_mask_loss(logits, batch.target)}

"""Ariadne as a `Method`.

`models/segmentation/language_decoder.py` says where the decoder differs from the published code's. Its fourth branch, a
projection of the whole text which nothing reads (1.77 M weights), is left out; images are normalised as their encoder
expects, and not each by its own mean and deviation.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from models.ariadne.config import AriadneConfig
from models.data.batches import Images, Tokens
from models.encoders import ImageEncoder
from models.segmentation.batches import SegmentationBatch
from models.segmentation.language_decoder import LanguageDecoder
from models.segmentation.losses import dice_loss
from models.segmentation.method import SegmentationMethod
from models.segmentation.pretrained import Pyramid
from models.text_encoder import TextEncoder


class Ariadne(SegmentationMethod):
    """ConvNeXt, BERT, and a decoder whose positions attend to the words.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = AriadneConfig
    reads_text = True

    def __init__(self, config: AriadneConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config.image_encoder)
        self.pyramid = Pyramid(self.image_encoder, config.pyramid_widths)
        self.text_encoder = TextEncoder(config.text_encoder, vocabulary_size)
        self.decoder = LanguageDecoder(
            self.pyramid.widths, self.text_encoder.width, self_heads=1, heads=config.heads, activation=True
        )

    @property
    def first_decoder(self) -> nn.Module:
        return self.decoder.blocks[0]

    def logits(self, images: Images, tokens: Tokens) -> Tensor:
        _, words = self.text_encoder(tokens)
        return self.decoder(self.pyramid(self.image_encoder, images.pixels), words, tokens.mask).logits

    def forward(self, batch: SegmentationBatch, losses: Sequence[str]) -> dict[str, Tensor]:
        if self.config.loss == "dice_and_cross_entropy":
            return super().forward(batch, losses)
        probability = self.segment(batch.images, batch.text)
        return {"segmentation": dice_loss(probability, batch.target)}

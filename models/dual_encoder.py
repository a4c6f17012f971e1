"""Two encoders and a projection of each into one space: what most methods start from."""

from dataclasses import dataclass

from torch import Tensor, nn

from models.data.batches import Images, Tokens
from models.encoders import EncoderConfig, ImageEncoder, TextEncoder, unit_length
from models.method import Method


@dataclass(frozen=True, kw_only=True)
class DualEncoderConfig:
    """Settings that every dual encoder has.

    Attributes:
        image_encoder: Any image model of `transformers`.
        text_encoder: Any text model of `transformers`.
        embedding_size: Dimensions of the shared space.
    """

    image_encoder: EncoderConfig
    text_encoder: EncoderConfig
    embedding_size: int = 512


class DualEncoder(Method):
    """Offers EmbedsImages, EmbedsRegions and EmbedsText.

    Args:
        config: Settings of the method.
        vocabulary_size: Entries of the tokenizer.
    """

    max_regions = 0

    def __init__(self, config: DualEncoderConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config.image_encoder)
        self.text_encoder = TextEncoder(config.text_encoder, vocabulary_size)
        self.image_projection: nn.Module = nn.Linear(self.image_encoder.width, config.embedding_size, bias=False)
        self.text_projection: nn.Module = nn.Linear(self.text_encoder.width, config.embedding_size, bias=False)

    def visible_crop(self, side: int) -> slice:
        return self.image_encoder.visible_crop(side)

    def embed_images(self, images: Images) -> Tensor:
        return self.embed_pixels(images.pixels)

    def embed_regions(self, images: Images) -> Tensor:
        """A crop like a whole image: the method knows no better way."""
        return self.embed_pixels(images.crops)

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """(rows, 3, height, width), 0 to 255 -> (rows, embedding_size), of length 1."""
        whole, _ = self.image_encoder(pixels)
        return unit_length(self.image_projection(whole))

    def embed_text(self, tokens: Tokens) -> Tensor:
        whole, _ = self.text_encoder(tokens)
        return unit_length(self.text_projection(whole))

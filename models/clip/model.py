"""CLIP (Radford et al. 2021) with a fixed temperature, on the seams that every method shares."""

from collections.abc import Sequence

from torch import Tensor, nn

from models.clip.config import ClipConfig
from models.data.batches import Batch, Images, Tokens
from models.encoders import ImageEncoder, TextEncoder, unit_length
from models.losses import info_nce
from models.method import Method


class Clip(Method):
    """Dual encoder; offers EmbedsImages and EmbedsText.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = ClipConfig
    losses = ("report", "summary")
    max_regions = 0

    def __init__(self, config: ClipConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config.image_encoder)
        self.text_encoder = TextEncoder(config.text_encoder, vocabulary_size)
        self.image_projection = nn.Linear(self.image_encoder.width, config.embedding_size, bias=False)
        self.text_projection = nn.Linear(self.text_encoder.width, config.embedding_size, bias=False)

    def embed_images(self, images: Images) -> Tensor:
        whole, _ = self.image_encoder(images.pixels)
        return unit_length(self.image_projection(whole))

    def embed_text(self, tokens: Tokens) -> Tensor:
        whole, _ = self.text_encoder(tokens)
        return unit_length(self.text_projection(whole))

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The losses asked for, each a scalar; the training loop adds them up."""
        images = self.embed_images(batch.images)
        found = {}
        if "report" in losses:
            found["report"] = info_nce(images, self.embed_text(batch.report), self.config.temperature)
        if "summary" in losses:
            summaries = self.embed_text(batch.summary)
            found["summary"] = info_nce(images, summaries, self.config.temperature, valid=batch.has_summary)
        return found

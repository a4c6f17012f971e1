"""GLoRIA as a `Method`.

Other than in the paper, local features are those of the encoders' last layer (the code has the third block of a
ResNet-50 and the sum of BERT's last four layers), and a word is the mean of its pieces (the code adds them up).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.data.batches import Batch, Images, Tokens
from models.dual_encoder import DualEncoder
from models.encoders import unit_length
from models.gloria.config import GloriaConfig
from models.gloria.losses import attend, local_loss, with_a_word
from models.losses import info_nce
from models.token_layout import as_grid
from models.words import pool_words


class Gloria(DualEncoder):
    """A contrastive loss between images and reports as wholes, and one between their patches and words.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = GloriaConfig
    losses = ("report", "local")

    def __init__(self, config: GloriaConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        self.patch_projection = nn.Linear(self.image_encoder.width, config.embedding_size, bias=False)
        self.word_projection = nn.Linear(self.text_encoder.width, config.embedding_size, bias=False)

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        config = self.config
        image, patches = self.image_encoder(batch.images.pixels)
        text, pieces = self.text_encoder(batch.report)
        terms = self.sentence_terms(batch, patches, losses)
        if "report" in losses:
            images, reports = unit_length(self.image_projection(image)), unit_length(self.text_projection(text))
            terms["report"] = info_nce(images, reports, config.temperature, keys=self.target_keys(batch.report))
        if "local" in losses:
            words, mask = pool_words(pieces, batch.report)
            # Memory is short where the encoders work in parts.
            recompute = self.text_encoder.rows_at_a_time is not None
            patches, words = self.patch_projection(patches), self.word_projection(words)
            terms["local"] = local_loss(patches, words, mask, config, recompute=recompute)
        return terms

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        """The attention of a phrase, the mean of its words': (batch, rows, columns)."""
        patches = self.patch_projection(self.image_encoder(images.pixels)[1])
        words, mask = pool_words(self.text_encoder(tokens)[1], tokens)
        temperature = self.config.attention_temperature
        maps = [
            attend(row[inside], own, temperature)[1].mean(dim=0)
            for row, inside, own in zip(self.word_projection(words), with_a_word(mask), patches, strict=True)
        ]
        return as_grid(torch.stack(maps))

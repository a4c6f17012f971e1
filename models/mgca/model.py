"""MGCA as a `Method`.

Other than in the published code, the projections have no BatchNorm, which would mix the rows of a batch and differ
between workers, and the prototypes learn from the first step (the code holds them for one epoch).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.data.batches import Batch, Images, Tokens
from models.dual_encoder import DualEncoder
from models.encoders import unit_length
from models.losses import info_nce
from models.mgca.config import MgcaConfig
from models.mgca.losses import prototype_loss, token_loss
from models.projection import non_linear_projection
from models.token_layout import as_grid
from models.words import pool_words


class Mgca(DualEncoder):
    """Contrast of images and reports, of patches and words, and of the clusters of both.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = MgcaConfig
    losses = ("report", "token", "prototype")

    def __init__(self, config: MgcaConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        hidden, size = config.hidden_size, config.embedding_size
        image_width, text_width = self.image_encoder.width, self.text_encoder.width
        self.image_projection = non_linear_projection(image_width, hidden, size)
        self.text_projection = non_linear_projection(text_width, hidden, size)
        self.patch_projection = non_linear_projection(image_width, hidden, size)
        self.word_projection = non_linear_projection(text_width, hidden, size)
        self.prototypes = nn.Parameter(torch.randn(config.prototypes, size))

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        config = self.config
        image, patches = self.image_encoder(batch.images.pixels)
        text, pieces = self.text_encoder(batch.report)
        images, reports = unit_length(self.image_projection(image)), unit_length(self.text_projection(text))
        terms = self.sentence_terms(batch, patches, losses)
        if "report" in losses:
            terms["report"] = info_nce(images, reports, config.temperature, keys=self.target_keys(batch.report))
        if "token" in losses:
            words, mask = self._words(pieces, batch.report)
            aligned = token_loss(words, self._patches(patches), mask, config.token_temperature)
            terms["token"] = config.token_weight * aligned
        if "prototype" in losses:
            prototypes = unit_length(self.prototypes)
            clustered = prototype_loss(
                images @ prototypes.T,
                reports @ prototypes.T,
                temperature=config.prototype_temperature,
                sinkhorn_temperature=config.sinkhorn_temperature,
                sinkhorn_iterations=config.sinkhorn_iterations,
            )
            terms["prototype"] = config.prototype_weight * clustered
        return terms

    def ground(self, images: Images, tokens: Tokens) -> Tensor:
        """The attention of a phrase, the mean of its words': (batch, rows, columns)."""
        patches = self._patches(self.image_encoder(images.pixels)[1])
        words, mask = self._words(self.text_encoder(tokens)[1], tokens)
        attention = (words @ patches.mT / self.config.token_temperature).softmax(dim=-1)
        weight = mask.unsqueeze(-1).to(attention.dtype)
        return as_grid((attention * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1))

    def _patches(self, patches: Tensor) -> Tensor:
        return unit_length(self.patch_projection(patches))

    def _words(self, pieces: Tensor, tokens: Tokens) -> tuple[Tensor, Tensor]:
        words, mask = pool_words(pieces, tokens)
        return unit_length(self.word_projection(words)), mask

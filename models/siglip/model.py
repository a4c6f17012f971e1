"""SigLIP as a `Method`."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.data.batches import Batch
from models.dual_encoder import DualEncoder
from models.encoders import unit_length
from models.siglip.config import SiglipConfig
from models.siglip.losses import sigmoid_loss


class Siglip(DualEncoder):
    """The sigmoid loss between whole images and texts.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = SiglipConfig
    losses = ("report", "summary")

    def __init__(self, config: SiglipConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        self.bias = nn.Parameter(torch.tensor(config.initial_bias))

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        whole, patches = self.image_encoder(batch.images.pixels)
        images = unit_length(self.image_projection(whole))
        terms = self.sentence_terms(batch, patches, losses)
        scale = self.log_scale, self.bias
        if "report" in losses:
            reports, keys = self.embed_text(batch.report), self.target_keys(batch.report)
            terms["report"] = sigmoid_loss(images, reports, *scale, keys=keys)
        if "summary" in losses:
            summaries, keys = self.embed_text(batch.summary), self.target_keys(batch.summary)
            terms["summary"] = sigmoid_loss(images, summaries, *scale, valid=batch.has_summary, keys=keys)
        return terms

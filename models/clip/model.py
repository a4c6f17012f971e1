"""CLIP (Radford et al. 2021) with a fixed temperature, as a `Method`."""

from collections.abc import Sequence

from torch import Tensor

from models.clip.config import ClipConfig
from models.data.batches import Batch
from models.dual_encoder import DualEncoder
from models.encoders import unit_length
from models.losses import info_nce


class Clip(DualEncoder):
    """One contrastive loss between whole images and texts."""

    Config = ClipConfig
    losses = ("report", "summary")

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        whole, patches = self.image_encoder(batch.images.pixels)
        images = unit_length(self.image_projection(whole))
        terms = self.sentence_terms(batch, patches, losses)
        temperature = self.config.temperature
        if "report" in losses:
            reports, keys = self.embed_text(batch.report), self.target_keys(batch.report)
            terms["report"] = info_nce(images, reports, temperature, keys=keys)
        if "summary" in losses:
            summaries, keys = self.embed_text(batch.summary), self.target_keys(batch.summary)
            terms["summary"] = info_nce(images, summaries, temperature, valid=batch.has_summary, keys=keys)
        return terms

"""CLIP (Radford et al. 2021) with a fixed temperature, on the seams that every method shares."""

from collections.abc import Sequence

from torch import Tensor

from models.clip.config import ClipConfig
from models.data.batches import Batch
from models.dual_encoder import DualEncoder
from models.losses import info_nce


class Clip(DualEncoder):
    """One contrastive loss between whole images and texts."""

    Config = ClipConfig
    losses = ("report", "summary")

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

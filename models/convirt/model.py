"""ConVIRT as a `Method`.

The paper draws one sentence of the report for each step; here the whole report is read, as by every other method, so
that a comparison is one of losses. It pools the text by the maximum over tokens; here `text_encoder.pooling` decides.
"""

from collections.abc import Sequence

from torch import Tensor

from models.convirt.config import ConvirtConfig
from models.convirt.losses import weighted_info_nce
from models.data.batches import Batch
from models.dual_encoder import DualEncoder
from models.encoders import unit_length
from models.projection import non_linear_projection


class Convirt(DualEncoder):
    """One contrastive loss between whole images and reports.

    Args:
        config: Settings.
        vocabulary_size: Entries of the tokenizer.
    """

    Config = ConvirtConfig
    losses = ("report",)

    def __init__(self, config: ConvirtConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        size = config.embedding_size
        self.image_projection = non_linear_projection(self.image_encoder.width, size, size)
        self.text_projection = non_linear_projection(self.text_encoder.width, size, size)

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        """The requested losses, each a scalar; the training loop adds them up."""
        config = self.config
        whole, patches = self.image_encoder(batch.images.pixels)
        terms = self.sentence_terms(batch, patches, losses)
        if "report" in losses:
            images, reports = unit_length(self.image_projection(whole)), self.embed_text(batch.report)
            keys = self.target_keys(batch.report)
            terms["report"] = weighted_info_nce(images, reports, config.temperature, config.image_to_text, keys=keys)
        return terms

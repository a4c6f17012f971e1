"""Settings of the method."""

from dataclasses import dataclass

from models.dual_encoder import DualEncoderConfig
from models.ranges import above_zero, at_least


@dataclass(frozen=True, kw_only=True)
class PriorConfig(DualEncoderConfig):
    """Settings of `Prior`; the defaults are those of the published code (github.com/QtacierP/PRIOR).

    Attributes:
        temperature: Of the contrast of images and reports; where training starts from.
        local_temperature: Of the contrast of a report's sentences; likewise.
        heads: Of the attention that makes a report of its sentences, and of the decoder of sentences.
        prototypes: Rows of the memory.
        gumbel_temperature: Of the choice among them.
        prototype_weight: Of the distance of sentences and prototypes, in the losses `prototype` and `text`.
        report_weight: Of the loss `report` beside a reconstruction.
        queries: Sentences of a report that are reconstructed, at most.
        decoder_layers: Of the decoder of sentences.
        decoder_feed_forward: Features inside its perceptrons.
        image_dropout: Channels of the image's patches that the reconstruction of the image does not see.
    """

    embedding_size: int = 768
    temperature: float = 0.01
    local_temperature: float = 0.01
    heads: int = 8
    prototypes: int = 512
    gumbel_temperature: float = 0.9
    prototype_weight: float = 10.0
    report_weight: float = 10.0
    queries: int = 16
    decoder_layers: int = 8
    decoder_feed_forward: int = 3072
    image_dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(1, heads=self.heads, prototypes=self.prototypes, queries=self.queries)
        at_least(1, decoder_layers=self.decoder_layers, decoder_feed_forward=self.decoder_feed_forward)
        above_zero(prototype_weight=self.prototype_weight, report_weight=self.report_weight)
        if self.embedding_size % self.heads:
            raise ValueError(f"heads {self.heads} do not divide the embedding_size of {self.embedding_size}")
        if not 0 <= self.image_dropout < 1:
            raise ValueError(f"image_dropout is {self.image_dropout}; give a number from 0 to below 1")
        if self.image_encoder.crop is not None:
            raise ValueError("image_encoder.crop shows the encoder a part of what is reconstructed: remove it")

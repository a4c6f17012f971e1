"""Settings of the method."""

from dataclasses import dataclass, field

from models.encoders import EncoderConfig
from models.ranges import at_least
from models.text import normalise


@dataclass(frozen=True, kw_only=True)
class MedklipConfig:
    """Settings of `Medklip`; the defaults are those of the published code (github.com/MediaBrain-SJTU/MedKLIP).

    Attributes:
        image_encoder: Its patches are what the entities look at.
        text_encoder: Of descriptions, positions and phrases.
        width: Features of queries, of patches and in the decoder.
        layers: Of the decoder.
        heads: Of each attention.
        feed_forward: Features inside a layer's perceptron.
        dropout: In the layers, and on what they give.
        entities: Entity -> its description, the text that asks for it. Without any, the stage `train` takes what the
            training images' labels name, the most frequent first, each described by its name.
        max_entities: Of those that `train` takes.
        description_length: Tokens of a description, special ones included; longer ones lose their end.
        named: Source -> entities that its labels name, which an image with labels has or lacks; `train` fills it in.
    """

    image_encoder: EncoderConfig
    text_encoder: EncoderConfig
    width: int = 256
    layers: int = 4
    heads: int = 4
    feed_forward: int = 1024
    dropout: float = 0.1
    entities: dict[str, str] = field(default_factory=dict)
    max_entities: int = 75
    description_length: int = 64
    named: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        at_least(1, width=self.width, layers=self.layers, heads=self.heads, feed_forward=self.feed_forward)
        at_least(1, max_entities=self.max_entities)
        at_least(3, description_length=self.description_length)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; give a number from 0 to below 1")
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} do not divide the width of {self.width}")
        if len({normalise(entity) for entity in self.entities}) < len(self.entities):
            raise ValueError("entities names one twice: case and punctuation make no other entity")

"""Settings of the method."""

from dataclasses import dataclass

from models.dual_encoder import DualEncoderConfig


@dataclass(frozen=True, kw_only=True)
class GloriaConfig(DualEncoderConfig):
    """Settings of `Gloria`; temperatures divide, so they are 1 over temp1, temp2, temp3 of the published code.

    Attributes:
        temperature: Of both contrastive losses; 1 / temp3.
        attention_temperature: Of a word's attention over the patches; 1 / temp1.
        word_temperature: Of the log-sum-exp that makes one similarity of those of the words; 1 / temp2.
    """

    temperature: float = 0.1
    attention_temperature: float = 0.25
    word_temperature: float = 0.2

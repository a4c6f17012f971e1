"""Where the paper and the published code differ, each decided here."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to read RecLMIS; what is not named here is the same in both.

    Attributes:
        sequential: Patches attend to the words that have already attended to them; else both attend to what the
            encoders gave (section III-B).
        convolves_read_words: Convolution, BatchNorm and ReLU between the words that have attended and their interest.
        repeats_softmax: The contrast takes the softmax of weights that are softmaxed already, which leaves them
            nearly equal: an accident.
        after_softmax: The condition multiplies attention after the softmax, which is then renormalised; else the
            scores before it (eqs. 7 and 9). Weights of sum 1 are small: as printed, the scores shrink by the number
            of words, or of patches, and attention is the flatter for it.
        causal: No position sees a later one in self-attention, though patches have no direction: an accident.
        adds_positions: Sinusoidal positions on what is reconstructed. The paper has none; but without them or the
            causal mask, all hidden positions would be reconstructed alike.
        weighted_error: Errors weighed by interest (eqs. 8 and 10), or plain means.
        reconstructs_read: What is to be reconstructed: patches after the interaction, with gradient, and the text
            encoder's features. Else what entered (V and E of eqs. 8 and 10), held: a target that learns can shrink
            until it is met.
        halves_mask_loss: 0.5 Dice with squares + 0.5 cross-entropy, or Dice + cross-entropy (eq. 11).
    """

    sequential: bool
    convolves_read_words: bool
    repeats_softmax: bool
    after_softmax: bool
    causal: bool
    adds_positions: bool
    weighted_error: bool
    reconstructs_read: bool
    halves_mask_loss: bool


VARIANTS = {
    "paper": Variant(
        sequential=False,
        convolves_read_words=False,
        repeats_softmax=False,
        after_softmax=False,
        causal=False,
        adds_positions=True,
        weighted_error=True,
        reconstructs_read=False,
        halves_mask_loss=False,
    ),
    "published": Variant(
        sequential=True,
        convolves_read_words=True,
        repeats_softmax=True,
        after_softmax=True,
        causal=True,
        adds_positions=False,
        weighted_error=False,
        reconstructs_read=True,
        halves_mask_loss=True,
    ),
}

"""Where the paper and the published code differ, each decided here.

`tests/models/test_reclmis_published.py` compares `published` with what the published modules compute of the same
weights. Published code differs from `published` in this, too:

- Weights that cannot change anything are not there: CLIP's image tower, the bias of keys and of the last layer of the
  interest, a convolution of PLAM that is not called, attention of the reconstructors' source to nothing.
- Masks are drawn with numpy's generator, from the same distribution. A reconstruction loss that is not a number counts
  as 0, and any error there switches all losses but the mask's off for good: here it ends the training.
- Settings, not code: 4 layers and mask ratios of 0.3 (words) and 0.5 (patches) for QaTa-COV19, 3 layers and 0.3 for
  MosMedData+; dropout before the interest with MosMedData+ and MoNuSeg. Texts are cut at 18 tokens, of which
  `training.max_length` decides here: a longer text has more places.
- Cross-entropy is of probabilities, whose logarithm stops at -100; here it is of logits.
- Pixels are in the order blue, green, red. Weights begin as xavier has them in the reconstructors, here as torch has
  them. CLIP's text tower stays frozen; here it may be trained, and its features as a target are held.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to read RecLMIS; what is not named here is the same in both.

    Attributes:
        projects_text: Words are what CLIP's `text_projection` makes of the last layer's tokens, if the text encoder is
            CLIP's text tower; else the tokens of the last layer.
        reads_padding: Texts have `text_length` tokens, and what is missing is filled with token 0, which is read as a
            word: convolved, attended to, in the statistics of BatchNorm, reconstructed. It has no interest and is not
            drawn; the contrast takes its cosine for 0, and after the second softmax it has weight. Else padding
            changes nothing.
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

    projects_text: bool
    reads_padding: bool
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
        projects_text=False,
        reads_padding=False,
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
        projects_text=True,
        reads_padding=True,
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

"""Where this LViT and the published code differ, each decided here.

`tests/models/test_lvit_published.py` compares `published` with what the published modules compute of the same weights.
Published code differs from `published` in this, too:

- 10 M parameters are not there that are made and never used: a PLAM for each level, a convolution in every PLAM, and
  most of what each transformer has beside its layer, as the embedding of patches on the way up.
- A text of fewer than ten words cannot be read; here zeros stand for what is missing.
- Cross-entropy is of probabilities, whose logarithm stops at -100; here it is of logits.
- Pixels are in the order blue, green, red. The weights of the transformers' MLP begin as xavier has them, here as torch
  has them.
- The loss of unlabelled images by the similarity of their texts (LV loss) is in published code as a class that nothing
  uses, and in neither variant.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LvitVariant:
    """One form of LViT; what is not named here is the same in both.

    Attributes:
        reads_ten_words: The first ten words, each the mean of its tokens, are the channels of a convolution that makes
            of them what each position takes; most captions that name both sides of QaTa-COV19 lose "right". Else each
            position attends to all tokens, whatever their number.
        gelu_twice: A second GELU behind the MLP of a transformer's layer, which leaves it nothing negative to add.
        balances_classes: 0.5 Dice with squares + 0.5 cross-entropy, in which the findings' pixels of a batch weigh as
            much as the others; else the loss of every method.
    """

    reads_ten_words: bool
    gelu_twice: bool
    balances_classes: bool


VARIANTS = {
    "adapted": LvitVariant(reads_ten_words=False, gelu_twice=False, balances_classes=False),
    "published": LvitVariant(reads_ten_words=True, gelu_twice=True, balances_classes=True),
}

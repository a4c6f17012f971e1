"""From the similarity of words and patches to soft regions (paper 000, eqs. 4 to 11 and 14).

Eq. 6 and eq. 8 are softmaxes over all pairs (i, j) of a sum of one term of the word i and one of the patch j, so they
are the outer product of a softmax over words and one over patches; nothing of the size words x patches is stored for
them.

Shapes in comments: B texts with their images, W words, P patches, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Eq. 9: both sums are the sum of Phi(i, j) S(i, j) over all pairs, so with Z their total both weights are 1/2,
# whatever S is. The balancing of words and patches that the paper describes does not take place.
BALANCE = 0.5


@dataclass(frozen=True)
class CoImportance:
    """Phi of eqs. 6 and 8: Phi(i, j) = words(i) patches(j).

    Attributes:
        words: (texts, words) softmax over the words of each text, 0 on absent ones.
        patches: (texts, patches) softmax over the patches.
    """

    words: Tensor
    patches: Tensor


def similarity(words: Tensor, patches: Tensor) -> Tensor:
    """S of eq. 4: (texts, words, width) and (texts, patches, width) -> (texts, words, patches)."""
    return torch.bmm(words, patches.transpose(1, 2))  # (B, W, D) x (B, D, P) -> (B, W, P)


def smoothed(current: Tensor, previous: Tensor, smoothing: float) -> Tensor:
    """What eq. 14 hands to the next alignment; both (texts, words, patches)."""
    return smoothing * current + (1 - smoothing) * previous


def initial_importance(scores: Tensor, present: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """gamma^init of eq. 5. Its printed indices sum over the word itself; the mean of a word runs over the patches.

    Args:
        scores: S, (texts, words, patches).
        present: (texts, words) bool; absent words count nowhere.
        alpha: Weight of a word's standard deviation over the patches, a scalar.
        beta: Weight of a patch's standard deviation over the words, a scalar.

    Returns:
        Importance of words (texts, words), undefined on absent ones, and of patches (texts, patches).
    """
    weight = present.unsqueeze(-1).to(scores.dtype)  # (B, W, 1)
    count = weight.sum(dim=1).clamp(min=1)  # (B, 1)
    mean = (scores * weight).sum(dim=1) / count  # (B, P), over the words
    variance = ((scores - mean.unsqueeze(1)).square() * weight).sum(dim=1) / count  # (B, P)
    words = scores.mean(dim=2) + alpha * _deviation(scores.var(dim=2, correction=0))  # (B, W)
    return words, mean + beta * _deviation(variance)


def _deviation(variance: Tensor) -> Tensor:
    # A single word has variance 0, where the root has no gradient.
    positive = variance > torch.finfo(variance.dtype).tiny
    return torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)


def co_importance(words: Tensor, patches: Tensor, present: Tensor) -> CoImportance:
    """Eqs. 6 and 8: importance of words (texts, words) and patches (texts, patches) -> Phi; all 0 without words."""
    masked = words.masked_fill(~present, torch.finfo(words.dtype).min)
    return CoImportance(masked.softmax(dim=1) * present, patches.softmax(dim=1))


def refined_importance(scores: Tensor, phi: CoImportance) -> tuple[Tensor, Tensor]:
    """gamma^refine of eq. 7: sums over patches and over words of Phi(i, j) S(i, j)."""
    words = phi.words * torch.bmm(scores, phi.patches.unsqueeze(2)).squeeze(2)  # (B, W, P) x (B, P, 1) -> (B, W)
    patches = phi.patches * torch.bmm(phi.words.unsqueeze(1), scores).squeeze(1)  # (B, 1, W) x (B, W, P) -> (B, P)
    return words, patches


def align(
    scores: Tensor, present: Tensor, alpha: Tensor, beta: Tensor, *, refine: bool, rescale: bool
) -> tuple[CoImportance, Tensor]:
    """Eqs. 5 to 9, and the importance by which keywords are chosen.

    Args:
        scores: S, (texts, words, patches).
        present: (texts, words) bool.
        alpha: See `initial_importance`.
        beta: See `initial_importance`.
        refine: Eqs. 7 to 9; False stops after eq. 6.
        rescale: Means instead of sums in eq. 7, which is Phi times the number of its entries.

    Returns:
        Phi^refine, or Phi without `refine`, and the importance of each word (texts, words): the row sums of S^Phi
        (the text after eq. 11), or gamma^init without `refine`.
    """
    words, patches = initial_importance(scores, present, alpha, beta)
    phi = co_importance(words, patches, present)
    if not refine:
        return phi, words
    word_count = present.sum(dim=1, keepdim=True) if rescale else 1  # (B, 1)
    patch_count = scores.shape[2] if rescale else 1
    words, patches = refined_importance(scores, phi)
    phi = co_importance(BALANCE * words * word_count, BALANCE * patches * patch_count, present)
    return phi, refined_importance(scores, phi)[0] * word_count


def soft_regions(scores: Tensor, phi: CoImportance, patches: Tensor) -> Tensor:
    """Eqs. 10 and 11 and the pooling after eq. 12: the mean over patches of Phi(i, j) S(i, j) g(I)_j, for each word.

    Args:
        scores: S, (texts, words, patches).
        phi: Weights.
        patches: g(I), (texts, patches, width).

    Returns:
        (texts, words, width), before the linear projection.
    """
    pooled = torch.bmm(scores, phi.patches.unsqueeze(2) * patches)  # (B, W, P) x (B, P, D) -> (B, W, D)
    return phi.words.unsqueeze(2) * pooled / patches.shape[1]

"""The losses of eq. 11. Means over the rows of a batch: the mean over workers is the loss of the joined batch.

Letters in einsum and shapes in comments: i images, t texts, p patches, w words, d width.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from models.distributed import all_gather_padded, rank, world_size
from models.reclmis.sequences import Sequences
from models.segmentation.losses import dice_loss


def similarity(patches: Sequences, words: Sequences) -> Tensor:
    """S of eq. 5 of every image with every text.

    Padding that is read has a cosine of 0, which a patch that resembles no word takes for its maximum.

    Args:
        patches: v and w_v of the images.
        words: e and w_e of the texts.

    Returns:
        (images, texts), -1 to 1.
    """
    cosine = torch.einsum("ipd,twd->itpw", F.normalize(patches.features, dim=-1), F.normalize(words.features, dim=-1))
    cosine = cosine * words.mask[None, :, None]
    best_word = cosine.masked_fill(~words.read[None, :, None], -torch.inf).amax(dim=3)  # (i, t, p)
    of_patches = torch.einsum("ip,itp->it", patches.weights, best_word)
    of_words = torch.einsum("tw,itw->it", words.weights, cosine.amax(dim=2))  # the best patch: (i, t, w)
    return (of_patches + of_words) / 2


def contrastive_loss(patches: Sequences, words: Sequences, temperature: float) -> Tensor:
    """CCL, eq. 6, with the temperature inside the exponent: outside, where the paper prints it, it cancels.

    Args:
        patches: Of the images.
        words: Of the texts; text i belongs to image i.
        temperature: tau, divides S.

    Returns:
        Mean of both directions over the rows of all workers, whose rows are each other's negatives.
    """
    if world_size() == 1:
        images = similarity(patches, words)
        texts = images.T
    else:
        images = similarity(patches, _of_all(words))
        texts = similarity(_of_all(patches), words).T
    own = torch.arange(len(images), device=images.device) + rank() * len(images)
    return (F.cross_entropy(images / temperature, own) + F.cross_entropy(texts / temperature, own)) / 2


def _of_all(sequences: Sequences) -> Sequences:
    """Those of all workers, in rank order."""
    return Sequences(
        features=all_gather_padded(sequences.features),
        weights=all_gather_padded(sequences.weights),
        mask=all_gather_padded(sequences.mask),
        read=all_gather_padded(sequences.read),
    )


def softmax_again(sequences: Sequences) -> Sequences:
    """The softmax of weights that are softmaxed already, as published code has it; see `Variant.repeats_softmax`."""
    return replace(sequences, weights=sequences.weights.masked_fill(~sequences.read, -torch.inf).softmax(dim=-1))


def weighted_error(reconstructed: Tensor, target: Tensor, given: Sequences) -> Tensor:
    """Eqs. 8 and 10: squared distances of the vectors, weighed; both the weights and 1/N divide by their number.

    Args:
        reconstructed: (rows, n, width).
        target: (rows, n, width).
        given: Whose weights count; N, or L, is the number of its positions that are no padding.

    Returns:
        Mean over the rows.
    """
    squared = (target - reconstructed).square().sum(dim=-1)
    return ((given.weights * squared).sum(dim=1) / given.mask.sum(dim=1)).mean()


def plain_error(reconstructed: Tensor, target: Tensor, given: Sequences) -> Tensor:
    """Mean squared error, as published code has it in the place of eqs. 8 and 10.

    Args:
        reconstructed: (rows, n, width).
        target: (rows, n, width).
        given: Whose positions that are read count; their weights do not.

    Returns:
        Mean over the rows; a text counts as much as another, whatever its length.
    """
    squared = (target - reconstructed).square().mean(dim=-1)
    return ((squared * given.read).sum(dim=1) / given.read.sum(dim=1)).mean()


def halved_mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """0.5 Dice + 0.5 cross-entropy, as published code has it; see `mask_loss`.

    Its Dice halves probabilities and targets before it squares them, which makes its smoothing of 1e-5 count four
    times: an empty target costs nearly 1 unless no pixel at all is predicted.
    """
    logits = logits.float()
    dice = dice_loss(logits.sigmoid(), target, squared=True, smooth=4e-5)
    return (dice + F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))) / 2

"""GLoRIA's local contrast: words attend to patches, and the words of a text vote on the image.

The published code (github.com/marshuang80/gloria, gloria/loss/gloria_loss.py) is followed where it differs from the
paper: it takes a softmax over the words before the one over the patches.

Shapes in comments: I images, W words of one text, P patches, D dimensions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from models.distributed import all_gather, all_gather_padded, rank, world_size
from models.gloria.config import GloriaConfig


def attend(words: Tensor, patches: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Where each word of one text looks.

    Args:
        words: (words, dimensions) of one text, without padding.
        patches: (..., patches, dimensions) of images.
        temperature: Divides the softmax over words before that over patches.

    Returns:
        Similarity s = t.v and attention a, each (..., words, patches); a adds up to 1 over the patches.
    """
    similarity = words @ patches.mT  # (W, D) x (..., D, P) -> (..., W, P)
    return similarity, (similarity.softmax(dim=-2) / temperature).softmax(dim=-1)


def text_similarity(words: Tensor, patches: Tensor, config: GloriaConfig) -> Tensor:
    """Z of one text with images: log sum over words exp(cos(word, attended patches) / word_temperature).

    Args:
        words: (words, dimensions) of the text, without padding.
        patches: (images, patches, dimensions).
        config: Its temperatures.

    Returns:
        (images,).
    """
    similarity, attention = attend(words, patches, config.attention_temperature)
    attended = attention @ patches  # (I, W, P) x (I, P, D) -> (I, W, D)
    # word . attended = sum over patches of a s: s is there already, and is no larger than `attended`.
    dot = (attention * similarity).sum(dim=-1)  # (I, W)
    cosine = dot / (attended.norm(dim=-1) * words.norm(dim=-1)).clamp(min=1e-8)
    return torch.logsumexp(cosine / config.word_temperature, dim=-1)


def local_similarity(
    patches: Tensor, words: Tensor, mask: Tensor, config: GloriaConfig, *, recompute: bool = False
) -> Tensor:
    """Z of every image with every text, a text at a time: no padding is computed, and blocks stay in the cache.

    Args:
        patches: (images, patches, dimensions).
        words: (texts, words, dimensions).
        mask: (texts, words) bool, true on words.
        config: Its temperatures.
        recompute: Hold the attention of one text only; the others' is computed again in the backward pass.

    Returns:
        (images, texts).
    """
    mask = with_a_word(mask)
    columns = []
    for row, inside in zip(words, mask, strict=True):
        arguments = (row[inside], patches, config)
        columns.append(
            checkpoint(text_similarity, *arguments, use_reentrant=False) if recompute else text_similarity(*arguments)
        )
    return torch.stack(columns, dim=1)


def with_a_word(mask: Tensor) -> Tensor:
    """The mask, where a text without words has its first one, which is 0 and so similar to nothing."""
    first = torch.arange(mask.shape[1], device=mask.device) == 0
    return mask | (first & ~mask.any(dim=1, keepdim=True))


def local_loss(
    patches: Tensor, words: Tensor, mask: Tensor, config: GloriaConfig, *, recompute: bool = False
) -> Tensor:
    """InfoNCE over Z, the mean of both directions (the code adds them up; so it does for the global loss).

    Args:
        patches: (rows, patches, dimensions).
        words: (rows, words, dimensions); text i belongs to image i.
        mask: (rows, words) bool, true on words.
        config: Its temperatures.
        recompute: See `local_similarity`.

    Returns:
        Mean over the rows of all workers.
    """
    if world_size() == 1:
        images = local_similarity(patches, words, mask, config, recompute=recompute)
        texts = images.T
    else:
        everyone = all_gather(patches), all_gather_padded(words), all_gather_padded(mask)
        images = local_similarity(patches, *everyone[1:], config, recompute=recompute)
        texts = local_similarity(everyone[0], words, mask, config, recompute=recompute).T
    target = torch.arange(len(patches), device=patches.device) + rank() * len(patches)
    scale = config.temperature
    return (F.cross_entropy(images / scale, target) + F.cross_entropy(texts / scale, target)) / 2

"""Each sentence of a report against the patches of the images of a batch.

A finding covers a few patches; in the mean of all it is lost. Here the patch that fits a sentence best speaks for the
image, as in FILIP (Yao et al. 2021, arXiv:2111.07783), whose maximum is soft here, with sentences in the place of
words, as in GLoRIA (Huang et al. 2021) and CARZero (Lai et al. 2024, arXiv:2402.17417), whose local parts are an
attention instead. No mask or box is used.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.blocks import by_blocks
from models.distributed import all_gather, all_gather_padded, all_reduce_sum, world_size


@dataclass(frozen=True)
class Sentences:
    """The distinct sentences of a worker's reports.

    Attributes:
        embeddings: (sentences, dimensions), of length 1.
        keys: (sentences,) int64, equal for equal sentences (`models.token_keys.text_keys`).
        owner: (images, sentences) bool, true where the image's report has the sentence.
    """

    embeddings: Tensor
    keys: Tensor
    owner: Tensor


def sentence_scores(patches: Tensor, sentences: Tensor, temperature: float) -> Tensor:
    """log of the mean over patches of exp(cos(patch, sentence) / temperature): the soft maximum of the cosine.

    Args:
        patches: (images, patches, dimensions), of length 1.
        sentences: (sentences, dimensions), of length 1.
        temperature: Divides the cosine; near 0 the best patch alone counts.

    Returns:
        (images, sentences); times the temperature, between the mean and the maximum of the cosines.
    """
    cosine = torch.einsum("ipd,sd->isp", patches, sentences)
    return torch.logsumexp(cosine / temperature, dim=2) - math.log(patches.shape[1])


def sentence_loss(patches: Tensor, sentences: Sentences, temperature: float) -> Tensor:
    """InfoNCE of every pair of an image and a sentence of its report, the mean of both directions.

    A sentence is contrasted with the images whose reports lack it, and an image with the sentences that its report
    lacks: several images with one sentence, or several sentences of one image, are never one another's negatives.

    Args:
        patches: (images, patches, dimensions) of this worker, of length 1.
        sentences: Of this worker's reports.
        temperature: See `sentence_scores`, which are the logits.

    Returns:
        The mean over the sentences of an image, over all images of all workers that have any; 0 without any. A worker
        holds the scores of its own images; of those of the others it gets a sum for each sentence.
    """
    keys, embeddings, places = _distinct(sentences)
    image, sentence = sentences.owner.nonzero(as_tuple=True)
    owner = torch.zeros(len(patches), len(keys), dtype=torch.bool, device=patches.device)
    owner[image, places[sentence]] = True
    # (images of this worker, sentences of all)
    columns = len(keys) * patches.shape[1]
    logits = torch.cat(by_blocks(lambda rows: sentence_scores(rows, embeddings, temperature), [patches], columns))
    count = owner.sum(dim=1)
    total = all_reduce_sum((count > 0).sum())
    if total == 0:
        return (patches.sum() + sentences.embeddings.sum()) * 0.0
    others = logits.masked_fill(owner, torch.finfo(logits.dtype).min)
    of_images = all_gather(others.logsumexp(dim=0, keepdim=True)).logsumexp(dim=0, keepdim=True)
    # -log(e^l / (e^l + sum of others)) = log(1 + e^(log sum of others - l))
    to_sentences = F.softplus(others.logsumexp(dim=1, keepdim=True) - logits)
    to_images = F.softplus(of_images - logits)
    by_image = ((to_sentences + to_images) / 2 * owner).sum(dim=1) / count.clamp(min=1)
    return by_image.sum() * world_size() / total


def _distinct(sentences: Sentences) -> tuple[Tensor, Tensor, Tensor]:
    """Keys and embeddings of the sentences of all workers, each once where it first comes; where this worker's are."""
    present = torch.ones_like(sentences.keys, dtype=torch.bool)
    keys, embeddings, present = (
        all_gather_padded(values.unsqueeze(0)).flatten(0, 1)
        for values in (sentences.keys, sentences.embeddings, present)
    )
    keys, embeddings = keys[present], embeddings[present]
    # Sorted, so that memory grows with the number of sentences and not with its square.
    known, number = torch.unique(keys, return_inverse=True)
    rows = torch.arange(len(keys), device=keys.device)
    first = torch.full_like(known, len(keys)).scatter_reduce(0, number, rows, "amin")
    order = first.argsort()
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=keys.device)
    own = torch.searchsorted(known, sentences.keys)
    return keys[first[order]], embeddings[first[order]], places[own]

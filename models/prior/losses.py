"""PRIOR's losses; each is the mean over the images of all workers whose reports have sentences, 0 without any.

Shapes in comments: B images, P patches, M sentences of a report, Q queries, K prototypes, D dimensions.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from models.distributed import all_reduce_sum, world_size
from models.encoders import unit_length


def over_images(values: Tensor, present: Tensor) -> Tensor:
    """Mean of (B,) values over the images with a sentence, of all workers."""
    valid = present.any(dim=1)
    return values[valid].sum() * world_size() / all_reduce_sum(valid.sum()).clamp(min=1)


def over_sentences(values: Tensor, present: Tensor) -> Tensor:
    """Mean of (B, M) values over the sentences of an image, then over images."""
    return over_images((values * present).sum(dim=1) / present.sum(dim=1).clamp(min=1), present)


def sentence_contrast(sentences: Tensor, seen: Tensor, present: Tensor, scale: Tensor) -> Tensor:
    """A sentence against what it saw in its image, among the sentences of its own report, both ways.

    Sentences of other reports are no negatives, for many say the same.

    Args:
        sentences: (B, M, D).
        seen: (B, M, D).
        present: (B, M) bool.
        scale: Of the cosine, a scalar.
    """
    logits = scale * unit_length(sentences) @ unit_length(seen).mT
    logits = logits.masked_fill(~(present.unsqueeze(1) & present.unsqueeze(2)), torch.finfo(logits.dtype).min)
    both = (logits.logsumexp(dim=2) + logits.logsumexp(dim=1)) / 2 - logits.diagonal(dim1=1, dim2=2)
    return over_sentences(both.masked_fill(~present, 0.0), present)


def patch_agreement(patches: Tensor, read: Tensor, present: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
    """Patches and what they read in the sentences predict one another, without negatives (SimSiam, Chen and He 2021).

    Args:
        patches: (B, P, D).
        read: (B, P, D).
        present: (B, M) bool.
        predict: The predictor; what it is compared with is held fixed.
    """
    forward = F.cosine_similarity(predict(patches), read.detach(), dim=-1)
    backward = F.cosine_similarity(predict(read), patches.detach(), dim=-1)
    return over_images(-(forward + backward).mean(dim=1) / 2, present)


def matched(made: Tensor, wanted: Tensor, present: Tensor) -> Tensor:
    """What was made for each wanted sentence, (B, M, D), so that the sum of absolute differences is the least.

    What is matched with no sentence should be 0, so that it costs what it differs from that.

    Args:
        made: (B, Q, D).
        wanted: (B, M, D), at most Q.
        present: (B, M) bool; the present ones come first.
    """
    cost = torch.cdist(made, wanted, p=1) - made.abs().sum(dim=2, keepdim=True)  # (B, Q, M)
    rows = torch.zeros(present.shape, dtype=torch.long)
    for number, (of_image, count) in enumerate(zip(cost.detach().cpu(), present.sum(dim=1).tolist(), strict=True)):
        # Of the transpose, so that a row of the answer belongs to each sentence in its order.
        rows[number, :count] = torch.from_numpy(linear_sum_assignment(of_image[:, :count].T.double().numpy())[1])
    index = rows.to(made.device).unsqueeze(2).expand(-1, -1, made.shape[2])
    return made.gather(1, index) * present.unsqueeze(2)


def prototype_distance(made: Tensor, chosen: Tensor, wanted: Tensor, present: Tensor) -> Tensor:
    """Mean absolute difference of what was made and the wanted sentences, or 0 where there are fewer.

    Args:
        made: (B, Q, D).
        chosen: (B, M, D), of `matched`; 0 where no sentence is present.
        wanted: (B, M, D), likewise.
        present: (B, M) bool.
    """
    surplus = made.abs().sum(dim=(1, 2)) - chosen.abs().sum(dim=(1, 2))
    differences = (chosen - wanted).abs().sum(dim=(1, 2))
    return over_images((differences + surplus) / made[0].numel(), present)


def divergence(wanted: Tensor, made: Tensor, present: Tensor) -> Tensor:
    """KL of the prototypes that made sentences choose from those that the report's do, both (B, M, K) logits."""
    log_wanted, log_made = wanted.log_softmax(dim=-1), made.log_softmax(dim=-1)
    return over_sentences((log_wanted.exp() * (log_wanted - log_made)).sum(dim=-1), present)

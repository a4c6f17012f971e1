"""Choice of the words for the next iteration (paper 000, after eq. 11)."""

import torch
from torch import Tensor


def choose(
    importance: Tensor, present: Tensor, keep_ratio: float, temperature: float, *, sample: bool
) -> tuple[Tensor, Tensor]:
    """The most important words of each text; with `sample`, after adding Gumbel noise.

    Noise on logits and the k largest of them is a draw of k words without replacement in proportion to the softmax
    (Kool et al. 2019). The choice is passed straight through to that softmax in the backward pass (Jang et al. 2017).

    Args:
        importance: (texts, words).
        present: (texts, words) bool; absent words are never chosen.
        keep_ratio: Fraction of the present words, rounded, but never less than one word.
        temperature: Divides the importance.
        sample: In training; otherwise the same words every time.

    Returns:
        (texts, words) bool, true on the chosen words, and 1 or 0 likewise with the gradient of the softmax.
    """
    count = present.sum(dim=1)
    wanted = (count * keep_ratio).round().long().clamp(min=1)
    logits = importance / temperature
    if sample:
        # Drawn on the CPU, whose random state is saved: a resumed run keeps the words that the unbroken one would have.
        noise = torch.empty(logits.shape, dtype=logits.dtype).exponential_().log().neg()
        logits = logits + noise.to(logits.device)
    logits = logits.masked_fill(~present, torch.finfo(logits.dtype).min)
    rank = logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    chosen = (rank < wanted.unsqueeze(1)) & present
    soft = logits.softmax(dim=1)
    return chosen, chosen.to(soft.dtype) + soft - soft.detach()

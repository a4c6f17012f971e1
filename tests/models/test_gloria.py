"""GLoRIA's local loss against a slow float64 reference, and its maps."""

import math

import pytest
import torch

from models.gloria.config import GloriaConfig
from models.gloria.losses import attend, local_loss, local_similarity
from tests.models.small import ENCODERS

CONFIG = GloriaConfig(**ENCODERS)


def features(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """4 images of 9 patches and their texts of 3, 5, 1 and 4 words."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(4, 9, 6, generator=generator, dtype=torch.float64)
    words = torch.randn(4, 5, 6, generator=generator, dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor([3, 5, 1, 4]).unsqueeze(1)
    return patches, words * mask.unsqueeze(-1), mask


def reference_similarity(patches: list, words: list, temp1: float, temp2: float) -> float:
    """Z of one image and one text, as gloria_loss.py computes it, with plain loops."""
    dot = [[sum(a * b for a, b in zip(word, patch, strict=True)) for patch in patches] for word in words]
    share = [[0.0] * len(patches) for _ in words]
    for p in range(len(patches)):
        total = sum(math.exp(row[p]) for row in dot)
        for w in range(len(words)):
            share[w][p] = math.exp(dot[w][p]) / total
    votes = 0.0
    for w, word in enumerate(words):
        total = sum(math.exp(temp1 * value) for value in share[w])
        context = [
            sum(math.exp(temp1 * share[w][p]) / total * patch[d] for p, patch in enumerate(patches))
            for d in range(len(word))
        ]
        length = math.sqrt(sum(x * x for x in context)) * math.sqrt(sum(x * x for x in word))
        votes += math.exp(temp2 * sum(a * b for a, b in zip(context, word, strict=True)) / length)
    return math.log(votes)


def reference(patches: torch.Tensor, words: torch.Tensor, mask: torch.Tensor) -> float:
    texts = [row[inside].tolist() for row, inside in zip(words, mask, strict=True)]
    table = [[10.0 * reference_similarity(image, text, 4.0, 5.0) for text in texts] for image in patches.tolist()]
    total = 0.0
    for i in range(len(table)):
        total -= math.log(math.exp(table[i][i]) / sum(math.exp(value) for value in table[i]))
        total -= math.log(math.exp(table[i][i]) / sum(math.exp(row[i]) for row in table))
    return total / (2 * len(table))


@pytest.mark.parametrize("recompute", [False, True])
def test_the_loss_is_that_of_the_published_code(recompute: bool) -> None:
    patches, words, mask = features()
    found = local_loss(patches, words, mask, CONFIG, recompute=recompute)
    assert float(found) == pytest.approx(reference(patches, words, mask), rel=1e-10)


def test_gradients_and_that_computing_again_changes_none() -> None:
    patches, words, mask = features(1)
    leaves = [patches[:2, :3, :3].clone().requires_grad_(), words[:2, :, :3].clone().requires_grad_()]

    def loss(patches: torch.Tensor, words: torch.Tensor, recompute: bool = False) -> torch.Tensor:
        return local_loss(patches, words, mask[:2], CONFIG, recompute=recompute)

    assert torch.autograd.gradcheck(loss, leaves)
    whole = torch.autograd.grad(loss(*leaves), leaves)
    parts = torch.autograd.grad(loss(*leaves, recompute=True), leaves)
    torch.testing.assert_close(whole, parts)


def test_padding_words_change_nothing_and_permuting_the_batch_permutes_the_similarities() -> None:
    patches, words, mask = features(2)
    padded = torch.nn.functional.pad(words, (0, 0, 0, 3), value=7.0)
    more = torch.nn.functional.pad(mask, (0, 3))
    expected = local_similarity(patches, words, mask, CONFIG)
    torch.testing.assert_close(local_similarity(patches, padded, more, CONFIG), expected)
    order = torch.tensor([2, 0, 3, 1])
    permuted = local_similarity(patches[order], words[order], mask[order], CONFIG)
    torch.testing.assert_close(permuted, expected[order][:, order])


def test_a_text_without_words_is_similar_to_nothing() -> None:
    patches, words, mask = features(3)
    mask[1], words[1] = False, 0.0
    words.requires_grad_()
    similarity = local_similarity(patches, words, mask, CONFIG)
    assert similarity[:, 1].tolist() == [0.0] * 4
    local_loss(patches, words, mask, CONFIG).backward()
    assert torch.isfinite(words.grad).all()


def test_attention_over_the_patches_sums_to_one() -> None:
    patches, words, _ = features(4)
    _, attention = attend(words[1], patches, 0.25)
    assert attention.shape == (4, 5, 9)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(4, 5, dtype=torch.float64))

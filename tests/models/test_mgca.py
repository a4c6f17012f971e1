"""MGCA's losses against slow float64 references."""

import math

import pytest
import torch

from models.mgca.losses import prototype_loss, sinkhorn, token_loss
from tests.models.test_losses import unit_rows


def features(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """3 reports of 2, 4 and 1 words, their images of 5 patches, and the mask of the words."""
    words, patches = unit_rows(12, seed).view(3, 4, 6), unit_rows(15, seed + 50).view(3, 5, 6)
    return words, patches, torch.arange(4) < torch.tensor([2, 4, 1]).unsqueeze(1)


def unit(vector: list[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def dot(first: list[float], second: list[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def reference_alignment(queries: list, keys: list, temperature: float) -> float:
    """One pair and one side of CTA: each query attends to the keys, and must tell its own result from the others'."""
    attended = []
    for query in queries:
        scores = [math.exp(dot(query, key) / temperature) for key in keys]
        attended.append(
            unit(
                [sum(s * key[d] for s, key in zip(scores, keys, strict=True)) / sum(scores) for d in range(len(query))]
            )
        )
    table = [[math.exp(dot(query, other) / temperature) for other in attended] for query in queries]
    total = 0.0
    for j in range(len(queries)):
        total -= math.log(table[j][j] / sum(table[j]))
        total -= math.log(table[j][j] / sum(row[j] for row in table))
    return total / (2 * len(queries))


def test_the_token_loss_is_the_formula() -> None:
    words, patches, mask = features()
    total = 0.0
    for row, image, inside in zip(words, patches.tolist(), mask, strict=True):
        text = row[inside].tolist()
        total += (reference_alignment(text, image, 0.1) + reference_alignment(image, text, 0.1)) / 2
    assert float(token_loss(words, patches, mask, 0.1)) == pytest.approx(total / 3, rel=1e-10)


def test_padding_words_and_the_order_of_pairs_change_nothing() -> None:
    words, patches, mask = features(1)
    expected = token_loss(words, patches, mask, 0.1)
    padded = torch.nn.functional.pad(words, (0, 0, 0, 2), value=3.0)
    torch.testing.assert_close(token_loss(padded, patches, torch.nn.functional.pad(mask, (0, 2)), 0.1), expected)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(token_loss(words[order], patches[order], mask[order], 0.1), expected)


def test_a_text_without_words_gives_a_finite_loss_and_gradient() -> None:
    words, patches, mask = features(2)
    mask[0], words[0] = False, 0.0
    words.requires_grad_()
    loss = token_loss(words, patches, mask, 0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(words.grad).all()


def reference_sinkhorn(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Algorithm of SwAV's appendix: Q = exp(scores / epsilon), prototypes to 1/K each, rows to 1/B each."""
    plan = [[math.exp(value / epsilon) for value in row] for row in scores.tolist()]
    rows, prototypes = len(plan), len(plan[0])
    for _ in range(iterations):
        sums = [sum(row[k] for row in plan) for k in range(prototypes)]
        plan = [[row[k] / sums[k] / prototypes for k in range(prototypes)] for row in plan]
        plan = [[value / sum(row) / rows for value in row] for row in plan]
    return torch.tensor([[value / sum(row) for value in row] for row in plan], dtype=torch.float64)


def test_sinkhorn_is_the_algorithm_and_balances_the_prototypes() -> None:
    scores = unit_rows(8, 3) @ unit_rows(4, 4).T
    torch.testing.assert_close(sinkhorn(scores, 0.05, 3), reference_sinkhorn(scores, 0.05, 3))
    balanced = sinkhorn(scores, 0.5, 100)
    torch.testing.assert_close(balanced.sum(dim=1), torch.ones(8, dtype=torch.float64))
    torch.testing.assert_close(balanced.sum(dim=0), torch.full((4,), 2.0, dtype=torch.float64))


def test_the_prototype_loss_is_the_formula() -> None:
    prototypes = unit_rows(4, 7)
    images, texts = unit_rows(6, 5) @ prototypes.T, unit_rows(6, 6) @ prototypes.T
    total = 0.0
    for known, predicted in ((images, texts), (texts, images)):
        cluster = reference_sinkhorn(known, 0.05, 3)
        for i in range(6):
            scores = [math.exp(float(value) / 0.2) for value in predicted[i]]
            total -= sum(float(cluster[i, k]) * math.log(scores[k] / sum(scores)) for k in range(4))
    found = prototype_loss(images, texts, temperature=0.2, sinkhorn_temperature=0.05, sinkhorn_iterations=3)
    assert float(found) == pytest.approx(total / 12, rel=1e-10)


def test_gradients() -> None:
    words, patches, mask = features(8)
    leaves = [words.clone().requires_grad_(), patches.clone().requires_grad_()]
    assert torch.autograd.gradcheck(lambda w, p: token_loss(w, p, mask, 0.5), leaves)
    # The clusters are targets, so the gradient is that of the prediction with the clusters held.
    images, texts = unit_rows(4, 9), unit_rows(4, 10).requires_grad_()
    settings = {"temperature": 0.2, "sinkhorn_temperature": 0.05, "sinkhorn_iterations": 3}
    (found,) = torch.autograd.grad(prototype_loss(images, texts, **settings), texts)
    held = reference_sinkhorn(images, 0.05, 3)
    expected = ((texts.detach() / 0.2).softmax(dim=1) - held) / 0.2 / 4 / 2
    torch.testing.assert_close(found, expected)

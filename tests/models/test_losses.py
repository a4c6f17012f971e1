"""Losses against slow float64 references written from the formulas."""

import math

import pytest
import torch

from models.losses import hard_negatives, info_nce, negative_choice


def unit_rows(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(rows, 6, generator=generator, dtype=torch.float64), dim=-1)


def reference_info_nce(left: torch.Tensor, right: torch.Tensor, temperature: float) -> float:
    """Paper 001, eqs. 5 and 7, divided by the number of rows."""
    total = 0.0
    for i in range(len(left)):
        scores = [math.exp(float(left[i] @ right[j]) / temperature) for j in range(len(right))]
        total -= math.log(scores[i] / sum(scores))
    return total / len(left)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_info_nce_is_the_printed_formula(temperature: float) -> None:
    left, right = unit_rows(7, 0), unit_rows(7, 1)
    forward, backward = (
        reference_info_nce(left, right, temperature),
        reference_info_nce(right, left, temperature),
    )
    assert float(info_nce(left, right, temperature, symmetric=False)) == pytest.approx(forward, rel=1e-12)
    assert float(info_nce(left, right, temperature)) == pytest.approx((forward + backward) / 2, rel=1e-12)


def test_padding_changes_nothing() -> None:
    left, right = unit_rows(5, 2), unit_rows(5, 3)
    padded = [torch.cat([rows, torch.full((3, 6), 7.0, dtype=torch.float64)]) for rows in (left, right)]
    valid = torch.arange(8) < 5
    assert float(info_nce(*padded, 0.07, valid=valid)) == pytest.approx(float(info_nce(left, right, 0.07)), rel=1e-12)
    negatives = torch.stack([unit_rows(5, seed) for seed in range(4, 9)], dim=1)
    more = torch.cat([negatives, torch.ones(3, 5, 6, dtype=torch.float64)])
    assert float(hard_negatives(padded[0], more, valid=valid)) == pytest.approx(
        float(hard_negatives(left, negatives)), rel=1e-12
    )


def test_no_valid_row_gives_zero_and_a_gradient() -> None:
    rows = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    loss = info_nce(rows, rows, 0.07, valid=torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(rows.grad, torch.zeros_like(rows))


def test_hard_negatives_is_the_printed_formula() -> None:
    regions, negatives = unit_rows(4, 10), torch.stack([unit_rows(4, seed) for seed in range(11, 16)], dim=1)
    total = 0.0
    for i in range(4):
        for k in range(5):
            similarity = float(regions[i] @ negatives[i, k])
            total -= math.log(1 - 1 / (1 + math.exp(-similarity)))
    assert float(hard_negatives(regions, negatives)) == pytest.approx(total / 20, rel=1e-12)


@pytest.mark.parametrize(("cosine", "value"), [(-1.0, 0.3133), (0.0, 0.6931), (1.0, 1.3133)])
def test_hard_negatives_never_reaches_zero(cosine: float, value: float) -> None:
    region = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    negative = torch.tensor([[[cosine, math.sqrt(1 - cosine**2)]]], dtype=torch.float64)
    assert float(hard_negatives(region, negative)) == pytest.approx(value, abs=1e-4)


def test_negative_choice_is_a_cross_entropy_over_own_and_altered_captions() -> None:
    regions, captions = unit_rows(4, 30), unit_rows(4, 31)
    negatives = torch.stack([unit_rows(4, seed) for seed in range(32, 37)], dim=1)
    total = 0.0
    for i in range(4):
        own = math.exp(float(regions[i] @ captions[i]) / 0.07)
        others = sum(math.exp(float(regions[i] @ negatives[i, k]) / 0.07) for k in range(5))
        total -= math.log(own / (own + others))
    assert float(negative_choice(regions, captions, negatives, 0.07)) == pytest.approx(total / 4, rel=1e-12)
    rows = [
        torch.cat([part, torch.ones(2, *part.shape[1:], dtype=part.dtype)]) for part in (regions, captions, negatives)
    ]
    padded = negative_choice(*rows, 0.07, valid=torch.arange(6) < 4)
    assert float(padded) == pytest.approx(total / 4, rel=1e-12)


def test_gradients() -> None:
    left, right = unit_rows(4, 20).requires_grad_(), unit_rows(4, 21).requires_grad_()
    valid = torch.tensor([True, True, True, False])
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5, valid=valid), (left, right))
    negatives = torch.stack([unit_rows(4, seed) for seed in range(3)], dim=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: hard_negatives(a, b, valid=valid), (left, negatives))
    assert torch.autograd.gradcheck(
        lambda a, b, c: negative_choice(a, b, c, 0.5, valid=valid), (left, right, negatives)
    )

"""TSDM and LTEM against slow float64 references written from the papers."""

import math

import pytest
import torch

from models.losses import info_nce
from models.tmca.enhancement import agreement, enhanced
from models.tmca.losses import alignment_loss, dice_coefficients, overlap_targets, own_targets


def features(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def masks() -> torch.Tensor:
    """Five masks of 4 x 6: two empty, two that overlap, one full."""
    found = torch.zeros(5, 4, 6, dtype=torch.bool)
    found[1, :2, :3] = True
    found[2, 1:, 1:4] = True
    found[4] = True
    return found


def reference_dice(first: list, second: list) -> float:
    sizes = sum(first) + sum(second)
    if sizes == 0:
        return 1.0
    return 2 * sum(a and b for a, b in zip(first, second, strict=True)) / sizes


def reference_targets(found: torch.Tensor, temperature: float) -> list[list[float]]:
    """d_pq of paper 002, section 3.2.1: Dice coefficients, softmax over the batch."""
    rows = [mask.flatten().tolist() for mask in found]
    table = []
    for first in rows:
        scores = [math.exp(reference_dice(first, second) / temperature) for second in rows]
        table.append([score / sum(scores) for score in scores])
    return table


def cosine(first: list[float], second: list[float]) -> float:
    lengths = math.sqrt(sum(a * a for a in first)) * math.sqrt(sum(b * b for b in second))
    return sum(a * b for a, b in zip(first, second, strict=True)) / lengths


def reference_alignment(images: list, texts: list, targets: list[list[float]], temperature: float) -> float:
    """Eq. 1 in both directions, averaged."""
    total = 0.0
    for rows, columns in ((images, texts), (texts, images)):
        for p, row in enumerate(rows):
            scores = [math.exp(cosine(row, column) / temperature) for column in columns]
            total -= sum(targets[p][q] * math.log(scores[q] / sum(scores)) for q in range(len(columns)))
    return total / (2 * len(images))


def test_dice_coefficients_by_hand() -> None:
    found = dice_coefficients(masks().flatten(1), masks().flatten(1))
    # Masks of 0, 6, 9, 0 and 24 pixels, of which the second and the third share two.
    assert found[0].tolist() == [1.0, 0.0, 0.0, 1.0, 0.0]
    assert found[1].tolist() == pytest.approx([0.0, 1.0, 4 / 15, 0.0, 12 / 30])
    assert found[4].tolist() == pytest.approx([0.0, 12 / 30, 18 / 33, 0.0, 1.0])
    torch.testing.assert_close(found, found.T)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_targets_are_the_formula(temperature: float) -> None:
    expected = torch.tensor(reference_targets(masks(), temperature))
    torch.testing.assert_close(overlap_targets(masks(), temperature), expected)
    # Nothing lies nearer than the own mask.
    assert (expected.diagonal() == expected.amax(dim=1)).all()


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_the_alignment_is_the_formula(temperature: float) -> None:
    images, texts = features(5, 0), 3 * features(5, 1)
    targets = reference_targets(masks(), 0.2)
    found = alignment_loss(images, texts, torch.tensor(targets, dtype=torch.float64), temperature)
    expected = reference_alignment(images.tolist(), texts.tolist(), targets, temperature)
    assert float(found) == pytest.approx(expected, rel=1e-10)


def test_without_masks_the_targets_are_the_pairs() -> None:
    images, texts = features(5, 2), features(5, 3)
    targets = own_targets(5, torch.device("cpu"))
    assert torch.equal(targets, torch.eye(5))
    unit = [torch.nn.functional.normalize(rows, dim=1) for rows in (images, texts)]
    assert float(alignment_loss(images, texts, targets, 0.07)) == pytest.approx(float(info_nce(*unit, 0.07)), rel=1e-12)


def test_masks_that_overlap_draw_other_pairs_together() -> None:
    """Two images of the same findings whose texts are alike cost less with TSDM than with one-hot targets."""
    found = torch.zeros(4, 8, 8, dtype=torch.bool)
    found[:2, :4], found[2:, 4:] = True, True
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    with_tsdm = alignment_loss(rows, rows, overlap_targets(found, 0.1), 0.1)
    without = alignment_loss(rows, rows, own_targets(4, rows.device), 0.1)
    # A batch of two halves: the least that targets of 1/2 and 1/2 can cost is log 2, which both reach ...
    assert float(with_tsdm) == pytest.approx(math.log(2), abs=1e-2)
    assert float(without) == pytest.approx(math.log(2), abs=1e-2)
    # ... but drawing the two of a half apart lowers the loss of one-hot targets alone.
    apart = rows + torch.tensor([[0.0, 0.3], [0.0, -0.3], [0.3, 0.0], [-0.3, 0.0]])
    assert alignment_loss(apart, apart, own_targets(4, rows.device), 0.1) < without
    assert alignment_loss(apart, apart, overlap_targets(found, 0.1), 0.1) > with_tsdm


def test_the_order_of_the_pairs_changes_nothing() -> None:
    images, texts, order = features(5, 4), features(5, 5), torch.tensor([3, 0, 4, 1, 2])
    found = alignment_loss(images, texts, overlap_targets(masks(), 0.1), 0.07)
    turned = alignment_loss(images[order], texts[order], overlap_targets(masks()[order], 0.1), 0.07)
    torch.testing.assert_close(turned, found)


def test_gradients() -> None:
    targets = overlap_targets(masks(), 0.2).double()
    leaves = [features(5, 6).requires_grad_(), features(5, 7).requires_grad_()]
    assert torch.autograd.gradcheck(lambda image, text: alignment_loss(image, text, targets, 0.5), leaves)
    grid = features(12, 8).view(2, 6, 2, 3).requires_grad_()
    text, decoded = features(2, 9).requires_grad_(), torch.ones(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)

    def gate(grid: torch.Tensor, text: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
        return enhanced(decoded, agreement(grid, text, 0.5), rescaled=True, upsampling="bilinear")

    assert torch.autograd.gradcheck(gate, (grid, text, decoded))


def test_the_agreement_is_the_formula() -> None:
    grid, text = features(12, 10).view(2, 6, 2, 3), features(2, 11)
    found = agreement(grid, text, 0.3)
    for row in range(2):
        scores = [math.exp(cosine(grid[row, :, n // 3, n % 3].tolist(), text[row].tolist()) / 0.3) for n in range(6)]
        assert found[row].flatten().tolist() == pytest.approx([score / sum(scores) for score in scores], rel=1e-10)


@pytest.mark.parametrize("rescaled", [True, False])
def test_the_map_is_upsampled_and_multiplied(rescaled: bool) -> None:
    weights = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]], dtype=torch.float64)
    decoded = torch.full((1, 3, 4, 4), 2.0, dtype=torch.float64)
    times = 2.0 * (4 if rescaled else 1)
    nearest = enhanced(decoded, weights, rescaled=rescaled, upsampling="nearest")
    bilinear = enhanced(decoded, weights, rescaled=rescaled, upsampling="bilinear")
    for y in range(4):
        for x in range(4):
            assert nearest[0, :, y, x].tolist() == pytest.approx([times * float(weights[0, y // 2, x // 2])] * 3)
            # The weights rise by 0.1 a column and 0.2 a row between the centres, 0 and 1; beyond them nothing changes.
            down, right = (min(1.0, max(0.0, (place + 0.5) / 2 - 0.5)) for place in (y, x))
            assert bilinear[0, :, y, x].tolist() == pytest.approx([times * (0.1 + 0.1 * right + 0.2 * down)] * 3)


@pytest.mark.parametrize("upsampling", ["nearest", "bilinear"])
def test_the_literal_map_shrinks_features_by_the_number_of_positions(upsampling: str) -> None:
    grid, text = features(49, 12)[: 7 * 7].T.reshape(1, 6, 7, 7), features(1, 13)
    weights = agreement(grid, text, 0.5)
    decoded = torch.ones(1, 2, 14, 14, dtype=torch.float64)
    literal = enhanced(decoded, weights, rescaled=False, upsampling=upsampling)
    rescaled = enhanced(decoded, weights, rescaled=True, upsampling=upsampling)
    assert float(literal.mean()) == pytest.approx(1 / 49, rel=1e-12)
    assert float(rescaled.mean()) == pytest.approx(1.0, rel=1e-12)
    torch.testing.assert_close(literal * 49, rescaled)

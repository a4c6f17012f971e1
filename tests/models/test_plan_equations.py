"""PLAN's equations against slow float64 references written from paper 000 with plain loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.plan.alignment import (
    BALANCE,
    CoImportance,
    align,
    co_importance,
    initial_importance,
    refined_importance,
    similarity,
    smoothed,
    soft_regions,
)
from models.plan.losses import Pairs, local_loss

ALPHA, BETA = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
Matrix = list[list[float]]


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


def deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))


def softmax_of_pairs(words: list[float], patches: list[float]) -> Matrix:
    """softmax_{i,j} of eqs. 6 and 8."""
    total = sum(math.exp(word + patch) for word in words for patch in patches)
    return [[math.exp(word + patch) / total for patch in patches] for word in words]


def reference_initial(scores: Matrix) -> tuple[list[float], list[float]]:
    """Eq. 5, its sums over the other index."""
    columns = [list(column) for column in zip(*scores, strict=True)]
    words = [sum(row) / len(row) + float(ALPHA) * deviation(row) for row in scores]
    return words, [sum(column) / len(column) + float(BETA) * deviation(column) for column in columns]


def reference_refined(scores: Matrix, phi: Matrix, rescale: bool) -> tuple[list[float], list[float]]:
    """Eq. 7; rescaled, Phi is multiplied by L HW and the sums are means."""
    length, size = len(scores), len(scores[0])
    if rescale:
        phi = [[value * length * size for value in row] for row in phi]
    words = [sum(phi[i][j] * scores[i][j] for j in range(size)) for i in range(length)]
    patches = [sum(phi[i][j] * scores[i][j] for i in range(length)) for j in range(size)]
    return ([w / size for w in words], [p / length for p in patches]) if rescale else (words, patches)


def reference_align(scores: Matrix, refine: bool = True, rescale: bool = False) -> tuple[Matrix, list[float]]:
    """Eqs. 5 to 9: Phi^refine and the importance for the choice of keywords."""
    words, patches = reference_initial(scores)
    phi = softmax_of_pairs(words, patches)
    if not refine:
        return phi, words
    words, patches = reference_refined(scores, phi, rescale)
    word_sum, patch_sum = (
        (sum(words), sum(patches)) if not rescale else (sum(words) / len(words), sum(patches) / len(patches))
    )
    w_word, w_patch = word_sum / (word_sum + patch_sum), patch_sum / (word_sum + patch_sum)
    phi = softmax_of_pairs([w_word * word for word in words], [w_patch * patch for patch in patches])
    return phi, reference_refined(scores, phi, rescale)[0]


def reference_regions(scores: Matrix, phi: Matrix, patches: Matrix) -> Matrix:
    """Eqs. 10 and 11 and the average pooling."""
    width = len(patches[0])
    regions = []
    for i in range(len(scores)):
        weighted = [[phi[i][j] * scores[i][j] * patches[j][d] for d in range(width)] for j in range(len(patches))]
        regions.append([sum(row[d] for row in weighted) / len(patches) for d in range(width)])
    return regions


def dot(left: list[float], right: list[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def reference_local(
    words: list[Matrix],
    regions: list[Matrix],
    chosen: list[list[int]],
    temperature: float,
    keys: list[list[int]] | None,
    weight: float = 1.0,
) -> float:
    """Eqs. 12 and 13; with `keys`, the denominator runs over all reports but for equal words of the others.

    R-hat is `weight` times R, so that the test sees where each of them stands.
    """
    keywords = [[[weight * value for value in row] for row in report] for report in words]
    total = 0.0
    for rows, columns, partners in ((regions, words, keywords), (keywords, regions, regions)):
        for n in range(len(words)):
            for i in chosen[n]:
                others = [(n, k) for k in range(len(words[n]))]
                if keys is not None:
                    others += [
                        (m, k)
                        for m in range(len(words))
                        for k in range(len(words[m]))
                        if m != n and keys[m][k] != keys[n][i]
                    ]
                scores = [math.exp(dot(rows[n][i], columns[m][k]) / temperature) for m, k in others]
                own = math.exp(dot(rows[n][i], partners[n][i]) / temperature)
                total -= math.log(own / sum(scores)) / len(chosen[n])
    return total / sum(1 for picks in chosen if picks)


def padded(scores: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    return torch.arange(scores.shape[1]) < torch.tensor(lengths).unsqueeze(1)


LENGTHS = [5, 3, 1]


@pytest.fixture
def scores() -> torch.Tensor:
    """(3, 5, 6); the second and third text are shorter, with values on their padding that must not matter."""
    return similarity(unit(3, 5, 4), unit(3, 6, 4, seed=1))


def rows(scores: torch.Tensor, text: int) -> Matrix:
    return scores[text, : LENGTHS[text]].tolist()


def test_initial_importance_is_eq_5(scores: torch.Tensor) -> None:
    words, patches = initial_importance(scores, padded(scores, LENGTHS), ALPHA, BETA)
    for text, length in enumerate(LENGTHS):
        expected = reference_initial(rows(scores, text))
        assert words[text, :length].tolist() == pytest.approx(expected[0], rel=1e-12)
        assert patches[text].tolist() == pytest.approx(expected[1], rel=1e-12)


@pytest.mark.parametrize(("refine", "rescale"), [(True, False), (True, True), (False, False)])
def test_alignment_and_regions_are_eqs_6_to_11(scores: torch.Tensor, refine: bool, rescale: bool) -> None:
    patches = unit(3, 6, 4, seed=1)
    phi, importance = align(scores, padded(scores, LENGTHS), ALPHA, BETA, refine=refine, rescale=rescale)
    regions = soft_regions(scores, phi, patches)
    for text, length in enumerate(LENGTHS):
        expected, expected_importance = reference_align(rows(scores, text), refine, rescale)
        whole = torch.outer(phi.words[text], phi.patches[text])
        torch.testing.assert_close(whole[:length], torch.tensor(expected, dtype=torch.float64))
        assert not whole[length:].any()
        assert importance[text, :length].tolist() == pytest.approx(expected_importance, rel=1e-10)
        regions_of_text = torch.tensor(
            reference_regions(rows(scores, text), expected, patches[text].tolist()), dtype=torch.float64
        )
        torch.testing.assert_close(regions[text, :length], regions_of_text)


def test_as_printed_the_refined_co_importance_is_nearly_constant() -> None:
    """Why `rescale_importance` exists: eq. 7 sums terms of the order 1 / (L HW)."""
    scores = similarity(unit(1, 30, 8), unit(1, 64, 8, seed=1))
    everyone = torch.ones(1, 30, dtype=torch.bool)
    spread = {}
    for rescale in (False, True):
        phi, _ = align(scores, everyone, ALPHA, BETA, refine=True, rescale=rescale)
        spread[rescale] = float((phi.patches.max() - phi.patches.min()) * 64)
    assert spread[False] < 0.02
    assert spread[True] > 10 * spread[False]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 9), st.floats(0.01, 30))
def test_the_weights_of_eq_9_are_equal_whatever_the_similarity(seed: int, length: int, size: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(1, length, size, generator=generator, dtype=torch.float64)
    present = torch.ones(1, length, dtype=torch.bool)
    words, patches = initial_importance(scores, present, ALPHA, BETA)
    words, patches = refined_importance(scores, co_importance(words, patches, present))
    # The tolerance is relative to the terms, which cancel.
    assert float(words.sum()) == pytest.approx(float(patches.sum()), abs=1e-12 * scale)
    assert BALANCE == 0.5


def test_over_patches_that_span_the_space_a_region_is_its_word() -> None:
    """Eq. 11 with the S of eq. 4 is linear in the word: its direction need not depend on what the image shows.

    This is how training lowers the local loss without grounding anything (see models/plan/losses.py).
    """
    basis = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64))[0]
    words, patches = unit(1, 3, 4), torch.cat([basis, -basis])[None]
    phi = CoImportance(torch.full((1, 3), 1 / 3).double(), torch.full((1, 8), 1 / 8).double())
    regions = soft_regions(similarity(words, patches), phi, patches)
    torch.testing.assert_close(torch.nn.functional.normalize(regions, dim=-1), words)


@given(st.floats(0.05, 0.95), st.integers(0, 12))
def test_smoothing_forgets_its_start_at_the_rate_of_eq_23(smoothing: float, iterations: int) -> None:
    """On a fixed set of rows; the theorem's eq. 18 applies a projection to rows that are already gone."""
    now, start = unit(1, 3, 4), unit(1, 3, 4, seed=1)
    mixed = start
    for _ in range(iterations):
        mixed = smoothed(now, mixed, smoothing)
    torch.testing.assert_close(mixed - now, (1 - smoothing) ** iterations * (start - now))


KEYS = [[1, 2, 3, 1, 4], [2, 5, 1], [3]]
CHOSEN = [[0, 2, 3], [0, 1], [0]]


def make_pairs(lengths: list[int] = LENGTHS, chosen: list[list[int]] = CHOSEN, weight: float = 1.0) -> Pairs:
    mask = torch.zeros(len(lengths), 5, dtype=torch.bool)
    for text, picks in enumerate(chosen):
        mask[text, picks] = True
    words, regions = unit(3, 5, 4)[: len(lengths)], unit(3, 5, 4, seed=2)[: len(lengths)]
    return Pairs(words, regions, padded(words, lengths), mask, weight * mask.double())


def keys_tensor() -> torch.Tensor:
    # Padding has the key 2, a word that is there elsewhere.
    return torch.tensor([row + [2] * (5 - len(row)) for row in KEYS])


@pytest.mark.parametrize(("temperature", "weight"), [(0.07, 1.0), (1.0, 0.8)])
@pytest.mark.parametrize("in_batch", [False, True])
def test_local_loss_is_eqs_12_and_13(in_batch: bool, temperature: float, weight: float) -> None:
    pairs = make_pairs(weight=weight)
    words, regions = (
        [values[text, :length].tolist() for text, length in enumerate(LENGTHS)]
        for values in (pairs.words, pairs.regions)
    )
    expected = reference_local(words, regions, CHOSEN, temperature, KEYS if in_batch else None, weight)
    found = local_loss(pairs, temperature, keys_tensor() if in_batch else None)
    assert float(found) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("in_batch", [False, True])
def test_a_report_without_words_takes_no_part(in_batch: bool) -> None:
    keys = keys_tensor()
    with_empty = local_loss(make_pairs([5, 3, 0], [*CHOSEN[:2], []]), 0.1, keys if in_batch else None)
    without = local_loss(make_pairs(LENGTHS[:2], CHOSEN[:2]), 0.1, keys[:2] if in_batch else None)
    torch.testing.assert_close(with_empty, without)
    assert float(local_loss(make_pairs([0, 0, 0], [[], [], []]), 0.1, keys if in_batch else None)) == 0


@pytest.mark.parametrize("in_batch", [False, True])
def test_permuting_reports_or_words_keeps_the_loss(in_batch: bool) -> None:
    pairs, keys = make_pairs(), keys_tensor()
    order, words_order = [2, 0, 1], [4, 1, 3, 0, 2]
    values = [value[order][:, words_order] for value in vars(pairs).values()]
    shuffled = local_loss(Pairs(*values), 0.1, keys[order][:, words_order] if in_batch else None)
    torch.testing.assert_close(shuffled, local_loss(pairs, 0.1, keys if in_batch else None))


@pytest.mark.parametrize("refine", [True, False])
@pytest.mark.parametrize("in_batch", [False, True])
def test_gradients(in_batch: bool, refine: bool) -> None:
    plain = make_pairs()

    def loss(words, patches, alpha, beta, weight):
        scores = similarity(words, patches)
        phi, importance = align(scores, plain.present, alpha, beta, refine=refine, rescale=True)
        regions = torch.nn.functional.normalize(soft_regions(scores, phi, patches), dim=-1)
        pairs = Pairs(words, regions, plain.present, plain.chosen, weight)
        return local_loss(pairs, 0.5, keys_tensor() if in_batch else None), importance[plain.present]

    inputs = (unit(3, 5, 4), unit(3, 6, 4, seed=1), ALPHA.clone(), BETA.clone(), torch.ones(3, 5, dtype=torch.float64))
    assert torch.autograd.gradcheck(loss, tuple(value.requires_grad_() for value in inputs))

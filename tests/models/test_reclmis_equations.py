"""Equations 5 to 10 of paper 003 against slow float64 references, and what surrounds them."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.encoders import EncoderConfig
from models.reclmis.config import RecLMISConfig
from models.reclmis.interaction import CrossInteraction, Interest, ReadWords, SelfInteraction
from models.reclmis.losses import (
    contrastive_loss,
    halved_mask_loss,
    plain_error,
    similarity,
    softmax_again,
    weighted_error,
)
from models.reclmis.masking import draw, masked
from models.reclmis.reconstructor import Reconstructor, conditioned_attention, sinusoids
from models.reclmis.sequences import Sequences
from tests.models.test_reclmis_workers import INSIDE, PATCHES, WORDS, random, sequences


def config(variant: str = "paper", **changes: object) -> RecLMISConfig:
    encoder = EncoderConfig(architecture={"model_type": "bert"})
    values = {"base": 1, "heads": 2, "grid": 3, "layers": 2} | changes
    return RecLMISConfig(text_encoder=encoder, variant=variant, **values)  # type: ignore[arg-type]


def cosine(first: list[float], second: list[float]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return dot / math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))


def reference_similarity() -> list[list[float]]:
    """Eq. 5 of every image (row) with every text (column), over the words that are no padding."""
    table = []
    for image, w_v in zip(PATCHES.features.tolist(), PATCHES.weights.tolist(), strict=True):
        row = []
        for text, w_e, length in zip(WORDS.features.tolist(), WORDS.weights.tolist(), INSIDE, strict=True):
            a = [[cosine(patch, word) for word in text[:length]] for patch in image]
            of_patches = sum(w_v[i] * max(a[i]) for i in range(len(image)))
            of_words = sum(w_e[j] * max(a[i][j] for i in range(len(image))) for j in range(length))
            row.append((of_patches + of_words) / 2)
        table.append(row)
    return table


def reference_contrast(table: list[list[float]], inside: float, outside: float) -> float:
    """Eq. 6 with a temperature within the exponent, and one where the paper prints it."""
    total, rows = 0.0, range(len(table))
    for i in rows:
        own = math.exp(table[i][i] / inside) / outside
        total -= math.log(own / sum(math.exp(table[i][j] / inside) / outside for j in rows))
        total -= math.log(own / sum(math.exp(table[j][i] / inside) / outside for j in rows))
    return total / (2 * len(table))


def test_the_similarity_is_equation_5() -> None:
    expected = torch.tensor(reference_similarity(), dtype=torch.float64)
    torch.testing.assert_close(similarity(PATCHES, WORDS), expected, rtol=1e-12, atol=1e-12)


def test_the_contrast_is_equation_6_with_the_temperature_where_it_matters() -> None:
    table = reference_similarity()
    # As printed the temperature cancels.
    assert reference_contrast(table, 1.0, 0.07) == pytest.approx(reference_contrast(table, 1.0, 5.0), rel=1e-12)
    for temperature in (0.07, 1.0):
        expected = reference_contrast(table, temperature, 1.0)
        assert float(contrastive_loss(PATCHES, WORDS, temperature)) == pytest.approx(expected, rel=1e-12)


def test_a_second_softmax_leaves_hardly_any_difference() -> None:
    again = softmax_again(WORDS)
    for before, after, length in zip(WORDS.weights.tolist(), again.weights.tolist(), INSIDE, strict=True):
        total = sum(math.exp(weight) for weight in before[:length])
        assert after[:length] == pytest.approx([math.exp(weight) / total for weight in before[:length]])
        assert after[length:] == [0.0] * (len(after) - length)
        assert max(after[:length]) - min(after[:length]) < max(before[:length]) - min(before[:length])


@pytest.mark.parametrize("after_softmax", [False, True])
def test_the_attention_is_that_of_equations_7_and_9(after_softmax: bool) -> None:
    query = random(4, 7, 6, seed=30)
    bias = torch.zeros(WORDS.mask.shape, dtype=torch.float64).masked_fill(~WORDS.mask, -torch.inf).unsqueeze(1)
    keys = WORDS.features
    found = conditioned_attention(query, keys, keys, WORDS.weights, bias, after_softmax=after_softmax)
    for row, length in enumerate(INSIDE):
        e, w = keys[row, :length].tolist(), WORDS.weights[row, :length].tolist()
        for place, q in enumerate(query[row].tolist()):
            scores = [sum(a * b for a, b in zip(q, word, strict=True)) / math.sqrt(6) for word in e]
            if after_softmax:
                share = [math.exp(score) * weight for score, weight in zip(scores, w, strict=True)]
            else:
                share = [math.exp(score * weight) for score, weight in zip(scores, w, strict=True)]
            expected = [sum(s * word[d] for s, word in zip(share, e, strict=True)) / sum(share) for d in range(6)]
            # Published code adds 1e-10 to the weights.
            assert found[row, place].tolist() == pytest.approx(expected, rel=1e-8)


def test_the_errors_are_equations_8_and_10_and_plain_means() -> None:
    found, target = random(4, 5, 6, seed=40), random(4, 5, 6, seed=41)
    weighted, plain = 0.0, 0.0
    for row, length in enumerate(INSIDE):
        squares = [
            [(a - b) ** 2 for a, b in zip(target[row, j].tolist(), found[row, j].tolist(), strict=True)]
            for j in range(length)
        ]
        weighted += sum(float(WORDS.weights[row, j]) * sum(squares[j]) for j in range(length)) / length
        plain += sum(sum(square) / 6 for square in squares) / length
    assert float(weighted_error(found, target, WORDS)) == pytest.approx(weighted / 4, rel=1e-12)
    assert float(plain_error(found, target, WORDS)) == pytest.approx(plain / 4, rel=1e-12)


def test_published_code_halves_dice_and_cross_entropy() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)]], [[0.0, 0.0]]])
    target = torch.tensor([[[False, True]], [[False, False]]])
    # Probabilities 1/2 and 3/4; the second image has nothing to find, so that its smoothing alone is in the numerator.
    dice = (1 - (2 * 0.75 + 4e-5) / (0.25 + 0.5625 + 1 + 4e-5) + 1 - 4e-5 / (0.5 + 4e-5)) / 2
    entropy = (3 * math.log(2.0) + math.log(4 / 3)) / 4
    assert float(halved_mask_loss(logits, target)) == pytest.approx((dice + entropy) / 2, rel=1e-6)


def test_gradients_are_right() -> None:
    def rebuilt(features: Tensor, score: Tensor) -> Sequences:
        weights = score.masked_fill(~WORDS.mask, -torch.inf).softmax(dim=-1)
        return Sequences(features=features, weights=weights, mask=WORDS.mask, read=WORDS.mask)

    features = WORDS.features.clone().requires_grad_()
    score = random(*WORDS.mask.shape, seed=50).requires_grad_()
    target = random(4, 5, 6, seed=51)

    def contrast(features: Tensor, score: Tensor) -> Tensor:
        return contrastive_loss(PATCHES, rebuilt(features, score), 0.3)

    def error(features: Tensor, score: Tensor) -> Tensor:
        return weighted_error(features, target, rebuilt(features, score))

    def attention(features: Tensor, score: Tensor) -> Tensor:
        condition = rebuilt(features, score).weights
        bias = torch.zeros(4, 1, 5, dtype=torch.float64).masked_fill(~WORDS.mask.unsqueeze(1), -torch.inf)
        return torch.stack(
            [
                conditioned_attention(PATCHES.features, features, features, condition, bias, after_softmax=after)
                for after in (False, True)
            ]
        )

    for function in (contrast, error, attention):
        assert torch.autograd.gradcheck(function, (features, score))


def test_padding_changes_no_loss() -> None:
    longer = Sequences(
        # What lies there must not be read.
        features=torch.cat([WORDS.features, random(4, 3, 6, seed=60)], dim=1),
        weights=torch.nn.functional.pad(WORDS.weights, (0, 3)),
        mask=torch.nn.functional.pad(WORDS.mask, (0, 3)),
        read=torch.nn.functional.pad(WORDS.mask, (0, 3)),
    )
    found, target = random(4, 8, 6, seed=61), random(4, 8, 6, seed=62)
    for loss in (weighted_error, plain_error):
        assert loss(found, target, longer) == pytest.approx(float(loss(found[:, :5], target[:, :5], WORDS)))
    assert contrastive_loss(PATCHES, longer, 0.1) == pytest.approx(float(contrastive_loss(PATCHES, WORDS, 0.1)))


def test_interest_adds_up_to_one_and_padding_has_none() -> None:
    torch.manual_seed(0)
    interest = Interest(6).double()
    weights = interest(WORDS.features, WORDS.mask)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(4, dtype=torch.float64))
    assert (weights[~WORDS.mask] == 0).all()
    assert (weights[WORDS.mask] > 0).all()
    # One layer, ReLU, one layer, softmax over the positions (eq. 2).
    first, _, last = interest
    score = (WORDS.features[1] @ first.weight.T + first.bias).clamp(min=0) @ last.weight[0]
    torch.testing.assert_close(weights[1], score.exp() / score.exp().sum())


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9, 1.0])
def test_masking_hides_its_fraction_of_the_unpadded_positions(ratio: float) -> None:
    torch.manual_seed(0)
    lengths = [20, 1, 7]
    given = sequences(lengths)
    hidden = draw(given.weights, given.mask, ratio)
    assert hidden.sum(dim=1).tolist() == [max(1, int(ratio * length)) for length in lengths]
    assert not hidden[~given.mask].any()
    torch.manual_seed(0)
    left = masked(given, ratio).features
    assert (left[hidden] == 0).all()
    assert torch.equal(left[~hidden], given.features[~hidden])


def test_masking_draws_without_replacement_in_proportion_to_the_weights() -> None:
    torch.manual_seed(0)
    weights = torch.tensor([[0.6, 0.3, 0.1, 0.0]]).expand(4000, 4)
    mask = torch.tensor([[True, True, True, False]]).expand(4000, 4)
    one, two = (draw(weights, mask, ratio).float().mean(dim=0) for ratio in (0.34, 0.67))
    # 0.6 first, or second after 0.3 or 0.1; and so on.
    second = [0.6 + 0.3 * 0.6 / 0.7 + 0.1 * 0.6 / 0.9, 0.3 + 0.6 * 0.3 / 0.4 + 0.1 * 0.3 / 0.9]
    assert one.tolist() == pytest.approx([0.6, 0.3, 0.1, 0.0], abs=0.03)
    assert two.tolist() == pytest.approx([*second, 2 - sum(second), 0.0], abs=0.03)
    torch.manual_seed(1)
    again = draw(weights[:5], mask[:5], 0.67)
    torch.manual_seed(1)
    # The same positions are drawn whatever the padding.
    assert torch.equal(draw(weights[:5, :3], mask[:5, :3], 0.67), again[:, :3])


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_published_reconstructors_see_no_later_position(variant: str) -> None:
    torch.manual_seed(0)
    reconstructor = Reconstructor(config(variant)).double().eval()
    patches, words = sequences([9] * 4, 8, seed=70), sequences(INSIDE, 8, seed=71)
    changed = patches.features.clone()
    changed[:, -1] += 1
    with torch.no_grad():
        before = reconstructor(patches, words, conditioned=True)
        after = reconstructor(replace(patches, features=changed), words, conditioned=True)
        unconditioned = reconstructor(patches, words, conditioned=False)
    assert torch.equal(before[:, :-1], after[:, :-1]) == (variant == "published")
    assert (before[:, -1] - after[:, -1]).abs().min() > 1e-6
    assert (before - unconditioned).abs().max() > 1e-6


def test_hidden_positions_get_different_reconstructions() -> None:
    torch.manual_seed(0)
    reconstructor = Reconstructor(config()).double().eval()
    words = sequences(INSIDE, 8, seed=71)
    blank = sequences([9] * 4, 8)
    blank = replace(blank, features=torch.zeros_like(blank.features))
    with torch.no_grad():
        found = reconstructor(blank, words, conditioned=True)
    assert torch.cdist(found[0], found[0]).add(torch.eye(9)).min() > 1e-3
    positions = sinusoids(9, blank.features)
    assert positions[5, :2].tolist() == pytest.approx([math.sin(5), math.cos(5)])
    assert positions[5, 6].item() == pytest.approx(math.sin(5 / 10000 ** (6 / 8)))


@pytest.mark.parametrize("variant", ["paper", "published"])
def test_patches_attend_to_the_words_that_entered_or_to_those_that_have_attended(variant: str) -> None:
    torch.manual_seed(0)
    interaction = CrossInteraction(config(variant, heads=1)).double().eval()
    patches, words = sequences([9] * 4, 8, seed=80), sequences(INSIDE, 8, seed=81)
    with torch.no_grad():
        attended_patches, attended_words = interaction(patches.features, words.features, words.mask, attends_words=True)
        embedded = interaction.embedding(patches.features)
        attention = interaction.vision_to_text
        (wq, wk, wv), (bq, bk, bv) = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        # Eq. 1, and the output projection that attention of heads has.
        scores = (words.features @ wq.T + bq) @ (embedded @ wk.T + bk).mT / math.sqrt(8)
        values = scores.softmax(dim=-1) @ (embedded @ wv.T + bv)
        torch.testing.assert_close(attended_words, values @ attention.out_proj.weight.T + attention.out_proj.bias)
        attention.in_proj_weight.mul_(2)
        other, _ = interaction(patches.features, words.features, words.mask, attends_words=True)
    assert torch.equal(attended_patches, other) == (variant == "paper")


def test_self_attention_mixes_patches_and_words() -> None:
    torch.manual_seed(0)
    interaction = SelfInteraction(config(interaction="self")).double().eval()
    patches, words = sequences([9] * 4, 8, seed=80), sequences(INSIDE, 8, seed=81)
    with torch.no_grad():
        attended_patches, attended_words = interaction(patches.features, words.features, words.mask, attends_words=True)
        other_words = interaction(patches.features, words.features + 1, words.mask, attends_words=True)[0]
        other_patches = interaction(patches.features + 1, words.features, words.mask, attends_words=True)[1]
    assert attended_patches.shape == patches.features.shape
    assert attended_words.shape == words.features.shape
    assert (attended_patches - other_words).abs().max() > 1e-6
    assert (attended_words - other_patches).abs().max() > 1e-6


def test_batch_statistics_of_words_leave_padding_out() -> None:
    torch.manual_seed(0)
    block = ReadWords(6).double().train()
    longer = torch.cat([WORDS.features, random(4, 3, 6, seed=90)], dim=1)
    found = block(longer, torch.nn.functional.pad(WORDS.mask, (0, 3)))
    torch.testing.assert_close(found[:, :5], block(WORDS.features, WORDS.mask))
    assert (found[:, :5][~WORDS.mask] == 0).all()
    assert (found[:, 5:] == 0).all()

"""Equal texts of a batch as positives of one another, by hand and by plain loops."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from models.clip.model import Clip
from models.convirt.losses import weighted_info_nce
from models.convirt.model import Convirt
from models.data.batches import Batch, Tokenise
from models.data.shards import ShardSet
from models.gloria.model import Gloria
from models.losses import info_nce
from models.method import Method
from models.mgca.model import Mgca
from models.plan.model import Plan
from models.prior.model import Prior
from models.regionmed_clip.model import RegionMedClip
from models.siglip.losses import sigmoid_loss
from models.siglip.model import Siglip
from tests.models.small import ENCODERS, make_model
from tests.models.test_losses import unit_rows

ALL = (Clip, Siglip, Convirt, Gloria, Mgca, Plan, Prior, RegionMedClip)
KEYS = [7, 3, 7, 5, 7, 3]


def reference(left: torch.Tensor, right: torch.Tensor, keys: Sequence[int], temperature: float) -> float:
    """The mean over a row's positives, each against the columns of other texts; the mean over rows."""
    total = 0.0
    for i, key in enumerate(keys):
        scores = [math.exp(float(left[i] @ row) / temperature) for row in right]
        others = sum(score for score, other in zip(scores, keys, strict=True) if other != key)
        positives = [score for score, other in zip(scores, keys, strict=True) if other == key]
        total -= sum(math.log(score / (score + others)) for score in positives) / len(positives)
    return total / len(keys)


def test_two_equal_texts_of_three_by_hand() -> None:
    left, right = torch.eye(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    found = info_nce(left, right, 1.0, keys=torch.tensor([1, 1, 2]))
    # A row of the pair against the one other text: cosine 1 with its own, 0 with its twin.
    pair = -(math.log(math.e / (math.e + 1)) + math.log(1 / (1 + 1))) / 2
    alone = -math.log(math.e / (math.e + 2))
    assert float(found) == pytest.approx((2 * pair + alone) / 3, rel=1e-12)


def test_sharing_the_target_of_the_softmax_would_change_nothing() -> None:
    """UniCL's and SupCon's form, where the encoder gives equal texts equal embeddings: why it is not what `keys` do."""
    keys = torch.tensor(KEYS)
    images, texts = unit_rows(6, 10), unit_rows(8, 11)[keys]
    target = (keys.unsqueeze(1) == keys).double()
    target = target / target.sum(dim=1, keepdim=True)
    values, gradients = [], []
    for shares in (target, torch.eye(6, dtype=torch.float64)):
        leaves = [images.clone().requires_grad_(), unit_rows(8, 11).requires_grad_()]
        logits = leaves[0] @ leaves[1][keys].T / 0.3
        rows = torch.nn.functional.cross_entropy(logits, shares) + torch.nn.functional.cross_entropy(logits.T, shares)
        gradients.append(torch.autograd.grad(rows, leaves))
        values.append(float(rows.detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1])
    own, shared = info_nce(images, texts, 0.3), info_nce(images, texts, 0.3, keys=keys)
    assert float(own) == pytest.approx(values[1] / 2, rel=1e-12)
    assert float(shared) < float(own) - 0.1


def test_equal_texts_share_the_target() -> None:
    left, right, keys = unit_rows(6, 0), unit_rows(6, 1), torch.tensor(KEYS)
    forward, backward = reference(left, right, KEYS, 0.3), reference(right, left, KEYS, 0.3)
    assert float(info_nce(left, right, 0.3, keys=keys, symmetric=False)) == pytest.approx(forward, rel=1e-12)
    assert float(info_nce(left, right, 0.3, keys=keys)) == pytest.approx((forward + backward) / 2, rel=1e-12)
    weighted = weighted_info_nce(left, right, 0.3, 0.75, keys=keys)
    assert float(weighted) == pytest.approx(0.75 * forward + 0.25 * backward, rel=1e-12)


def test_rows_that_do_not_count_share_nothing() -> None:
    left, right = unit_rows(6, 2), unit_rows(6, 3)
    valid = torch.tensor([True, True, False, True, True, False])
    kept = [key for key, counts in zip(KEYS, valid.tolist(), strict=True) if counts]
    expected = (reference(left[valid], right[valid], kept, 0.3) + reference(right[valid], left[valid], kept, 0.3)) / 2
    assert float(info_nce(left, right, 0.3, valid=valid, keys=torch.tensor(KEYS))) == pytest.approx(expected, rel=1e-12)


def test_texts_that_all_differ_give_the_loss_of_own_targets() -> None:
    left, right, keys = unit_rows(6, 4), unit_rows(6, 5), torch.arange(6)
    torch.testing.assert_close(info_nce(left, right, 0.1, keys=keys), info_nce(left, right, 0.1))
    scale = torch.tensor([1.0, -2.0], dtype=torch.float64)
    torch.testing.assert_close(
        sigmoid_loss(left, right, *scale, keys=keys), sigmoid_loss(left, right, *scale), rtol=0, atol=0
    )


def test_the_least_loss_is_0_where_equal_texts_have_equal_embeddings() -> None:
    """Own targets ask the images of one text to be told apart, which nothing can do."""
    rows = torch.eye(3, dtype=torch.float64)[[0, 1, 0, 2, 0, 1]]
    assert float(info_nce(rows, rows, 0.01, keys=torch.tensor(KEYS))) == pytest.approx(0.0, abs=1e-9)
    assert float(info_nce(rows, rows, 0.01)) == pytest.approx((3 * math.log(3) + 2 * math.log(2)) / 6, abs=1e-9)


def test_texts_that_are_all_equal_teach_nothing() -> None:
    left, right = unit_rows(4, 12).requires_grad_(), unit_rows(4, 13)
    loss = info_nce(left, right, 0.1, keys=torch.ones(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(left.grad, torch.zeros_like(left))


def test_in_siglip_every_pair_of_an_image_and_an_equal_text_matches() -> None:
    images, texts = unit_rows(6, 6), unit_rows(6, 7)
    total = 0.0
    for i, key in enumerate(KEYS):
        for j, other in enumerate(KEYS):
            logit = 3.0 * float(images[i] @ texts[j]) - 1.5
            total += math.log(1 + math.exp(-logit if key == other else logit))
    found = sigmoid_loss(
        images,
        texts,
        torch.tensor(math.log(3.0), dtype=torch.float64),
        torch.tensor(-1.5, dtype=torch.float64),
        keys=torch.tensor(KEYS),
    )
    assert float(found) == pytest.approx(total / 6, rel=1e-12)


def test_gradients() -> None:
    leaves = [unit_rows(6, seed).requires_grad_() for seed in (8, 9)]
    keys, valid = torch.tensor(KEYS), torch.tensor([True, True, False, True, True, True])
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.5, valid=valid, keys=keys), leaves)


def batch_with_twins(tokenizer, shards: Path) -> Batch:
    stored = [s for s in ShardSet(shards / "images", shards / "captions", "train").samples() if s.captions.report]
    samples = [
        dataclasses.replace(sample, captions=dataclasses.replace(sample.captions, report=report))
        for sample, report in zip(stored, ["Red.", "blue 3", "red", "BLUE 3!"], strict=False)
    ]
    return make_model(tokenizer, RegionMedClip, sentences=True).collate(Tokenise(tokenizer, 32), None, 0)(samples, None)


@pytest.mark.parametrize("method", ALL)
def test_every_dual_encoder_takes_the_setting(method: type[Method], tokenizer, shards: Path) -> None:
    batch = batch_with_twins(tokenizer, shards)
    losses = tuple(name for name in method.losses if name in ("report", "region"))
    # Small random weights make all texts alike, and then it does not matter which is right.
    text = ENCODERS["text_encoder"]
    encoder = {"text_encoder": {"architecture": {**text["architecture"], "initializer_range": 1.0}}}
    with torch.no_grad():
        own, shared = (
            make_model(tokenizer, method, targets=targets, **encoder).eval()(batch, losses)
            for targets in ("own", "shared")
        )
    for name in losses:
        assert float(own[name]) != pytest.approx(float(shared[name]), rel=1e-4), name


@pytest.mark.parametrize("method", ALL)
def test_another_word_is_refused(method: type[Method], tokenizer) -> None:
    with pytest.raises(ValueError, match="targets 'twins' is not one of: own, shared"):
        make_model(tokenizer, method, targets="twins")


@pytest.mark.parametrize("method", ALL)
def test_temperatures_divide_and_are_above_0(method: type[Method], tokenizer) -> None:
    names = [field.name for field in fields(method.Config) if field.name.endswith("temperature")]
    assert "sentence_temperature" in names
    for name in names:
        for value in (0, -0.1):
            with pytest.raises(ValueError, match=f"{name} is {value}; give a number above 0"):
                make_model(tokenizer, method, **{name: value})

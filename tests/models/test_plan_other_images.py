"""PLAN with `negatives: images`: by plain loops, and a model that does not look at the image cannot lower the loss."""

import dataclasses
import math

import pytest
import torch

from models.capabilities import GroundsPhrases
from models.data.batches import Batch, Tokenise
from models.inference import can_ground
from models.plan.losses import Pairs
from models.plan.model import Plan
from models.plan.other_images import images_without, other_images_loss
from models.token_keys import word_keys
from tests.models.scenes import training_batch, without_layers
from tests.models.small import ENCODERS, make_model

MEAN = {"text_encoder": {**ENCODERS["text_encoder"], "pooling": "mean"}}


def planned(tokenizer, **changes: object) -> Plan:
    return make_model(tokenizer, Plan, negatives="images", **(without_layers() | MEAN | changes))


def test_images_whose_report_has_the_word_too_are_no_negatives(tokenizer) -> None:
    tokens = Tokenise(tokenizer, 32)(["red round", "blue", "round green red"])
    keys = word_keys(tokens)
    without = images_without(keys, keys != 0)
    # red: the first and third image have it; round likewise.
    assert without[0, :2].tolist() == [[False, True, False], [False, True, False]]
    assert without[1, 0].tolist() == [True, False, True]
    assert without[2].tolist() == [[False, True, False], [True, True, False], [False, True, False]]


def test_the_loss_is_that_of_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    words, patches = (torch.randn(3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    present = torch.tensor([[True, True, True, False], [True, True, False, False], [False] * 4])
    chosen = torch.tensor([[True, False, True, False], [False, True, False, False], [False] * 4])
    without = torch.rand(3, 4, 3, generator=generator) > 0.4
    pairs = Pairs(words, words, present, chosen, chosen.double())

    def pool(text: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        return torch.einsum("wd,npd->nwd", text, images)

    by_report = []
    for report in range(2):
        terms = []
        for word in range(4):
            if not chosen[report, word]:
                continue
            cosines = [
                sum(float(words[report, word, d] ** 2 * patches[image, :, d].sum()) for d in range(5)) / 0.5
                for image in range(3)
            ]
            others = sum(
                math.exp(cosines[image]) for image in range(3) if image != report and without[report, word, image]
            )
            terms.append(-math.log(math.exp(cosines[report]) / (math.exp(cosines[report]) + others)))
        by_report.append(sum(terms) / len(terms))
    for recompute in (False, True):
        found = other_images_loss(pairs, words, patches, without, pool, 0.5, recompute=recompute)
        assert float(found) == pytest.approx(sum(by_report) / 2, rel=1e-10)
    nothing = dataclasses.replace(pairs, chosen=torch.zeros_like(chosen))
    assert float(other_images_loss(nothing, words, patches, without, pool, 0.5)) == 0.0


@pytest.mark.parametrize("changes", [{}, {"refine": False}, {"encode_again": False}, {"unit_length": False}])
def test_what_a_word_pools_from_its_own_image_is_its_region(tokenizer, changes: dict) -> None:
    model = planned(tokenizer, **changes).double().eval()
    batch = training_batch(Tokenise(tokenizer, 32), 0)
    _, patches = model.image_encoder(batch.images.pixels.double())
    for iteration in model.iterate(patches, batch.report):
        for report, present in enumerate(iteration.pairs.present[:4]):
            pooled = model._pool(iteration.smoothed_words[report][present], model._pixels(patches))
            torch.testing.assert_close(pooled[report], iteration.pairs.regions[report][present])


def trained(model: Plan, tokenise: Tokenise, steps: int, *, blind: bool) -> tuple[float, float]:
    """The local loss on a batch that is not trained on, before and after; `blind` shows one image to all reports."""

    def shown(seed: int) -> Batch:
        batch = training_batch(tokenise, seed)
        if not blind:
            return batch
        pixels = batch.images.pixels[:1].expand_as(batch.images.pixels)
        return dataclasses.replace(batch, images=dataclasses.replace(batch.images, pixels=pixels))

    def value() -> float:
        with torch.no_grad():
            return float(model.eval()(shown(999), ("local",))["local"])

    before = value()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        loss = model.train()(shown(step), ("local",))["local"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return before, value()


def test_a_model_that_sees_the_same_image_everywhere_cannot_lower_the_loss(tokenizer) -> None:
    tokenise = Tokenise(tokenizer, 32)
    # Every word is a keyword, for which of them are chosen would change the number of candidates.
    before, after = trained(planned(tokenizer, iterations=1, keep_ratio=1.0), tokenise, 20, blind=True)
    # The log of the number of candidates: the words of a report are as many in each.
    keys = word_keys(training_batch(tokenise, 999).report)
    candidates = images_without(keys, keys != 0).sum(dim=-1)[keys != 0] + 1
    assert before == pytest.approx(float(candidates.log().mean()), abs=1e-4)
    assert after == pytest.approx(before, abs=1e-4)


def test_among_words_such_a_model_can(tokenizer) -> None:
    model = make_model(tokenizer, Plan, **(without_layers() | MEAN), iterations=1, negatives="batch")
    before, after = trained(model, Tokenise(tokenizer, 32), 60, blind=True)
    assert after < 0.8 * before


def test_a_model_that_sees_its_images_lowers_it(tokenizer) -> None:
    before, after = trained(planned(tokenizer, iterations=1), Tokenise(tokenizer, 32), 60, blind=False)
    assert after < 0.6 * before


def test_the_map_may_be_left_to_grad_cam(tokenizer) -> None:
    model = planned(tokenizer, map="grad_cam")
    assert not model.offers(GroundsPhrases)
    assert can_ground(model)
    assert planned(tokenizer).offers(GroundsPhrases)
    with pytest.raises(ValueError, match="map 'gradcam' is not one of: similarity, grad_cam"):
        planned(tokenizer, map="gradcam")

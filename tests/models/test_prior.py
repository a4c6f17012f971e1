"""PRIOR: its losses against plain loops, its memory and attention by hand, and the method."""

import dataclasses
import math
from itertools import permutations

import pytest
import torch

from models.data.batches import Batch, Tokenise, stack_images
from models.data.shards import Sample, ShardSet
from models.prior.losses import (
    divergence,
    matched,
    over_sentences,
    patch_agreement,
    prototype_distance,
    sentence_contrast,
)
from models.prior.model import Prior
from models.prior.modules import ImageDecoder, LocalAttention, Memory, SentencePool
from tests.models.small import make_model
from tests.models.test_losses import unit_rows

# Three reports: of two sentences, of none, of three.
PRESENT = torch.arange(3) < torch.tensor([2, 0, 3]).unsqueeze(1)


def sentences(seed: int, size: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 3, size, generator=generator, dtype=torch.float64) * PRESENT.unsqueeze(2)


def cosine(first: list[float], second: list[float]) -> float:
    dot = sum(a * b for a, b in zip(first, second, strict=True))
    return dot / math.sqrt(sum(a * a for a in first) * sum(b * b for b in second))


def test_sentences_are_contrasted_within_their_report() -> None:
    own, seen, scale = sentences(0), sentences(1), torch.tensor(3.0, dtype=torch.float64)
    by_report = []
    for report, count in ((0, 2), (2, 3)):
        first, second = own[report, :count].tolist(), seen[report, :count].tolist()
        table = [[math.exp(3 * cosine(a, b)) for b in second] for a in first]
        terms = [
            -(math.log(table[j][j] / sum(table[j])) + math.log(table[j][j] / sum(row[j] for row in table))) / 2
            for j in range(count)
        ]
        by_report.append(sum(terms) / count)
    assert float(sentence_contrast(own, seen, PRESENT, scale)) == pytest.approx(sum(by_report) / 2, rel=1e-12)


def test_patches_and_what_they_read_predict_one_another() -> None:
    patches, read = unit_rows(12, 0).view(3, 4, -1), unit_rows(12, 1).view(3, 4, -1)
    by_image = []
    for image in (0, 2):
        pairs = list(zip(patches[image].tolist(), read[image].tolist(), strict=True))
        both = [cosine([2 * x + 1 for x in a], b) + cosine([2 * x + 1 for x in b], a) for a, b in pairs]
        by_image.append(-sum(both) / len(both) / 2)
    found = patch_agreement(patches, read, PRESENT, lambda rows: 2 * rows + 1)
    assert float(found) == pytest.approx(sum(by_image) / 2, rel=1e-12)
    # What is compared with is held fixed: without a predictor to train nothing has a gradient.
    leaf = patches.clone().requires_grad_()
    assert not patch_agreement(leaf, read, PRESENT, lambda rows: rows.detach()).requires_grad


def test_what_is_made_is_matched_at_the_least_difference() -> None:
    """All assignments are tried; queries without a sentence should be 0."""
    made = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    wanted = sentences(2)
    chosen = matched(made, wanted, PRESENT)
    by_image = []
    for image, count in ((0, 2), (2, 3)):
        costs = {}
        for order in permutations(range(4), count):
            differences = sum(float((made[image, q] - wanted[image, j]).abs().sum()) for j, q in enumerate(order))
            rest = sum(float(made[image, q].abs().sum()) for q in range(4) if q not in order)
            costs[order] = (differences + rest) / 16
        best = min(costs, key=costs.__getitem__)
        torch.testing.assert_close(chosen[image, :count], made[image, list(best)])
        by_image.append(costs[best])
    assert chosen[~PRESENT].abs().sum() == 0
    found = prototype_distance(made, chosen, wanted, PRESENT)
    assert float(found) == pytest.approx(sum(by_image) / 2, rel=1e-12)


def test_the_divergence_is_that_of_the_choices() -> None:
    wanted, made = sentences(3, size=5), sentences(4, size=5)
    by_report = []
    for report, count in ((0, 2), (2, 3)):
        total = 0.0
        for j in range(count):
            p, q = ([math.exp(x) for x in rows[report, j].tolist()] for rows in (wanted, made))
            total += sum(a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True))
        by_report.append(total / count)
    assert float(divergence(wanted, made, PRESENT)) == pytest.approx(sum(by_report) / 2, rel=1e-12)
    assert float(divergence(wanted, wanted, PRESENT)) == pytest.approx(0.0, abs=1e-12)


def test_without_a_sentence_all_losses_are_0_and_have_a_gradient() -> None:
    none, leaf = torch.zeros(2, 1, dtype=torch.bool), torch.ones(2, 1, 4, dtype=torch.float64, requires_grad=True)
    chosen = matched(leaf, leaf, none)
    one = torch.tensor(1.0, dtype=torch.float64)
    losses = [
        sentence_contrast(leaf, leaf, none, one),
        patch_agreement(leaf, leaf, none, lambda rows: rows),
        prototype_distance(leaf, chosen, leaf, none),
        divergence(leaf, leaf, none),
        over_sentences(leaf.mean(dim=2), none),
    ]
    assert torch.stack(losses).tolist() == [0.0] * 5
    assert torch.equal(torch.autograd.grad(torch.stack(losses).sum(), leaf)[0], torch.zeros_like(leaf))


def test_losses_have_their_gradients() -> None:
    own, seen = sentences(6).requires_grad_(), sentences(7).requires_grad_()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    inside = PRESENT.unsqueeze(2)
    assert torch.autograd.gradcheck(
        lambda a, b, s: sentence_contrast(a * inside + 1e-3, b * inside + 1e-3, PRESENT, s), [own, seen, scale]
    )
    assert torch.autograd.gradcheck(lambda a, b: divergence(a, b, PRESENT), [own, seen])


def test_the_local_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    attention = LocalAttention(4).double().requires_grad_(False)
    own, patches = sentences(8), torch.randn(3, 5, 4, dtype=torch.float64)
    seen, read = attention(own, patches, PRESENT)

    def sigmoid(first: torch.Tensor, second: torch.Tensor) -> float:
        return 1 / (1 + math.exp(-float(first @ second) / 2))

    for image, count in enumerate(PRESENT.sum(dim=1).tolist()):
        for j in range(count):
            weights = [
                sigmoid(attention.text_query(own[image, j]), attention.patch_key(patch)) for patch in patches[image]
            ]
            expected = sum(w * attention.patch_value(p) for w, p in zip(weights, patches[image], strict=True))
            torch.testing.assert_close(seen[image, j], expected)
            torch.testing.assert_close(attention.weights(own, patches)[image, j].tolist(), weights)
        for p in range(5):
            expected = torch.zeros(4, dtype=torch.float64)
            for j in range(count):
                query = attention.patch_query(patches[image, p])
                expected += sigmoid(query, attention.text_key(own[image, j])) * attention.text_value(own[image, j])
            torch.testing.assert_close(read[image, p], expected)


def test_a_report_is_what_the_mean_of_its_sentences_attends_to() -> None:
    torch.manual_seed(0)
    pool = SentencePool(4, 2).double().requires_grad_(False)
    own = sentences(9)
    found = pool(own, PRESENT)
    for report, count in ((0, 2), (2, 3)):
        mean = own[report, :count].mean(dim=0, keepdim=True)
        together = torch.cat([mean, own[report, :count]])
        torch.testing.assert_close(found[report], pool.attention(mean, together, together)[0][0])
        order = torch.randperm(count)
        torch.testing.assert_close(
            pool(own[report : report + 1, order], PRESENT[report : report + 1, order])[0], found[report]
        )
    # Without a sentence it is that of zeros, and finite.
    assert torch.isfinite(found[1]).all()


def test_the_memory_mixes_prototypes_and_draws_in_training_alone() -> None:
    torch.manual_seed(0)
    memory = Memory(3, 4, 0.5).double().requires_grad_(False)
    sentence = torch.randn(4, dtype=torch.float64)
    weights = [math.exp(float(sentence @ row) / 0.5) for row in memory.prototypes]
    expected = sum(w / sum(weights) * row for w, row in zip(weights, memory.prototypes, strict=True))
    memory.eval()
    torch.testing.assert_close(memory(sentence), expected)
    memory.train()
    assert not torch.equal(memory(sentence), memory(sentence))


@pytest.mark.parametrize(("stride", "side"), [(1, 4), (4, 16), (6, 32)])
def test_the_image_decoder_reaches_the_pixels(stride: int, side: int) -> None:
    assert ImageDecoder(8, stride)(torch.zeros(2, 16, 8)).shape == (2, 3, side, side)


def batch_of(model: Prior, tokenizer, samples: list[Sample]) -> Batch:
    batch = model.collate(Tokenise(tokenizer, 32), None, 0)(samples, None)
    return dataclasses.replace(batch, images=dataclasses.replace(batch.images, pixels=batch.images.pixels.double()))


@pytest.fixture
def samples(shards) -> list[Sample]:
    """Reports of several sentences; the first two share one, and the third has no letters."""
    stored = [one for one in ShardSet(shards / "images", shards / "captions", "train").samples() if one.captions.report]
    reports = ["Red. Number 3. Left.", "Blue. Red.", "12.", "Green, number 1. Round."]
    return [
        dataclasses.replace(one, captions=dataclasses.replace(one.captions, report=report))
        for one, report in zip(stored, reports, strict=False)
    ]


def test_the_losses_of_a_batch_are_made_of_the_parts(samples, tokenizer) -> None:
    """In the stages of the published code: sentences are prototypes where the memory is trained."""
    model = make_model(tokenizer, Prior, queries=2).double().eval()
    batch = batch_of(model, tokenizer, samples)
    with torch.no_grad():
        found = model._sentences(batch, remembers=True)
        assert found.present.sum(dim=1).tolist() == [3, 2, 0, 2]
        # Red is the same sentence of two reports.
        red = model._encode(Tokenise(tokenizer, 32)(["red"]))[0]
        assert [int(((report - red).abs().sum(dim=1) < 1e-9).sum()) for report in found.own] == [1, 1, 0, 0]
        torch.testing.assert_close(found.used[0], model.memory(found.own[0]))
        plain, remembered = model(batch, ("report", "local")), model(batch, ("report", "local", "prototype"))
        assert plain["local"] != remembered["local"]
        distance = [(found.used[n, :c] - found.own[n, :c]).abs().mean() for n, c in ((0, 3), (1, 2), (3, 2))]
        torch.testing.assert_close(remembered["prototype"], 10 * torch.stack(distance).mean())
        everything = model(batch, model.losses)
        assert list(everything) == list(model.losses)
        torch.testing.assert_close(everything["report"], 10 * remembered["report"])
        patches = model.patch_projection(model.image_encoder(batch.images.pixels)[1])
        read = model.local_attention(found.used, patches, found.present)[1]
        pixels = model.image_decoder(torch.cat([patches, read], dim=2))
        wanted = batch.images.pixels / 127.5 - 1
        by_image = (pixels - wanted).abs().mean(dim=(1, 2, 3))
        torch.testing.assert_close(everything["image"], by_image[[0, 1, 3]].mean())


def test_each_phase_trains_what_it_should(samples, tokenizer) -> None:
    stages = {
        ("report", "local"): {"memory", "text_decoder", "image_decoder"},
        ("report", "local", "prototype"): {"text_decoder", "image_decoder"},
        Prior.losses: set(),
    }
    for losses, untouched in stages.items():
        model = make_model(tokenizer, Prior).double().eval()
        torch.stack(list(model(batch_of(model, tokenizer, samples), losses).values())).sum().backward()
        for name in (
            "image_encoder",
            "text_encoder",
            "memory",
            "local_attention",
            "pool",
            "text_decoder",
            "image_decoder",
        ):
            gradients = [part.grad for part in getattr(model, name).parameters() if part.grad is not None]
            assert any(gradient.abs().sum() > 0 for gradient in gradients) != (name in untouched), name


def test_a_batch_without_a_sentence_can_be_trained_on(samples, tokenizer) -> None:
    model = make_model(tokenizer, Prior).double()
    silent = [dataclasses.replace(one, captions=dataclasses.replace(one.captions, report="12.")) for one in samples]
    terms = model(batch_of(model, tokenizer, silent), model.losses)
    assert [value.item() for value in terms.values()] == [0.0] * 5
    torch.stack(list(terms.values())).sum().backward()


def test_a_map_is_the_weight_of_each_patch(samples, tokenizer) -> None:
    model = make_model(tokenizer, Prior).double().eval()
    images = stack_images([samples[0], samples[0], samples[1]], [[]] * 3)
    images = dataclasses.replace(images, pixels=images.pixels.double())
    tokens = Tokenise(tokenizer, 32)(["red", "the picture is blue", "green"])
    with torch.no_grad():
        maps = model.ground(images, tokens)
        patches = model.patch_projection(model.image_encoder(images.pixels)[1])
        phrases = model.memory(model._encode(tokens)).unsqueeze(1)
        torch.testing.assert_close(maps.flatten(1), model.local_attention.weights(phrases, patches)[:, 0])
    assert maps.shape == (3, 4, 4)
    assert (maps > 0).all()
    assert (maps < 1).all()


def test_what_inference_reads_must_be_trained(tokenizer) -> None:
    model = make_model(tokenizer, Prior)
    assert model.untrained({"report", "local", "prototype"}) is None
    assert model.untrained({"report", "local"}) == "the memory that texts pass"
    assert "attention that maps" in (model.untrained({"report", "prototype"}) or "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "heads 3 do not divide the embedding_size of 8"),
        ({"queries": 0}, "queries is 0; give 1 or more"),
        ({"image_dropout": 1.0}, "image_dropout is 1.0; give a number from 0 to below 1"),
        ({"gumbel_temperature": 0}, "gumbel_temperature is 0; give a number above 0"),
    ],
)
def test_settings_that_train_nothing_are_refused(change: dict[str, object], message: str, tokenizer) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(tokenizer, Prior, **change)

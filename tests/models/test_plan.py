"""PLAN: which words are kept, what an iteration does, and the map of a phrase."""

import dataclasses
from pathlib import Path

import pytest
import torch

from models.capabilities import EmbedsRegions, GroundsPhrases
from models.data.batches import Batch, Collate, Tokenise, Tokens
from models.data.shards import ShardSet
from models.plan.keywords import choose
from models.plan.model import Plan
from models.token_keys import word_keys
from models.words import pool_words
from tests.models.small import make_model
from tests.models.test_plan_equations import ALPHA, BETA, reference_align, reference_local, reference_regions


@pytest.fixture
def batch(shards: Path, tokenizer) -> Batch:
    stored = ShardSet(shards / "images", shards / "captions", "train").samples()
    samples = [sample for sample in stored if sample.captions.report is not None][:6]
    batch = Collate(Tokenise(tokenizer, 32), 0)(samples)
    return dataclasses.replace(batch, images=dataclasses.replace(batch.images, pixels=batch.images.pixels.double()))


def make_plan(tokenizer, **changes: object) -> Plan:
    """In float64, and with alignments that random weights would not show: importances and g that differ."""
    model = make_model(tokenizer, Plan, **changes).double().eval()
    with torch.no_grad():
        for layer in (model.patch_transformation, model.region_projection):
            layer.weight += 0.3 * torch.randn_like(layer.weight)
        model.alpha.copy_(ALPHA)
        model.beta.copy_(BETA)
    return model


def present(*counts: int) -> torch.Tensor:
    return torch.arange(max(counts)) < torch.tensor(counts).unsqueeze(1)


@pytest.mark.parametrize(
    ("words", "ratio", "kept"),
    [
        (1, 0.7, 1),
        (2, 0.7, 1),
        (3, 0.7, 2),
        (4, 0.7, 3),
        (41, 0.7, 29),
        (0, 0.7, 0),
        (1, 0.3, 1),
        (4, 0.1, 1),
        (4, 1.0, 4),
    ],
)
def test_keep_ratio_keeps_at_least_one_word(words: int, ratio: float, kept: int) -> None:
    here = present(words, 50)
    for sample in (False, True):
        chosen, weight = choose(torch.randn(2, 50), here, ratio, 0.07, sample=sample)
        assert chosen.sum(dim=1).tolist() == [kept, round(50 * ratio)]
        assert not (chosen & ~here).any()
        torch.testing.assert_close(weight, chosen.float())


def test_in_evaluation_the_most_important_words_are_kept() -> None:
    importance = torch.tensor([[0.1, 0.9, 0.4, 0.3, 5.0]])
    here = torch.tensor([[True, True, True, True, False]])
    chosen, _ = choose(importance, here, 0.5, 0.07, sample=False)
    assert chosen.tolist() == [[False, True, True, False, False]]


def test_in_training_words_are_drawn_in_proportion_to_the_softmax() -> None:
    torch.manual_seed(0)
    importance = torch.tensor([[0.0, 0.07, 0.14]]).expand(20000, 3)
    chosen, _ = choose(importance, torch.ones(20000, 3, dtype=torch.bool), 0.3, 0.07, sample=True)
    share = chosen.double().mean(dim=0)
    expected = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).softmax(dim=0)
    # Four standard errors of 20,000 draws.
    assert (share - expected).abs().max() < 4 * 0.5 / 20000**0.5


def test_the_choice_passes_the_gradient_of_the_softmax_straight_through() -> None:
    importance = torch.tensor([[0.1, 0.2, 0.05]], dtype=torch.float64, requires_grad=True)
    values = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    _, weight = choose(importance, present(3), 0.7, 0.07, sample=False)
    (weight * values).sum().backward()
    soft = importance.detach().clone().requires_grad_()
    ((soft / 0.07).softmax(dim=1) * values).sum().backward()
    torch.testing.assert_close(importance.grad, soft.grad)
    assert importance.grad.abs().min() > 0


def test_keys_of_words_are_equal_where_all_pieces_are() -> None:
    #                     [CLS] 5+6  7 [SEP]          [CLS] 6+5  5   6 [SEP]        [CLS] 7  5+6 [SEP]
    ids = torch.tensor([[2, 5, 6, 7, 3, 0], [2, 6, 5, 5, 6, 3], [2, 7, 5, 6, 3, 0]])
    words = torch.tensor([[-1, 0, 0, 1, -1, -1], [-1, 0, 0, 1, 2, -1], [-1, 0, 1, 1, -1, -1]])
    first, second, third = word_keys(Tokens(ids, (ids > 0).long(), words)).tolist()
    assert first[0] == third[1]
    assert first[1] == third[0]
    assert len({*first[:2], *second}) == 5


def reference_losses(model: Plan, batch: Batch, texts: list[str], tokenizer) -> list[float]:
    """L_l of each iteration from what the encoders give; the keywords are those that the model chose."""
    config = model.config
    tokenise = Tokenise(tokenizer, 32)
    _, patches = model.image_encoder(batch.images.pixels)
    unit = torch.nn.functional.normalize
    pixels = unit(model.patch_transformation(model.image_projection(patches)), dim=-1)

    def encoded(text: str) -> list[torch.Tensor]:
        tokens = tokenise([text])
        return list(unit(model.text_projection(pool_words(model.text_encoder(tokens)[1], tokens)[0][0]), dim=-1))

    left = [list(range(len(text.split()))) for text in texts]
    original = [encoded(text) for text in texts]
    previous: list[dict[int, torch.Tensor]] = [{} for _ in texts]
    losses = []
    for iteration in model.iterate(patches, batch.report):
        words, regions, keys, chosen = [], [], [], []
        for n, text in enumerate(texts):
            spelled = text.split()
            rest = " ".join(spelled[i] for i in left[n])
            vectors = encoded(rest) if config.encode_again else [original[n][i] for i in left[n]]
            scores = [
                config.smoothing * pixels[n] @ vector + (1 - config.smoothing) * previous[n].get(i, pixels[n] @ vector)
                for i, vector in zip(left[n], vectors, strict=True)
            ]
            matrix = [row.tolist() for row in scores]
            phi, _ = reference_align(matrix, config.refine, config.rescale_importance)
            pooled = torch.tensor(reference_regions(matrix, phi, pixels[n].tolist()), dtype=torch.float64)
            regions.append(unit(pooled @ model.region_projection.weight.T, dim=-1).tolist())
            words.append([vector.tolist() for vector in vectors])
            keys.append([hash(spelled[i]) for i in left[n]])
            kept = set(iteration.pairs.chosen[n].nonzero().flatten().tolist())
            assert kept <= set(left[n])
            chosen.append([place for place, i in enumerate(left[n]) if i in kept])
            previous[n] = {i: row for i, row in zip(left[n], scores, strict=True) if i in kept}
            left[n] = [i for i in left[n] if i in kept]
        in_batch = keys if config.negatives == "batch" else None
        losses.append(reference_local(words, regions, chosen, config.local_temperature, in_batch))
    return losses


@pytest.mark.parametrize(
    "changes",
    [
        {"iterations": 1},
        {"iterations": 1, "refine": False, "negatives": "report"},
        {"iterations": 3},
        {"iterations": 3, "encode_again": False, "negatives": "report", "rescale_importance": False},
    ],
)
@torch.no_grad()
def test_the_local_loss_is_the_mean_over_iterations(batch: Batch, tokenizer, shards: Path, changes: dict) -> None:
    model = make_plan(tokenizer, **changes)
    stored = ShardSet(shards / "images", shards / "captions", "train").samples()
    number = {sample.key: sample.captions.report for sample in stored}
    texts = [number[key].lower().replace(",", "").replace(".", "") for key in batch.keys]
    expected = reference_losses(model, batch, texts, tokenizer)
    assert len(expected) == changes["iterations"]
    found = model(batch, ("report", "local"))
    assert float(found["local"]) == pytest.approx(sum(expected) / len(expected), rel=1e-9)
    assert model(batch, ("local",)).keys() == {"local"}


def small_texts(tokenizer, texts: list[str]) -> Tokens:
    return Tokenise(tokenizer, 32)(texts)


@torch.no_grad()
def test_without_encoding_again_smoothing_does_nothing(batch: Batch, tokenizer) -> None:
    """S_t is then the very rows that it is smoothed with."""
    losses = {}
    for again in (False, True):
        values = [
            model(batch, Plan.losses)
            for smoothing in (0.2, 0.9)
            if (model := make_plan(tokenizer, encode_again=again, smoothing=smoothing))
        ]
        losses[again] = [float(value["local"]) for value in values]
    assert losses[False][0] == pytest.approx(losses[False][1], rel=1e-12)
    assert abs(losses[True][0] - losses[True][1]) > 1e-6


@torch.no_grad()
def test_the_map_of_a_phrase(batch: Batch, tokenizer) -> None:
    model = make_plan(tokenizer)
    assert isinstance(model, GroundsPhrases)
    assert isinstance(model, EmbedsRegions)
    texts = ["the picture is red", "green", "", "number 7", "round red left upper", "blue"]
    maps = model.ground(batch.images, small_texts(tokenizer, texts))
    assert maps.shape == (6, 4, 4)
    assert torch.equal(maps, model.ground(batch.images, small_texts(tokenizer, texts)))
    assert not maps[2].any()
    assert maps[[0, 1, 3, 4, 5]].flatten(1).std(dim=1).min() > 0
    # A text's padding and its neighbours in the batch change nothing.
    order = [5, 2, 0]
    images = dataclasses.replace(batch.images, pixels=batch.images.pixels[order])
    few = model.ground(images, small_texts(tokenizer, [texts[i] for i in order]))
    torch.testing.assert_close(few, maps[order])


@torch.no_grad()
def test_the_map_is_the_mean_similarity_of_each_patch_with_the_words_that_are_left(batch: Batch, tokenizer) -> None:
    model = make_plan(tokenizer, iterations=1, keep_ratio=1.0)
    tokens = small_texts(tokenizer, ["red", "red green"] * 3)
    _, patches = model.image_encoder(batch.images.pixels)
    pixels = model.patch_transformation(model.image_projection(patches))
    words = model.text_projection(pool_words(model.text_encoder(tokens)[1], tokens)[0])
    cosines = torch.nn.functional.cosine_similarity(pixels.unsqueeze(1), words.unsqueeze(2), dim=-1)
    expected = torch.where(torch.tensor([[True], [False]] * 3), cosines[:, 0], cosines.mean(dim=1))
    torch.testing.assert_close(model.ground(batch.images, tokens).flatten(1), expected)


@pytest.mark.parametrize("negatives", ["batch", "report"])
def test_empty_texts_give_no_nan(batch: Batch, tokenizer, negatives: str) -> None:
    for texts in (["red", "", "the picture is blue", "", "green", "round"], [""] * 6):
        model = make_plan(tokenizer, negatives=negatives).train()
        losses = model(dataclasses.replace(batch, report=small_texts(tokenizer, texts)), Plan.losses)
        sum(losses.values()).backward()
        assert torch.isfinite(torch.stack(list(losses.values()))).all()
        gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert losses["local"] == 0


def test_training_draws_words_from_torchs_random_state(batch: Batch, tokenizer) -> None:
    model = make_plan(tokenizer).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(model(batch, ("local",))["local"].item())
    assert values[0] == values[1] != values[2]


def test_every_weight_learns(batch: Batch, tokenizer) -> None:
    model = make_plan(tokenizer).train()
    model(batch, ("local",))["local"].backward()
    # BERT's pooler stands behind features that nobody asks for.
    idle = [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert all("pooler" in name for name in idle), idle


@torch.no_grad()
def test_the_report_loss_is_the_sum_of_both_directions(batch: Batch, tokenizer) -> None:
    """Eqs. 2 and 3 with plain loops."""
    model = make_plan(tokenizer)
    images, texts = model.embed_images(batch.images), model.embed_text(batch.report)
    logits = (images @ texts.T / 0.07).exp()
    expected = sum(
        -(logits[n, n] / logits[n].sum()).log() - (logits[n, n] / logits[:, n].sum()).log() for n in range(6)
    )
    found = model(batch, ("report",))
    assert found.keys() == {"report"}
    torch.testing.assert_close(found["report"], expected / 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negatives": "image"}, "negatives 'image' is not one of: batch, report"),
        ({"iterations": 0}, "iterations is 0; give at least 1"),
        ({"keep_ratio": 0.0}, "keep_ratio is 0.0; give a fraction"),
        ({"smoothing": 1.5}, "smoothing is 1.5; give a fraction"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tokenizer, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_model(tokenizer, Plan, **changes)

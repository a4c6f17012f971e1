"""Sentences against patches: the loss by hand, planted models that the map must find, and what it offers."""

import dataclasses
import math

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from models import capabilities
from models.clip.model import Clip
from models.convirt.model import Convirt
from models.data.batches import Collate, Images, Tokenise
from models.data.shards import ShardSet
from models.dual_encoder import DualEncoder
from models.gloria.model import Gloria
from models.inference import can_ground, ground
from models.method import Method
from models.mgca.model import Mgca
from models.plan.model import Plan
from models.prior.model import Prior
from models.regionmed_clip.model import RegionMedClip
from models.sentences import Sentences, sentence_loss, sentence_scores
from models.siglip.model import Siglip
from models.token_keys import text_keys
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.prepare import check_phases
from tests.models.scenes import scenes, training_batch, without_layers
from tests.models.small import ENCODERS, make_model

ALL = (Clip, Siglip, Convirt, Gloria, Mgca, Plan, Prior, RegionMedClip)
BY_SENTENCES = (Clip, Siglip, Convirt)


def batch_of(model: DualEncoder, tokenizer: PreTrainedTokenizerFast, shards, count: int = 8):
    stored = ShardSet(shards / "images", shards / "captions", "train").samples()
    samples = [sample for sample in stored if sample.captions.report is not None][:count]
    return model.collate(Tokenise(tokenizer, 32), None, 0)(samples, None)


def test_the_score_is_the_log_of_the_mean_over_patches_of_exp_cosine() -> None:
    patches = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]], dtype=torch.float64)
    sentences = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
    expected = [
        math.log(sum(math.exp(cosine / 0.5) for cosine in cosines) / 3) for cosines in ((1, 0, 0.6), (0, -1, -0.8))
    ]
    assert sentence_scores(patches, sentences, 0.5).tolist()[0] == pytest.approx(expected, rel=1e-12)


def test_near_temperature_0_the_best_patch_speaks_for_the_image() -> None:
    patches = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]], dtype=torch.float64)
    score = sentence_scores(patches, torch.tensor([[0.6, 0.8]], dtype=torch.float64), 1e-3)
    assert float(score) * 1e-3 == pytest.approx(1.0, abs=2e-3)
    # ... and a patch that does not fit can be anything.
    patches[0, 1] = -patches[0, 1]
    assert float(sentence_scores(patches, torch.tensor([[0.6, 0.8]], dtype=torch.float64), 1e-3)) == float(score)


def world() -> tuple[torch.Tensor, Sentences]:
    """3 images of 4 patches; 4 sentences, of which the first two images share the second."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.nn.functional.normalize(torch.randn(3, 4, 5, generator=generator, dtype=torch.float64), dim=-1)
    rows = torch.nn.functional.normalize(torch.randn(4, 5, generator=generator, dtype=torch.float64), dim=-1)
    owner = torch.tensor([[True, True, False, False], [False, True, True, False], [False, False, False, True]])
    return patches, Sentences(rows, torch.tensor([5, 6, 7, 8]), owner)


def reference(patches: torch.Tensor, rows: torch.Tensor, owner: list[list[bool]], temperature: float) -> float:
    """Every pair with plain loops; own sentences of an image, and images that share one, are no negatives."""
    score = [
        [sum(math.exp(float(patch @ row) / temperature) for patch in image) / len(image) for row in rows]
        for image in patches
    ]
    by_image = []
    for image, own in enumerate(owner):
        terms = []
        for sentence in (number for number, has in enumerate(own) if has):
            mine = score[image][sentence]
            lacking = sum(score[image][other] for other in range(len(rows)) if not own[other])
            others = sum(score[other][sentence] for other in range(len(owner)) if not owner[other][sentence])
            terms.append(-(math.log(mine / (mine + lacking)) + math.log(mine / (mine + others))) / 2)
        if terms:
            by_image.append(sum(terms) / len(terms))
    return sum(by_image) / len(by_image)


def test_the_loss_is_that_of_plain_loops_and_has_its_gradient() -> None:
    patches, sentences = world()
    expected = reference(patches, sentences.embeddings, sentences.owner.tolist(), 0.3)
    assert float(sentence_loss(patches, sentences, 0.3)) == pytest.approx(expected, rel=1e-12)
    leaves = [patches.requires_grad_(), sentences.embeddings.requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda some, rows: sentence_loss(some, dataclasses.replace(sentences, embeddings=rows), 0.3), leaves
    )


def test_sentences_that_the_encoder_reads_alike_are_one() -> None:
    patches, sentences = world()
    # The third sentence is written twice, once for each of two images.
    twice = Sentences(
        sentences.embeddings[[0, 1, 2, 3, 2]],
        sentences.keys[[0, 1, 2, 3, 2]],
        torch.cat([sentences.owner, torch.tensor([[False], [False], [True]])], dim=1),
    )
    owner = sentences.owner.clone()
    owner[2, 2] = True
    expected = reference(patches, sentences.embeddings, owner.tolist(), 0.3)
    assert float(sentence_loss(patches, twice, 0.3)) == pytest.approx(expected, rel=1e-12)


def test_an_image_without_sentences_is_a_negative_only_and_none_at_all_gives_0() -> None:
    patches, sentences = world()
    owner = sentences.owner.clone()
    owner[0] = False
    fewer = dataclasses.replace(sentences, owner=owner)
    expected = reference(patches, sentences.embeddings, owner.tolist(), 0.3)
    assert float(sentence_loss(patches, fewer, 0.3)) == pytest.approx(expected, rel=1e-12)
    none = Sentences(sentences.embeddings[:0], sentences.keys[:0], owner[:, :0])
    patches.requires_grad_()
    loss = sentence_loss(patches, none, 0.3)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(patches.grad, torch.zeros_like(patches))


def test_a_sentence_of_every_image_costs_nothing() -> None:
    patches, sentences = world()
    only = Sentences(sentences.embeddings[:1], sentences.keys[:1], torch.ones(3, 1, dtype=torch.bool))
    patches.requires_grad_()
    loss = sentence_loss(patches, only, 0.3)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(patches.grad, torch.zeros_like(patches))


def test_keys_of_texts_do_not_depend_on_padding_and_tell_the_order_of_tokens(tokenizer) -> None:
    tokenise = Tokenise(tokenizer, 32)
    short = tokenise(["red round", "round red", "Red, round."])
    padded = tokenise(["red round", "the picture is red number 3 left upper"])
    keys = text_keys(short)
    assert keys[0] == keys[2] == text_keys(padded)[0]
    assert len({*keys.tolist(), *text_keys(padded).tolist()}) == 3
    assert text_keys(tokenise([])).shape == (0,)


def test_the_batch_has_each_sentence_once_with_its_images(tokenizer, shards) -> None:
    stored = list(ShardSet(shards / "images", shards / "captions", "train").samples())[:3]
    reports = ["Red. No 2.5 cm disc. Red.", "No 2.5 cm disc. Blue.", "..."]
    samples = [
        dataclasses.replace(sample, captions=dataclasses.replace(sample.captions, report=report))
        for sample, report in zip(stored, reports, strict=True)
    ]
    batch = Collate(Tokenise(tokenizer, 32), 0, sentences=True)(samples)
    assert batch.sentence_owner.tolist() == [[True, True, False], [False, True, True], [False, False, False]]
    wanted = Tokenise(tokenizer, 32)(["Red.", "No 2.5 cm disc.", "Blue."])
    assert torch.equal(batch.sentences.ids, wanted.ids)
    without = Collate(Tokenise(tokenizer, 32), 0)(samples)
    assert len(without.sentences.ids) == 0
    assert without.sentence_owner.shape == (3, 0)


@pytest.mark.parametrize("method", ALL)
def test_every_dual_encoder_learns_from_sentences(method: type[Method], tokenizer, shards) -> None:
    model = make_model(tokenizer, method, sentences=True, **without_layers()).eval()
    assert model.losses == (*method.losses, "sentence")
    found = model(batch_of(model, tokenizer, shards), model.losses)
    assert found.keys() == set(model.losses)
    alone = model(batch_of(model, tokenizer, shards), ("sentence",))
    assert alone.keys() == {"sentence"}
    torch.testing.assert_close(alone["sentence"], found["sentence"])
    alone["sentence"].backward()
    assert model.sentence_projection.weight.grad.abs().sum() > 0
    assert model.text_encoder.backbone.get_input_embeddings().weight.grad.abs().sum() > 0


# PRIOR reads sentences in any case.
@pytest.mark.parametrize("method", [method for method in ALL if method is not Prior])
def test_without_the_option_nothing_is_different(method: type[Method], tokenizer, shards) -> None:
    model = make_model(tokenizer, method).eval()
    assert model.losses == method.losses
    assert not any("sentence" in name for name in model.state_dict())
    assert len(batch_of(model, tokenizer, shards).sentences.ids) == 0
    assert model.offers(capabilities.GroundsPhrases) == (method not in BY_SENTENCES)
    assert can_ground(model)


def test_the_loss_is_required_where_the_option_is_on(tokenizer) -> None:
    config = TrainingConfig(phases={"one": Phase(epochs=1, batch_size=4, learning_rate=1e-3, losses=("report",))})
    engine = EngineConfig(threads=1, num_workers=1)
    with pytest.raises(ValueError, match=r"leaves out the losses \['sentence'\]"):
        check_phases(make_model(tokenizer, Clip, sentences=True), config, engine, usable=9, validation=9)
    check_phases(make_model(tokenizer, Clip), config, engine, usable=9, validation=9)


def pointing(model: DualEncoder, tokenise: Tokenise, *, shuffled: bool = False) -> float:
    """How often the map of a finding's name is highest on its patch; `shuffled` shows the model other images."""
    pixels, found = scenes(60, 1000)
    pairs = [(image, name, place) for image, names in enumerate(found) for name, place in names.items()]
    seen = pixels.roll(1, dims=0) if shuffled else pixels
    images = Images(seen[[image for image, _, _ in pairs]], torch.zeros(0, 3, 1, 1), torch.zeros(0, dtype=torch.long))
    with torch.inference_mode():
        maps = model.ground(images, tokenise([name for _, name, _ in pairs])).flatten(1)
    places = torch.tensor([place for _, _, place in pairs])
    return float((maps.argmax(dim=1) == places).double().mean())


def test_names_in_reports_find_their_patches_and_a_model_that_sees_other_images_does_not(tokenizer) -> None:
    encoders = without_layers() | {"text_encoder": {**ENCODERS["text_encoder"], "pooling": "mean"}}
    model = make_model(tokenizer, Clip, sentences=True, **encoders)
    tokenise = Tokenise(tokenizer, 32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    assert pointing(model.eval(), tokenise) < 0.5
    for step in range(200):
        loss = model.train()(training_batch(tokenise, step), ("sentence",))["sentence"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # No report names a place: only the image can tell.
    assert pointing(model.eval(), tokenise) > 0.6
    assert pointing(model, tokenise, shuffled=True) < 0.25


@pytest.mark.parametrize("method", BY_SENTENCES)
def test_the_map_is_the_cosine_of_patches_and_phrase_and_grad_cam_is_not_asked(
    method: type[Method], tokenizer, shards
) -> None:
    model = make_model(tokenizer, method, sentences=True, **without_layers()).eval()
    stored = list(ShardSet(shards / "images", shards / "captions", "train").samples())[:3]
    phrases = ["red", "blue number 3", "left upper"]
    found = [heat for _, heat in ground(model, tokenizer, zip(stored, phrases, strict=True), 2)]
    pixels = torch.stack([torch.from_numpy(sample.image.copy()).permute(2, 0, 1) for sample in stored])
    with torch.inference_mode():
        patches = model.sentence_projection(model.image_encoder(pixels)[1])
        texts = model.embed_text(Tokenise(tokenizer, 32)(phrases))
    for heat, own, text in zip(found, patches, texts, strict=True):
        expected = torch.cosine_similarity(own, text.unsqueeze(0), dim=-1).view(4, 4)
        torch.testing.assert_close(torch.from_numpy(heat), expected)


def test_regionmed_clip_has_that_map_too_where_it_is_chosen(tokenizer, shards) -> None:
    model = make_model(tokenizer, RegionMedClip, sentences=True, map="patches").eval()
    images = batch_of(model, tokenizer, shards, 2).images
    tokens = Tokenise(tokenizer, 32)(["red", "blue"])
    with torch.no_grad():
        torch.testing.assert_close(model.ground(images, tokens), DualEncoder.ground(model, images, tokens))
    with pytest.raises(ValueError, match="map patches is what sentences teach: set sentences"):
        make_model(tokenizer, RegionMedClip, map="patches")


def test_a_vit_without_layers_needs_the_mean(tokenizer) -> None:
    encoder = {"image_encoder": {**without_layers()["image_encoder"], "pooling": "first"}}
    with pytest.raises(ValueError, match="pooling first of a vit without layers sees no pixel: choose mean"):
        make_model(tokenizer, Clip, **encoder)


@pytest.mark.parametrize("layers", [0, 1])
def test_of_few_layers_the_last_norm_stays_and_grad_cam_has_a_map(layers: int, tokenizer, shards) -> None:
    encoder = ENCODERS["image_encoder"]
    encoder = {"image_encoder": {**encoder, "architecture": {**encoder["architecture"], "num_hidden_layers": layers}}}
    model = make_model(tokenizer, Clip, **encoder).eval()
    pixels = torch.randint(0, 256, (2, 3, 16, 16))
    with torch.no_grad():
        _, patches = model.image_encoder(pixels)
    assert patches.shape == (2, 16, 16)
    # Of a LayerNorm that has not been trained: mean 0, variance 1.
    torch.testing.assert_close(patches.mean(dim=-1), torch.zeros(2, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(patches.var(dim=-1, correction=0), torch.ones(2, 16), atol=1e-3, rtol=0)
    sample = next(iter(ShardSet(shards / "images", shards / "captions", "train").samples()))
    ((_, heat),) = ground(model, tokenizer, [(sample, "red")], 1)
    assert heat.shape == (4, 4)

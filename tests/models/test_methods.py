"""What every method must keep, and what RegionMed-CLIP's regions may and may not do."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from models import checkpoint
from models.capabilities import EmbedsImages, EmbedsRegions, EmbedsText, GroundsPhrases
from models.clip.model import Clip
from models.convirt.model import Convirt
from models.data.batches import Batch, Collate, Images, Tokenise, Tokens, input_regions, stack_images
from models.data.shards import Sample, ShardSet
from models.data.texts import report_of_epoch
from models.encoders import EncoderConfig
from models.gloria.model import Gloria
from models.inference import embed_images, embed_texts
from models.method import Method
from models.mgca.model import Mgca
from models.prior.model import Prior
from models.regionmed_clip.model import RegionMedClip
from models.siglip.model import Siglip
from models.verified import DamagedError, seal
from tests.models.small import make_model
from tests.shards import INPUT_FORMAT

METHODS = [Clip, Convirt, Gloria, Mgca, Prior, RegionMedClip, Siglip]
# What a loss of PRIOR is depends on the others of its phase: tests/models/test_prior.py.
WITH_LOSSES_OF_THEIR_OWN = [method for method in METHODS if method is not Prior]


@pytest.fixture
def samples(shards: Path) -> list[Sample]:
    stored = ShardSet(shards / "images", shards / "captions", "train").samples()
    return [sample for sample in stored if sample.captions.report is not None][:8]


def collate(samples: list[Sample], tokenizer, regions: int) -> Batch:
    return Collate(Tokenise(tokenizer, 32), regions, sentences=True)(samples)


def in_double(images: Images) -> Images:
    return dataclasses.replace(images, pixels=images.pixels.double(), crops=images.crops.double())


@pytest.mark.parametrize("method", METHODS)
def test_capabilities(tokenizer, method: type[Method]) -> None:
    model = make_model(tokenizer, method)
    assert all(isinstance(model, offered) for offered in (EmbedsImages, EmbedsRegions, EmbedsText))
    assert model.offers(GroundsPhrases) == (method in (Gloria, Mgca, Prior, RegionMedClip))


@pytest.mark.parametrize("method", METHODS)
def test_permuting_a_batch_permutes_the_embeddings_and_keeps_the_losses(
    samples, tokenizer, method: type[Method]
) -> None:
    model = make_model(tokenizer, method).double().eval()
    order = [3, 0, 7, 1, 5, 2, 6, 4]
    batches = [collate(group, tokenizer, model.max_regions) for group in (samples, [samples[i] for i in order])]
    doubles = [dataclasses.replace(batch, images=in_double(batch.images)) for batch in batches]
    with torch.no_grad():
        first, second = (model.embed_images(batch.images) for batch in doubles)
        torch.testing.assert_close(first[order], second)
        for name, value in model(doubles[0], method.losses).items():
            torch.testing.assert_close(value, model(doubles[1], method.losses)[name])


@pytest.mark.parametrize("method", WITH_LOSSES_OF_THEIR_OWN)
def test_every_loss_is_given_alone_and_reaches_the_encoders(samples, tokenizer, method: type[Method]) -> None:
    model = make_model(tokenizer, method).eval()
    batch = collate(samples, tokenizer, model.max_regions)
    together = model(batch, method.losses)
    assert tuple(together) == method.losses
    for name in method.losses:
        alone = model(batch, (name,))
        assert list(alone) == [name]
        torch.testing.assert_close(alone[name], together[name])
        model.zero_grad()
        alone[name].backward()
        for encoder in (model.image_encoder, model.text_encoder):
            assert sum(float(p.grad.abs().sum()) for p in encoder.parameters() if p.grad is not None) > 0


@pytest.mark.parametrize("method", METHODS)
def test_padding_the_texts_keeps_the_losses(samples, tokenizer, method: type[Method]) -> None:
    model = make_model(tokenizer, method).double().eval()
    batch = collate(samples, tokenizer, model.max_regions)
    batch = dataclasses.replace(batch, images=in_double(batch.images))
    longer = {
        name: Tokens(*(torch.nn.functional.pad(part, (0, 3), value=filling) for part, filling in parts))
        for name, parts in (
            (name, zip(dataclasses.astuple(getattr(batch, name)), (tokenizer.pad_token_id, 0, -1), strict=True))
            for name in ("report", "summary", "phrases", "sentences")
        )
    }
    with torch.no_grad():
        expected, found = model(batch, method.losses), model(dataclasses.replace(batch, **longer), method.losses)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@pytest.mark.parametrize("method", [Gloria, Mgca])
def test_a_map_is_the_mean_attention_of_the_words(samples, tokenizer, method: type[Method]) -> None:
    model = make_model(tokenizer, method).double().eval()
    images, tokenise = in_double(stack_images(samples[:2], [[], []])), Tokenise(tokenizer, 32)
    first = dataclasses.replace(images, pixels=images.pixels[:1])
    with torch.no_grad():
        maps = model.ground(images, tokenise(["red", "the picture is blue"]))
        # Neither the other phrase nor its padding matters.
        torch.testing.assert_close(maps[:1], model.ground(first, tokenise(["red"])))
        assert torch.isfinite(model.ground(first, tokenise(["."]))).all()
    assert maps.shape == (2, 4, 4)
    assert maps[1].max() > maps[1].min()
    torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(2, dtype=torch.float64))


def test_the_weights_of_mgca_count(samples, tokenizer) -> None:
    batch = collate(samples, tokenizer, 0)
    once, twice = (
        make_model(tokenizer, Mgca, token_weight=weight, prototype_weight=weight).eval() for weight in (1, 2)
    )
    with torch.no_grad():
        first, second = once(batch, Mgca.losses), twice(batch, Mgca.losses)
    torch.testing.assert_close(first["report"], second["report"])
    for name in ("token", "prototype"):
        torch.testing.assert_close(2 * first[name], second[name])


def test_gloria_computes_again_where_the_encoders_work_in_parts(samples, tokenizer) -> None:
    gradients = []
    for rows in (None, 3):
        model = make_model(tokenizer, Gloria).double().eval()
        model.image_encoder.rows_at_a_time = model.text_encoder.rows_at_a_time = rows
        batch = collate(samples, tokenizer, 0)
        batch = dataclasses.replace(batch, images=in_double(batch.images))
        torch.stack(list(model(batch, Gloria.losses).values())).sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients)


def test_texts_are_normalised_or_left_as_written(tokenizer) -> None:
    normalised, written = (Tokenise(tokenizer, 32, normalises=choice) for choice in (True, False))
    assert torch.equal(normalised(["Red, GREEN."]).ids, written(["red green"]).ids)
    assert written(["Red, GREEN."]).ids.shape != written(["red green"]).ids.shape


def test_the_tokenizer_of_a_pretrained_text_encoder_is_its_own(tokenizer, tmp_path: Path) -> None:
    scratch = make_model(tokenizer, Clip)
    assert Clip.pretrained_tokenizer(scratch.config) is None
    tokenizer.save_pretrained(tmp_path)
    encoder = EncoderConfig(pretrained=str(tmp_path))
    found = Clip.pretrained_tokenizer(dataclasses.replace(scratch.config, text_encoder=encoder))
    assert found("red 12").input_ids == tokenizer("red 12").input_ids


@pytest.mark.parametrize("method", METHODS)
def test_embeddings_have_length_1_and_do_not_depend_on_the_batch(samples, tokenizer, method: type[Method]) -> None:
    model = make_model(tokenizer, method).eval()
    together, alone = embed_images(model, samples, 8), embed_images(model, samples, 1)
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), rtol=1e-4, atol=1e-5)
    assert torch.tensor(together).norm(dim=1).tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    texts = ["red", "the picture is blue number 3", "green"]
    # Padding words to the longest of a batch changes nothing.
    torch.testing.assert_close(
        torch.tensor(embed_texts(model, tokenizer, texts, 3)),
        torch.tensor(embed_texts(model, tokenizer, texts, 1)),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_gives_the_model_back(samples, tokenizer, tmp_path: Path, method: type[Method]) -> None:
    model = make_model(tokenizer, method).eval()
    checkpoint.save(tmp_path, "some_method", model, model.state_dict(), tokenizer, {"steps": []}, INPUT_FORMAT)
    loaded, same_tokenizer = checkpoint.load(tmp_path, method)
    assert loaded.config == model.standalone_config()
    assert same_tokenizer.model_max_length == 32
    assert (embed_images(loaded, samples, 8) == embed_images(model, samples, 8)).all()
    texts = ["the picture is red", "blue"]
    assert (embed_texts(loaded, same_tokenizer, texts, 2) == embed_texts(model, tokenizer, texts, 2)).all()
    before = checkpoint.digest(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"method": "other"}))
    with pytest.raises(DamagedError, match=r"config\.json has other bytes"):
        checkpoint.load(tmp_path, method)
    with pytest.raises(DamagedError, match=r"config\.json has other bytes"):
        checkpoint.digest(tmp_path)
    seal(tmp_path)
    assert checkpoint.digest(tmp_path) != before


def with_role(sample: Sample, role: str) -> Sample:
    regions = tuple(dataclasses.replace(region, role=role) for region in sample.meta.regions)
    return dataclasses.replace(sample, meta=dataclasses.replace(sample.meta, regions=regions))


def test_truth_regions_are_never_seen(samples, tokenizer) -> None:
    model = make_model(tokenizer).eval()
    hidden = [with_role(sample, "truth") for sample in samples]
    without = [stack_images([sample], [[]]) for sample in samples]
    with torch.no_grad():
        expected = torch.cat([model.embed_images(images) for images in without])
    torch.testing.assert_close(torch.tensor(embed_images(model, hidden, 8)), expected, rtol=1e-4, atol=1e-5)
    assert len(collate(hidden, tokenizer, 2).images.owner) == 0
    # The test would say nothing if regions did not matter.
    assert abs(embed_images(model, samples, 8) - expected.numpy()).max() > 1e-3


def test_the_three_embeddings(samples, tokenizer) -> None:
    images = stack_images(samples, [input_regions(sample, 4) for sample in samples])
    vectors = {}
    for kind in ("global", "regions", "mean"):
        with torch.no_grad():
            vectors[kind] = make_model(tokenizer, embedding=kind).eval().embed_images(images)
    both = torch.nn.functional.normalize(vectors["global"] + vectors["regions"], dim=-1)
    torch.testing.assert_close(vectors["mean"], both)
    with pytest.raises(ValueError, match="embedding 'roi' is not one of"):
        make_model(tokenizer, embedding="roi")


def test_images_without_regions_take_part_in_global_losses_only(samples, tokenizer) -> None:
    model = make_model(tokenizer).eval()
    bare = [with_role(sample, "truth") for sample in samples]
    with torch.no_grad():
        losses = model(collate(bare, tokenizer, 4), RegionMedClip.losses)
        mixed = model(collate([*samples[:4], *bare[4:]], tokenizer, 4), RegionMedClip.losses)
        half = model(collate(samples[:4], tokenizer, 4), ("region", "negatives"))
    assert losses["region"] == losses["negatives"] == 0
    assert losses["report"] > 0
    torch.testing.assert_close(mixed["region"], half["region"])
    torch.testing.assert_close(mixed["negatives"], half["negatives"])


def test_long_texts_are_cut_and_keep_their_end_token(tokenizer) -> None:
    tokenise = Tokenise(tokenizer, 4)
    tokens = tokenise(["red green blue red green", "red"])
    assert tokens.ids.shape == (2, 4)
    assert tokens.ids[0, -1] == tokenizer.sep_token_id
    assert tokenise.lengths(["red green blue red green", "red"]) == [7, 3]


def test_training_draws_one_of_several_reports(samples: list[Sample], tokenizer) -> None:
    captions = dataclasses.replace(samples[0].captions, report="red", other_reports=("green", "blue"))
    given = [dataclasses.replace(samples[0], captions=captions)]
    tokenise = Tokenise(tokenizer, 32)
    batches = Collate(tokenise, 0, seed=3)
    words = {tuple(tokenise([word]).ids[0].tolist()): word for word in ("red", "green", "blue")}
    drawn = [words[tuple(batches(given, epoch).report.ids[0].tolist())] for epoch in range(30)]
    assert set(drawn) == {"red", "green", "blue"}
    assert drawn == [report_of_epoch(given[0], 3, epoch) for epoch in range(30)]
    assert words[tuple(batches(given).report.ids[0].tolist())] == "red", "outside training the first is read"
    assert Clip.training_texts(given[0])[:3] == ["red", "green", "blue"]


def test_every_method_hands_its_seed_to_the_choice_of_reports(tokenizer) -> None:
    for method in METHODS:
        assert make_model(tokenizer, method).collate(Tokenise(tokenizer, 32), None, 5).seed == 5

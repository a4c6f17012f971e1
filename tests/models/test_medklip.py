"""MedKLIP: its decoder beside torch's, its losses against plain loops, what samples say of entities, and the method."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from models import checkpoint
from models.capabilities import EmbedsImages, EmbedsRegions, EmbedsText, GroundsPhrases
from models.data.batches import Tokenise, stack_images
from models.data.shards import Sample, ShardSet
from models.geometry import POSITIONS
from models.inference import embed_images, embed_texts, ground
from models.medklip.config import MedklipConfig
from models.medklip.entities import EntityBatch, EntityCollate
from models.medklip.losses import existence_loss, position_loss
from models.medklip.model import Medklip
from models.query_decoder import DecoderLayer, QueryDecoder
from tests.models.small import ENCODERS, MEDKLIP, make_model
from tests.shards import INPUT_FORMAT, image_captions, image_meta, region_caption, region_meta

ENCODERS_ALONE = {name: ENCODERS[name] for name in ("image_encoder", "text_encoder")}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sample(number: int, labels: tuple[str, ...] | None, regions=(), source: str = "one", **caption) -> Sample:
    """An image with labels, and regions (role, term, position)."""
    key = f"{number:016x}"
    metas = [region_meta(f"{key}-{n}", role) for n, (role, _, _) in enumerate(regions)]
    texts = [region_caption(f"{key}-{n}", "round", term, place) for n, (_, term, place) in enumerate(regions)]
    meta = image_meta(key, metas, labels=labels, source=source)
    return Sample(key, meta, image_captions(key, [dataclasses.replace(text, **caption) for text in texts]), {})


def config(**changes: object) -> MedklipConfig:
    return checkpoint.build(MedklipConfig, ENCODERS_ALONE | MEDKLIP | changes)


def labelled(shards: Path, count: int = 8) -> list[Sample]:
    """Images whose labels are their colour, all but one of each five, which nobody labelled."""
    stored = list(ShardSet(shards / "images", shards / "captions", "train").samples())[:count]
    colours = [("red",), ("green",), ("blue",)]
    return [
        dataclasses.replace(one, meta=dataclasses.replace(one.meta, labels=colours[n % 3] if n % 5 else None))
        for n, one in enumerate(stored)
    ]


def batch_of(model: Medklip, tokenizer, samples: list[Sample], *, double: bool = True) -> EntityBatch:
    batch = model.collate(Tokenise(tokenizer, 32), None, 0)(samples, None)
    pixels = batch.images.pixels.double() if double else batch.images.pixels
    return dataclasses.replace(batch, images=dataclasses.replace(batch.images, pixels=pixels))


def test_a_layer_is_torchs_with_the_norm_first() -> None:
    torch.manual_seed(0)
    theirs = nn.TransformerDecoderLayer(8, 2, 12, 0.1, "relu", batch_first=True, norm_first=True).double().eval()
    ours = DecoderLayer(8, 2, 12, 0.1).double().eval()
    ours.load_state_dict(theirs.state_dict())
    queries, patches = random(3, 4, 8), random(3, 5, 8, seed=1)
    torch.testing.assert_close(ours(queries, patches)[0], theirs(queries, patches))


def test_the_map_is_the_mean_attention_over_layers_and_heads() -> None:
    torch.manual_seed(0)
    decoder = QueryDecoder(2, 4, 2, 6, 0.1).double().eval().requires_grad_(False)
    queries, patches = random(1, 3, 4), random(1, 5, 4, seed=1)
    found, maps = decoder(queries, patches)
    expected = [[0.0] * 5 for _ in range(3)]
    hidden = queries
    for layer in decoder.layers:
        attention = layer.multihead_attn
        beside = layer.norm1(hidden)
        asking = layer.norm2(hidden + layer.self_attn(beside, beside, beside)[0])[0]
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        asked, keys = asking @ weight[:4].T + bias[:4], patches[0] @ weight[4:8].T + bias[4:8]
        for head in (slice(0, 2), slice(2, 4)):
            for q in range(3):
                scores = [math.exp(float(asked[q, head] @ keys[p, head]) / math.sqrt(2)) for p in range(5)]
                for p in range(5):
                    expected[q][p] += scores[p] / sum(scores) / 4
        hidden = layer(hidden, patches)[0]
    torch.testing.assert_close(maps[0], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(found, decoder.norm(hidden))


def test_existence_is_the_cross_entropy_of_what_is_known() -> None:
    logits, exists = random(2, 3, 2), torch.tensor([[1, 0, -1], [-1, 1, 1]])
    terms = []
    for image in range(2):
        for entity in range(3):
            if (there := int(exists[image, entity])) >= 0:
                both = [math.exp(float(value)) for value in logits[image, entity]]
                terms.append(-math.log(both[there] / sum(both)))
    assert float(existence_loss(logits, exists)) == pytest.approx(sum(terms) / 4, rel=1e-12)
    leaf = logits.requires_grad_()
    existence_loss(leaf, torch.full((2, 3), -1)).backward()
    assert leaf.grad.abs().sum() == 0


PLACES = torch.zeros(2, 3, 9, dtype=torch.bool)
PLACES[0, 1, [2, 7]] = PLACES[1, 0, 4] = True


def test_the_position_is_contrasted_with_those_where_the_entity_is_not() -> None:
    """The mean over what the published code could draw of an entity's positions, each against all that are not."""
    scores = random(2, 3, 9)
    by_entity = []
    for image, entity in ((0, 1), (1, 0)):
        row, there = scores[image, entity].tolist(), PLACES[image, entity].tolist()
        others = sum(math.exp(value) for value, has in zip(row, there, strict=True) if not has)
        own = [math.exp(value) for value, has in zip(row, there, strict=True) if has]
        by_entity.append(sum(-math.log(value / (value + others)) for value in own) / len(own))
    assert float(position_loss(scores, PLACES)) == pytest.approx(sum(by_entity) / 2, rel=1e-12)
    assert torch.autograd.gradcheck(lambda some: position_loss(some, PLACES), [scores.requires_grad_()])


def test_an_entity_that_is_everywhere_or_of_unknown_place_teaches_no_position() -> None:
    scores, everywhere = random(1, 2, 9).requires_grad_(), torch.zeros(1, 2, 9, dtype=torch.bool)
    for places in (everywhere, everywhere | (torch.arange(2) == 0).view(1, 2, 1)):
        loss = position_loss(scores, places)
        assert loss.item() == 0
        assert torch.isfinite(torch.autograd.grad(loss, scores)[0]).all()


def test_entities_are_what_labels_name_the_most_frequent_first() -> None:
    samples = [
        sample(0, ("Lung_Opacity",)),
        sample(1, ("lung opacity", "mass")),
        sample(2, (), [("input", "nodule", "left upper")]),
        sample(3, ("polyp",), source="two"),
        sample(4, None, source="three"),
    ]
    found = Medklip.complete_config(config(entities={}, named={}), samples)
    assert found.entities == {name: name for name in ("lung opacity", "mass", "polyp")}
    assert found.named == {"one": ["lung opacity", "mass"], "three": [], "two": ["polyp"]}
    fewer = Medklip.complete_config(config(entities={}, named={}, max_entities=2), samples)
    assert list(fewer.entities) == ["lung opacity", "mass"]
    own = Medklip.complete_config(config(entities={"Mass": "a dense thing", "hernia": "a gap"}, named={}), samples)
    assert list(own.entities.values()) == ["a dense thing", "a gap"]
    assert own.named == {"one": ["Mass"], "three": [], "two": []}


@pytest.mark.parametrize("labels", [None, (), ("cyst",)])
def test_without_a_label_of_an_entity_there_is_nothing_to_learn(labels) -> None:
    entities = {"mass": "mass"} if labels == ("cyst",) else {}
    with pytest.raises(ValueError, match="no label of a training image names an entity") as refused:
        Medklip.complete_config(config(entities=entities), [sample(0, labels)])
    assert "\n" not in str(refused.value)


def test_what_a_sample_says_of_entities(tokenizer) -> None:
    """Present, absent or unknown, and where; by hand."""
    names = {"red": "a red thing", "green": "green", "blue": "blue"}
    collate = EntityCollate(Tokenise(tokenizer, 32), config(entities=names, named={"one": ["green", "red"], "two": []}))
    left, low = POSITIONS.index("left upper"), POSITIONS.index("right lower")
    cases = [
        # Of a source whose labels name red and green; blue is none of its labels.
        (sample(0, ("red",)), [1, 0, -1], []),
        (sample(1, ()), [0, 0, -1], []),
        (sample(2, None), [-1, -1, -1], []),
        # A term says that an entity is there, and where, also where no label could name it.
        (sample(3, ("Red",), [("input", "blue", "Left upper")]), [1, 0, 1], [(2, left)]),
        (
            sample(4, None, [("input", "red", "left upper"), ("input", "red", "right lower")]),
            [1, -1, -1],
            [(0, left), (0, low)],
        ),
        # What is drawn for evaluation, and what was captioned from it, is never read.
        (sample(5, None, [("truth", "red", "left upper")]), [-1, -1, -1], []),
        (sample(6, None, [("input", "red", "left upper")], oracle=True), [-1, -1, -1], []),
        (sample(7, None, [("input", "red", "left upper")], status="rejected"), [-1, -1, -1], []),
        # A term that is no entity, and a source without labels.
        (sample(8, ("red",), [("input", "cyst", "left upper")], source="two"), [1, -1, -1], []),
    ]
    for one, exists, places in cases:
        found, where = collate._targets(one)
        assert found.tolist() == exists, one.key
        assert where.nonzero().tolist() == [list(place) for place in places], one.key


def test_images_of_which_nothing_is_known_are_left_out() -> None:
    assert Medklip.skip_reason(sample(0, None)) == "no_entity"
    assert Medklip.skip_reason(sample(0, None, [("truth", "red", "left upper")])) == "no_entity"
    assert Medklip.skip_reason(sample(0, ())) is None
    assert Medklip.skip_reason(sample(0, None, [("input", "red", "left upper")])) is None
    assert "mass" in Medklip.training_texts(sample(0, ("mass",)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "heads 3 do not divide the width of 8"),
        ({"layers": 0}, "layers is 0; give 1 or more"),
        ({"dropout": 1.0}, "dropout is 1.0; give a number from 0 to below 1"),
        ({"description_length": 2}, "description_length is 2; give 3 or more"),
        ({"entities": {"Mass": "a", "mass": "b"}}, "entities names one twice"),
    ],
)
def test_settings_that_train_nothing_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**change)


def test_capabilities(tokenizer) -> None:
    model = make_model(tokenizer, Medklip)
    assert all(model.offers(one) for one in (EmbedsImages, EmbedsRegions, EmbedsText, GroundsPhrases))


def test_permuting_a_batch_and_padding_its_texts_keep_the_losses(shards: Path, tokenizer) -> None:
    model = make_model(tokenizer, Medklip).double().eval()
    samples = labelled(shards)
    batch = batch_of(model, tokenizer, samples)
    order = [3, 0, 7, 1, 5, 2, 6, 4]
    permuted = batch_of(model, tokenizer, [samples[i] for i in order])
    padded = dataclasses.replace(batch, descriptions=longer(batch.descriptions), positions=longer(batch.positions))
    with torch.no_grad():
        expected = model(batch, model.losses)
        for other in (permuted, padded):
            for name, value in model(other, model.losses).items():
                torch.testing.assert_close(value, expected[name])
        first, second = (model.embed_images(one.images) for one in (batch, permuted))
    torch.testing.assert_close(first[order], second)
    assert min(float(value) for value in expected.values()) > 0


def longer(tokens):
    parts = zip((tokens.ids, tokens.mask, tokens.words), (0, 0, -1), strict=True)
    return type(tokens)(*(nn.functional.pad(part, (0, 3), value=filling) for part, filling in parts))


def test_every_loss_is_given_alone_and_reaches_the_encoders(shards: Path, tokenizer) -> None:
    model = make_model(tokenizer, Medklip).eval()
    batch = batch_of(model, tokenizer, labelled(shards), double=False)
    together = model(batch, model.losses)
    assert tuple(together) == model.losses
    for name in model.losses:
        alone = model(batch, (name,))
        assert list(alone) == [name]
        torch.testing.assert_close(alone[name], together[name])
        model.zero_grad()
        alone[name].backward()
        for part in (model.image_encoder, model.text_encoder, model.decoder, model.query_projection):
            assert sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None) > 0


def test_a_phrase_joins_the_entities_and_its_map_is_its_own(shards: Path, tokenizer) -> None:
    model = make_model(tokenizer, Medklip).double().eval()
    samples, tokenise = labelled(shards, 3), Tokenise(tokenizer, 32)
    with torch.no_grad():
        model(batch_of(model, tokenizer, samples), model.losses)
    images = stack_images(samples, [[]] * 3)
    images = dataclasses.replace(images, pixels=images.pixels.double()[[0, 0, 2]])
    phrases = ["red", "the picture is blue", "left upper"]
    with torch.no_grad():
        maps = model.ground(images, tokenise(phrases))
        last = dataclasses.replace(images, pixels=images.pixels[2:])
        torch.testing.assert_close(model.ground(last, tokenise(phrases[2:])), maps[2:])
        # The row of the phrase among all queries.
        queries = torch.cat([model._entities(), model._queries(tokenise(phrases[2:]))])
        attention = model.decoder(queries.unsqueeze(0), model._patches(last.pixels))[1]
        torch.testing.assert_close(attention[0, -1].view(4, 4), maps[2])
    assert maps.shape == (3, 4, 4)
    torch.testing.assert_close(maps.sum(dim=(1, 2)), torch.ones(3, dtype=torch.float64))
    assert (maps[0] - maps[1]).abs().max() > 1e-9


def test_embeddings_have_length_1_and_do_not_depend_on_the_batch(shards: Path, tokenizer) -> None:
    model, samples, texts = make_model(tokenizer, Medklip).eval(), labelled(shards), ["red", "the picture is blue"]
    together, alone = embed_images(model, samples, 8), embed_images(model, samples, 1)
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), rtol=1e-4, atol=1e-5)
    assert torch.tensor(together).norm(dim=1).tolist() == pytest.approx([1.0] * 8, abs=1e-5)
    by_text = [torch.tensor(embed_texts(model, tokenizer, texts, size)) for size in (2, 1)]
    torch.testing.assert_close(*by_text, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_asks_for_the_entities_of_training(shards: Path, tokenizer, tmp_path: Path) -> None:
    model, samples = make_model(tokenizer, Medklip).eval(), labelled(shards)
    model(batch_of(model, tokenizer, samples, double=False), model.losses)
    # As long as the longest description, which was padded.
    assert model.entity_mask.sum(dim=1).tolist() == [
        len(tokenizer(text).input_ids) for text in MEDKLIP["entities"].values()
    ]
    checkpoint.save(tmp_path, "medklip", model, model.state_dict(), tokenizer, {"steps": []}, INPUT_FORMAT)
    loaded, same_tokenizer = checkpoint.load(tmp_path, Medklip)
    assert loaded.config == model.standalone_config()
    assert (embed_images(loaded, samples, 8) == embed_images(model, samples, 8)).all()
    asked = [(samples[0], "red"), (samples[1], "blue")]
    before, after = (
        [map_ for _, map_ in ground(*one, asked, 2)] for one in ((model, tokenizer), (loaded, same_tokenizer))
    )
    assert (torch.tensor(before[0]) == torch.tensor(after[0])).all()
    assert (torch.tensor(before[1]) == torch.tensor(after[1])).all()

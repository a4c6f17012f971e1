"""What every method must keep, and what RegionMed-CLIP's regions may and may not do."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from models import checkpoint
from models.capabilities import AnswersQuestions, EmbedsImages, EmbedsText
from models.clip.model import Clip
from models.data.batches import Batch, Collate, Tokenise, input_regions, stack_images
from models.data.shards import Sample, ShardSet
from models.encoders import EncoderConfig, ImageEncoder
from models.inference import embed_images, embed_texts
from models.regionmed_clip.model import RegionMedClip
from tests.models.small import make_model

METHODS = [Clip, RegionMedClip]


@pytest.fixture
def samples(shards: Path) -> list[Sample]:
    stored = ShardSet(shards / "images", shards / "captions", "train").samples()
    return [sample for sample in stored if sample.captions["report"] is not None][:8]


def collate(samples: list[Sample], tokenizer, regions: int) -> Batch:
    return Collate(Tokenise(tokenizer, 32), regions)(samples)


@pytest.mark.parametrize("method", METHODS)
def test_capabilities(tokenizer, method: type) -> None:
    model = make_model(tokenizer, method)
    assert isinstance(model, EmbedsImages)
    assert isinstance(model, EmbedsText)
    assert not isinstance(model, AnswersQuestions)


@pytest.mark.parametrize("method", METHODS)
def test_permuting_a_batch_permutes_the_embeddings_and_keeps_the_losses(samples, tokenizer, method: type) -> None:
    model = make_model(tokenizer, method).double().eval()
    order = [3, 0, 7, 1, 5, 2, 6, 4]
    batches = [collate(group, tokenizer, model.max_regions) for group in (samples, [samples[i] for i in order])]
    doubles = [
        dataclasses.replace(
            batch,
            images=dataclasses.replace(
                batch.images, pixels=batch.images.pixels.double(), crops=batch.images.crops.double()
            ),
        )
        for batch in batches
    ]
    with torch.no_grad():
        first, second = (model.embed_images(batch.images) for batch in doubles)
        torch.testing.assert_close(first[order], second)
        for name, value in model(doubles[0], method.losses).items():
            torch.testing.assert_close(value, model(doubles[1], method.losses)[name])


@pytest.mark.parametrize("method", METHODS)
def test_embeddings_have_length_1_and_do_not_depend_on_the_batch(samples, tokenizer, method: type) -> None:
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
def test_a_checkpoint_gives_the_model_back(samples, tokenizer, tmp_path: Path, method: type) -> None:
    model = make_model(tokenizer, method).eval()
    checkpoint.save(tmp_path, "some_method", model, model.state_dict(), tokenizer, {"steps": []})
    loaded, same_tokenizer = checkpoint.load(tmp_path, method)
    assert loaded.config == checkpoint.standalone(model)
    assert same_tokenizer.model_max_length == 32
    assert (embed_images(loaded, samples, 8) == embed_images(model, samples, 8)).all()
    texts = ["the picture is red", "blue"]
    assert (embed_texts(loaded, same_tokenizer, texts, 2) == embed_texts(model, tokenizer, texts, 2)).all()
    before = checkpoint.digest(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"method": "other"}))
    assert checkpoint.digest(tmp_path) != before


def test_a_pretrained_encoder_is_loaded_and_its_checkpoint_stands_alone(tokenizer, tmp_path: Path) -> None:
    scratch = make_model(tokenizer, Clip)
    scratch.text_encoder.backbone.save_pretrained(tmp_path / "bert")
    settings = {"pretrained": str(tmp_path / "bert"), "revision": None}
    model = make_model(tokenizer, Clip, text_encoder=settings)
    ours, theirs = model.text_encoder.backbone.state_dict(), scratch.text_encoder.backbone.state_dict()
    assert all(torch.equal(theirs[name], value) for name, value in ours.items())
    (tmp_path / "checkpoint").mkdir()
    checkpoint.save(tmp_path / "checkpoint", "clip", model, model.state_dict(), tokenizer, {})
    for file in (tmp_path / "bert").iterdir():
        file.unlink()
    loaded, _ = checkpoint.load(tmp_path / "checkpoint", Clip)
    assert embed_texts(loaded, tokenizer, ["red"], 1) == pytest.approx(embed_texts(model.eval(), tokenizer, ["red"], 1))


def with_role(sample: Sample, role: str) -> Sample:
    meta = json.loads(sample.files["meta.json"])
    for region in meta["regions"]:
        region["role"] = role
    return Sample(sample.key, sample.files | {"meta.json": json.dumps(meta).encode()}, sample.captions)


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


def test_a_mistyped_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="architecture of vit has no setting hiden_size"):
        ImageEncoder(EncoderConfig(architecture={"model_type": "vit", "hiden_size": 16}))
    with pytest.raises(ValueError, match="either 'pretrained' or 'architecture'"):
        EncoderConfig()


@pytest.mark.parametrize(
    "architecture",
    [
        {"model_type": "convnext", "depths": [1, 1, 1, 1], "hidden_sizes": [4, 8, 12, 16]},
        {"model_type": "resnet", "depths": [1, 1, 1, 1], "hidden_sizes": [4, 8, 12, 16], "embedding_size": 4},
    ],
)
def test_convolutional_encoders_give_a_whole_and_patches(architecture: dict) -> None:
    encoder = ImageEncoder(EncoderConfig(architecture=architecture)).eval()
    whole, patches = encoder(torch.zeros(2, 3, 64, 64))
    assert whole.shape == (2, 16)
    assert patches.shape == (2, 4, 16)
    assert encoder.width == 16

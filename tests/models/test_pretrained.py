"""Checkpoints of CLIP's and SigLIP's shape against what `transformers` itself makes of the same images and texts."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast, SiglipModel

from models import checkpoint
from models.capabilities import EmbedsImages, EmbedsRegions, EmbedsText, GroundsPhrases
from models.data.batches import Tokenise, stack_images
from models.data.shards import Sample, ShardSet
from models.inference import embed_images, embed_texts
from models.pretrained.config import PretrainedConfig
from models.pretrained.model import Pretrained
from tests.shards import INPUT_FORMAT
from tests.tiny_clip import make_clip, make_siglip

# Case and punctuation, which our own methods never see, and one text that is too long.
TEXTS = ["A red, Round mass.", "blue", "Green. " * 12]


def load(folder: Path) -> tuple[Pretrained, PreTrainedTokenizerFast]:
    config = PretrainedConfig(pretrained=str(folder))
    tokenizer = Pretrained.pretrained_tokenizer(config)
    return Pretrained(config, len(tokenizer)).eval(), tokenizer


@pytest.fixture
def samples(shards: Path) -> list[Sample]:
    return list(ShardSet(shards / "images", shards / "captions", "train").samples())[:5]


def expected(model: Any, processor: Any, images: list[np.ndarray], texts: list[str]) -> list[torch.Tensor]:
    padding = "max_length" if isinstance(model, SiglipModel) else True
    given = processor(
        images=[Image.fromarray(image) for image in images],
        text=texts,
        padding=padding,
        truncation=True,
        return_tensors="pt",
    )
    with torch.no_grad():
        found = model(**given)
    return [torch.nn.functional.normalize(part, dim=-1) for part in (found.image_embeds, found.text_embeds)]


@pytest.mark.parametrize("make", [make_clip, make_siglip])
def test_embeddings_are_those_of_transformers(make: Any, samples: list[Sample], tmp_path: Path) -> None:
    original, processor = make(tmp_path)
    model, tokenizer = load(tmp_path)
    images, texts = expected(original, processor, [sample.image for sample in samples], TEXTS)
    torch.testing.assert_close(torch.tensor(embed_images(model, samples, 2)), images, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.tensor(embed_texts(model, tokenizer, TEXTS, 3)), texts, rtol=1e-4, atol=1e-6)
    # One at a time there is no padding to the longest, which must not matter either.
    torch.testing.assert_close(torch.tensor(embed_texts(model, tokenizer, TEXTS, 1)), texts, rtol=1e-4, atol=1e-6)
    crops = stack_images(samples, [[0] for _ in samples])
    regions, _ = expected(original, processor, [sample.crop(0) for sample in samples], TEXTS)
    with torch.no_grad():
        torch.testing.assert_close(model.embed_regions(crops), regions, rtol=1e-4, atol=1e-6)
    # All of it would say nothing if the images and texts looked alike.
    for rows in (images, texts):
        assert (rows @ rows.T).min() < 0.999


@pytest.mark.parametrize("make", [make_clip, make_siglip])
def test_a_checkpoint_stands_alone(make: Any, samples: list[Sample], tmp_path: Path) -> None:
    make(tmp_path / "origin")
    model, tokenizer = load(tmp_path / "origin")
    images, texts = embed_images(model, samples, 5), embed_texts(model, tokenizer, TEXTS, 3)
    (tmp_path / "checkpoint").mkdir()
    checkpoint.save(tmp_path / "checkpoint", "pretrained", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    shutil.rmtree(tmp_path / "origin")
    loaded, same = checkpoint.load(tmp_path / "checkpoint", Pretrained)
    assert loaded.config == model.config
    assert same.model_max_length == tokenizer.model_max_length
    assert (embed_images(loaded, samples, 5) == images).all()
    assert (embed_texts(loaded, same, TEXTS, 3) == texts).all()


def test_it_offers_embeddings_and_no_losses(tmp_path: Path) -> None:
    make_clip(tmp_path)
    model, _ = load(tmp_path)
    assert all(isinstance(model, offered) for offered in (EmbedsImages, EmbedsRegions, EmbedsText))
    assert not isinstance(model, GroundsPhrases)
    assert model.losses == ()


def test_texts_are_read_as_written(tmp_path: Path) -> None:
    make_clip(tmp_path)
    model, tokenizer = load(tmp_path)
    written, bare = (embed_texts(model, tokenizer, [text], 1) for text in ("red, round.", "red round"))
    assert abs(written - bare).max() > 1e-3


def test_texts_are_cut_to_the_positions_of_the_model(tmp_path: Path) -> None:
    make_clip(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    # Many checkpoints do not say how long a text may be.
    del settings["model_max_length"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    _, tokenizer = load(tmp_path)
    assert tokenizer.model_max_length == 20
    tokens = Tokenise(tokenizer, tokenizer.model_max_length, normalises=False)(["red " * 40])
    assert tokens.ids.shape == (1, 20)
    assert tokens.ids[0, -1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.json", "Should have a `model_type` key in its config.json"),
        ("model.safetensors", "gives no weights"),
        ("preprocessor_config.json", "gives no preprocessor_config.json"),
        ("tokenizer.json", "gives no tokenizer.json"),
    ],
)
def test_missing_checkpoint_file_is_a_one_line_error(name: str, message: str, tmp_path: Path) -> None:
    make_clip(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_refused_and_its_tensors_as_safetensors_are_not(samples: list[Sample], tmp_path: Path) -> None:
    """What docs/methods.md says of PubMedCLIP, whose file is as old as the positions in it."""
    original, processor = make_clip(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights |= {f"{tower}_model.embeddings.position_ids": torch.arange(17)[None] for tower in ("text", "vision")}
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"gives no weights: .*model\.safetensors") as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)
    found = torch.load(tmp_path / "pytorch_model.bin", weights_only=True)
    save_file(found, tmp_path / "model.safetensors", {"format": "pt"})
    model, tokenizer = load(tmp_path)
    images, texts = expected(original, processor, [sample.image for sample in samples], TEXTS)
    torch.testing.assert_close(torch.tensor(embed_images(model, samples, 5)), images, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(torch.tensor(embed_texts(model, tokenizer, TEXTS, 3)), texts, rtol=1e-4, atol=1e-6)


def test_other_shapes_and_settings_are_refused(tmp_path: Path) -> None:
    make_clip(tmp_path)
    with pytest.raises(ValueError, match="the tokenizer has 1000 entries, more than the model's 60"):
        Pretrained(PretrainedConfig(pretrained=str(tmp_path)), 1000)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="is a bert, not one of: clip, siglip, vit_bert"):
        Pretrained(PretrainedConfig(pretrained=str(tmp_path)), 10)
    with pytest.raises(ValueError, match="give 'pretrained': a folder or hub id"):
        PretrainedConfig()

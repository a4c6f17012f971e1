"""Features of a frozen image encoder: computed once, and the same as without a store."""

import copy
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.encoders import EncoderConfig, ImageEncoder, keep_features

VIT = {
    "model_type": "vit",
    "image_size": 32,
    "patch_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.5,
}


def encoder_of(seed: int = 0, **settings: Any) -> ImageEncoder:
    torch.manual_seed(seed)
    return ImageEncoder(EncoderConfig(architecture=VIT, frozen=True, **settings)).train()


def pixels(count: int, seed: int = 0, side: int = 32) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, side, side), generator=random, dtype=torch.uint8)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.sqlite"))


@pytest.mark.parametrize("pooling", [None, "mean", "max"])
def test_features_from_the_store_are_those_of_the_encoder(pooling: str | None, tmp_path: Path) -> None:
    expected = encoder_of(pooling=pooling)(pixels(3))
    encoder = encoder_of(pooling=pooling)
    keep_features(encoder, tmp_path)
    for _ in range(2):
        for found, value in zip(encoder(pixels(3)), expected, strict=True):
            torch.testing.assert_close(found, value)
    assert encoder.store is not None
    assert encoder.store.computed == 3


def test_another_run_computes_nothing(tmp_path: Path) -> None:
    first, second = encoder_of(), encoder_of()
    keep_features(first, tmp_path)
    keep_features(second, tmp_path)
    whole, _ = first(pixels(4))
    # In another order, one of them twice, and a new one.
    given = torch.cat([pixels(4)[[2, 0, 2]], pixels(1, seed=9)])
    again, _ = second(given)
    assert torch.equal(again[:3], whole[[2, 0, 2]])
    assert second.store is not None
    assert second.store.computed == 1
    assert len(files(tmp_path)) == 1


def test_other_weights_poolings_and_types_have_other_files(tmp_path: Path) -> None:
    same, *others = [encoder_of(), encoder_of(seed=1), encoder_of(pooling="mean"), encoder_of()]
    others[-1].uses_bfloat16 = True
    for encoder in (same, *others):
        keep_features(encoder, tmp_path)
        encoder(pixels(2))
        assert encoder.store is not None
        assert encoder.store.computed == 2
    assert len(files(tmp_path)) == 4


def test_other_settings_with_the_same_weights_have_another_file(tmp_path: Path) -> None:
    one, other = encoder_of(), encoder_of()
    other.backbone.config.hidden_act = "relu"
    for encoder in (one, other):
        keep_features(encoder, tmp_path)
        encoder(pixels(1))
    assert len(files(tmp_path)) == 2


def test_what_nothing_reads_names_no_file(tmp_path: Path) -> None:
    one, other = encoder_of(), encoder_of()
    # Absent from many files, and then drawn at random.
    with torch.no_grad():
        other.backbone.pooler.dense.weight.add_(1)
    for encoder in (one, other):
        keep_features(encoder, tmp_path)
        encoder(pixels(1))
    assert len(files(tmp_path)) == 1


def test_a_damaged_file_is_set_aside(tmp_path: Path) -> None:
    first, second = encoder_of(), encoder_of()
    keep_features(first, tmp_path)
    expected, _ = first(pixels(2))
    (file,) = files(tmp_path)
    for each in tmp_path.iterdir():
        each.write_bytes(b"no database" * 1000)
    keep_features(second, tmp_path)
    found, _ = second(pixels(2))
    assert torch.equal(found, expected)
    assert file in files(tmp_path)
    assert any(one.name.startswith("damaged-") for one in tmp_path.iterdir())


def test_features_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    encoder = encoder_of()
    with torch.no_grad():
        encoder.backbone.layernorm.weight.fill_(float("nan"))
    keep_features(encoder, tmp_path)
    with pytest.raises(FloatingPointError, match="features that are not finite"):
        encoder(pixels(1))


def test_a_stem_does_not_replace_what_was_loaded(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="convolutional_stem replaces the patch projection that `pretrained` has"):
        ImageEncoder(EncoderConfig(pretrained=str(tmp_path), convolutional_stem=True))


def test_crops_of_another_size_are_images_of_their_own(tmp_path: Path) -> None:
    encoder = encoder_of()
    keep_features(encoder, tmp_path)
    assert encoder(pixels(2))[1].shape == (2, 16, 16)
    assert encoder(pixels(2, side=16))[1].shape == (2, 4, 16)
    assert encoder.store is not None
    assert encoder.store.computed == 4


def test_a_damaged_row_is_computed_again(tmp_path: Path) -> None:
    encoder = encoder_of()
    keep_features(encoder, tmp_path)
    expected, _ = encoder(pixels(2))
    database = sqlite3.connect(files(tmp_path)[0])
    with database:
        database.execute("UPDATE features SET value = zeroblob(length(value)) WHERE rowid = 1")
    database.close()
    found, _ = encoder(pixels(2))
    assert torch.equal(found, expected)
    assert encoder.store is not None
    assert encoder.store.computed == 3


@pytest.mark.parametrize(
    "damage",
    [
        # As a damaged index answers: the features of one image for another.
        "UPDATE features SET (checksum, value) = (SELECT checksum, value FROM features WHERE rowid = 2)",
        "UPDATE features SET tokens = 1",
    ],
)
def test_a_whole_row_of_another_image_is_computed_again(damage: str, tmp_path: Path) -> None:
    encoder = encoder_of()
    keep_features(encoder, tmp_path)
    expected, _ = encoder(pixels(2))
    database = sqlite3.connect(files(tmp_path)[0])
    with database:
        database.execute(damage)
    database.close()
    found, _ = encoder(pixels(2))
    assert torch.equal(found, expected)


def test_nothing_of_the_backbone_is_trained_and_dropout_is_off(tmp_path: Path) -> None:
    encoder = encoder_of(pooling="max")
    keep_features(encoder, tmp_path)
    one, _ = encoder(pixels(2))
    two, _ = encoder(pixels(2))
    assert torch.equal(one, two)
    one.sum().backward()
    assert not encoder.backbone.training
    assert all(parameter.grad is None for parameter in encoder.backbone.parameters())
    assert encoder.perceptron is not None
    assert all(parameter.grad is not None for parameter in encoder.perceptron.parameters())


def test_a_copy_of_the_model_opens_the_file_for_itself(tmp_path: Path) -> None:
    encoder = encoder_of()
    keep_features(encoder, tmp_path)
    expected, _ = encoder(pixels(2))
    found, _ = copy.deepcopy(encoder)(pixels(2))
    assert torch.equal(found, expected)


def test_random_crops_have_no_features_to_keep() -> None:
    with pytest.raises(ValueError, match="crop cuts images at random in training, frozen keeps features"):
        encoder_of(crop=24)

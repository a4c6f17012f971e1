"""What does not fit the data ends a run before it begins, in one line, and a loss that nothing feeds is named."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.train.config import TrainConfig
from pipelines.train.stage import run
from tests.models.small import ENCODERS, write_shards

BERT, VIT = ENCODERS["text_encoder"]["architecture"], ENCODERS["image_encoder"]["architecture"]
CLIP_VISION = VIT | {"model_type": "clip_vision_model"}
del CLIP_VISION["hidden_dropout_prob"]
PVT = {
    "model_type": "pvt",
    "image_size": 16,
    "num_encoder_blocks": 1,
    "depths": [1],
    "hidden_sizes": [16],
    "num_attention_heads": [2],
    "mlp_ratios": [2],
    "patch_sizes": [4],
    "strides": [4],
    "sequence_reduction_ratios": [1],
}


def train(
    folder: Path,
    method: str,
    model: dict[str, Any],
    losses: list[str],
    *,
    size: int = 16,
    count: int = 24,
    **training: Any,
) -> dict[str, Any]:
    shards = folder / "shards"
    if not shards.is_dir():
        write_shards(shards, count, size=size)
    phase = {"epochs": 1, "batch_size": 8, "learning_rate": 0.001, "losses": losses}
    values = {
        "engine": {"threads": 1, "num_workers": 0},
        "methods": {
            method: {
                "model": copy.deepcopy(model),
                "training": {"phases": {"joint": phase}, "vocabulary_size": 120, "max_length": 32, **training},
            }
        },
    }
    folders = {name: folder / name for name in ("checkpoints", "cache", "summaries")}
    return run(method, parse(TrainConfig, values, "params.yaml: train"), shards=shards, **folders)


def encoders(**changes: dict[str, Any]) -> dict[str, Any]:
    return ENCODERS | changes


@pytest.mark.parametrize(
    ("method", "model", "losses", "message"),
    [
        # Texts are longer than the encoder's positions.
        (
            "clip",
            encoders(text_encoder={"architecture": BERT | {"max_position_embeddings": 4}}),
            ["report"],
            r"\(phase 'joint'\)",
        ),
        # It takes images of its own size alone, and regions are cut smaller.
        ("clip", encoders(image_encoder={"architecture": PVT}), ["report"], r"\(embed_regions\).*image_size 16"),
        # The last of the words sees all of them; the first sees itself.
        (
            "clip",
            encoders(
                text_encoder={
                    "architecture": {"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2},
                    "pooling": "first",
                }
            ),
            ["report"],
            "all texts have the same embedding before training: choose another pooling",
        ),
        (
            "clip",
            encoders(
                image_encoder={"architecture": CLIP_VISION | {"num_hidden_layers": 0, "image_size": 16}},
            ),
            ["report"],
            "all images have the same embedding before training: choose another pooling",
        ),
        (
            "lvit",
            {"text_encoder": ENCODERS["text_encoder"], "base": 8, "image_size": 32},
            ["segmentation"],
            "set image_size to that of the shards",
        ),
        (
            "reclmis",
            {"text_encoder": ENCODERS["text_encoder"], "base": 4, "grid": 3},
            ["segmentation", "contrastive", "vision_reconstruction", "language_reconstruction"],
            "set grid to 1, not 3",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_before_the_first_step(
    tmp_path: Path, method: str, model: dict[str, Any], losses: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        train(tmp_path, method, model, losses)
    assert str(refused.value).startswith(f"train.methods.{method}: ")
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "cache").glob("*/state.pt"))


def test_a_patch_size_that_the_stem_and_the_crops_disagree_about(tmp_path: Path) -> None:
    vit = ENCODERS["image_encoder"] | {"crop": 10}
    with pytest.raises(UserError, match="does not fit the first training images"):
        train(tmp_path, "clip", encoders(image_encoder=vit), ["report"])


def test_batches_without_a_described_region_train_what_they_have(tmp_path: Path) -> None:
    """Every seventh image has no region: of batches of two some have none."""
    phase = {"epochs": 2, "batch_size": 2, "learning_rate": 0.001, "losses": ["region", "negatives"]}
    summary = train(tmp_path, "regionmed_clip", ENCODERS | {"heads": 2}, [], count=40, phases={"joint": phase})
    assert summary["steps"] == 32


def test_a_loss_that_nothing_feeds_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_shards(tmp_path / "shards", 24, with_regions=False)
    phase = {"epochs": 2, "batch_size": 8, "learning_rate": 0.001, "losses": ["report", "region", "negatives"]}
    with caplog.at_level(logging.WARNING, logger="models.training.silent"):
        train(tmp_path, "regionmed_clip", ENCODERS | {"heads": 2}, [], phases={"joint": phase})
    assert caplog.messages == [
        "region, negatives of phase 'joint' was 0 in every step of an epoch: no training image has what it learns from"
    ]


def test_answers_of_untrained_weights_are_refused(tmp_path: Path) -> None:
    regionmed = ENCODERS | {"heads": 2}
    with pytest.raises(UserError, match="trains the ROI processor that map: regions and embedding: mean use: add one"):
        train(tmp_path, "regionmed_clip", regionmed, ["report"])
    other = regionmed | {"map": "grad_cam", "embedding": "global"}
    assert train(tmp_path, "regionmed_clip", other, ["report"])["steps"] == 2

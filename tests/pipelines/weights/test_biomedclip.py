"""A converted checkpoint of BiomedCLIP's shape in the method `pretrained` and an evaluation, against plain torch."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BertConfig, PreTrainedTokenizerFast, ViTConfig

from models import checkpoint
from models.data.batches import Images, Tokens
from models.grad_cam import grad_cam
from models.inference import can_ground, embed_texts
from models.pretrained.config import PretrainedConfig
from models.pretrained.model import Pretrained
from models.pretrained.vit_bert import VitBert, VitBertSettings
from pipelines.config import parse
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.stage import evaluate
from pipelines.weights import weights_sha256
from pipelines.weights.open_clip import main
from tests.pipelines.evaluate.small_world import image, write_shards
from tests.shards import INPUT_FORMAT
from tests.tiny_biomedclip import CONTEXT, EMBEDDING, PATCH, SIDE, image_embeddings, make_biomedclip, text_embeddings

# Case, an unknown word, and one text that is too long.
TEXTS = ["A red, Round mass.", "blue", "Masses, xyz.", "green red " * 12]


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, Tensor]:
    """Those of tmp_path/hub; tmp_path/out is what the conversion makes of it."""
    found = make_biomedclip(tmp_path / "hub")
    main(str(tmp_path / "hub"), str(tmp_path / "out"))
    return found


def load(folder: Path) -> tuple[Pretrained, PreTrainedTokenizerFast]:
    config = PretrainedConfig(pretrained=str(folder))
    tokenizer = Pretrained.pretrained_tokenizer(config)
    return Pretrained(config, len(tokenizer)).eval(), tokenizer


def images_of(height: int, width: int, count: int = 4) -> Images:
    random = torch.Generator().manual_seed(height)
    pixels, crops = (
        torch.randint(256, (count, 3, 8, 8), generator=random, dtype=torch.uint8)
        .repeat_interleave(height // 8, dim=2)
        .repeat_interleave(width // 8, dim=3)
        for _ in range(2)
    )
    return Images(pixels, crops, torch.arange(count))


def arrays(pixels: Tensor) -> list[np.ndarray]:
    return list(pixels.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize("size", [(SIDE, SIDE), (48, 48), (16, 16), (40, 56)])
def test_embeddings_and_their_cosines_are_those_of_the_published_definition(
    weights: dict[str, Tensor], size: tuple[int, int], tmp_path: Path
) -> None:
    model, tokenizer = load(tmp_path / "out")
    images = images_of(*size)
    texts = text_embeddings(weights, tmp_path / "hub", TEXTS)
    pixels, crops = (image_embeddings(weights, arrays(part)) for part in (images.pixels, images.crops))
    with torch.inference_mode():
        found, regions = model.embed_images(images), model.embed_regions(images)
    torch.testing.assert_close(found, pixels, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(regions, crops, rtol=1e-4, atol=1e-5)
    for at_once in (1, len(TEXTS)):
        own = torch.tensor(embed_texts(model, tokenizer, TEXTS, at_once))
        torch.testing.assert_close(own, texts, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found @ own.T, pixels @ texts.T, rtol=1e-4, atol=1e-5)
    assert tokenizer.model_max_length == CONTEXT
    assert found.shape == (4, EMBEDDING)
    # All of it would say nothing if the images and texts looked alike.
    for rows in (pixels, texts):
        assert (rows @ rows.T).min() < 0.99
    assert (pixels @ texts.T).std() > 0.01


def test_a_checkpoint_stands_alone(weights: dict[str, Tensor], tmp_path: Path) -> None:
    model, tokenizer = load(tmp_path / "out")
    (tmp_path / "checkpoint").mkdir()
    checkpoint.save(tmp_path / "checkpoint", "pretrained", model, model.state_dict(), tokenizer, {}, INPUT_FORMAT)
    images = images_of(48, 48)
    pixels, texts = image_embeddings(weights, arrays(images.pixels)), text_embeddings(weights, tmp_path / "hub", TEXTS)
    for folder in ("hub", "out"):
        shutil.rmtree(tmp_path / folder)
    loaded, same = checkpoint.load(tmp_path / "checkpoint", Pretrained)
    assert loaded.config == model.config
    assert same.model_max_length == CONTEXT
    with torch.inference_mode():
        torch.testing.assert_close(loaded.embed_images(images), pixels, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(embed_texts(loaded, same, TEXTS, 2)), texts, rtol=1e-4, atol=1e-5)


def test_an_evaluation_scores_what_the_published_definition_scores(weights: dict[str, Tensor], tmp_path: Path) -> None:
    reports = ["a red mass", "blue", "green, round", "masses", "round red", "a blue mass.", "green"]
    labels = ["red", "blue", "green"]
    samples: list[dict[str, Any]] = [
        image(2 * number, report=report, labels=[label for label in labels if label in report])
        for number, report in enumerate(reports)
    ]
    families = write_shards(tmp_path / "shards", samples)
    model, tokenizer = load(tmp_path / "out")
    prompts = {"templates": ["a {label} mass"], "negatives": ["round {label}"]}
    tasks = {"retrieval": {"ks": [1, 3]}, "zero_shot": prompts}
    values = {"tasks": tasks, "batch_size": 4, "bootstrap": {"samples": 50, "seed": 0}}
    config = parse(EvaluateConfig, values, "here")
    evaluate(config, "pretrained", model, tokenizer, "0" * 64, *families, tmp_path / "scores", tmp_path / "summaries")
    found = json.loads((tmp_path / "scores/metrics.json").read_text())["tasks"]

    # The shards hold a square of one level as JPEG, which keeps it.
    pixels = [np.full((16, 16, 3), sample["level"], np.uint8) for sample in samples]
    seen = image_embeddings(weights, pixels)
    cosines = (seen @ text_embeddings(weights, tmp_path / "hub", reports).T).numpy()
    own = np.arange(len(reports))
    for direction, scores in (("i2t", cosines), ("t2i", cosines.T)):
        ranks = (scores > scores[own, own][:, None]).sum(axis=1)
        for k in (1, 3):
            recall = found["retrieval"]["metrics"][f"{direction}_recall@{k}"]["value"]
            assert recall == pytest.approx((ranks < k).mean(), abs=1e-6)
    aucs = {}
    for label in labels:
        shows, other = text_embeddings(weights, tmp_path / "hub", [f"a {label} mass", f"round {label}"])
        differences = (seen @ (shows - other)).numpy()
        true = np.array([label in report for report in reports])
        aucs[label] = pytest.approx((differences[true][:, None] > differences[~true]).mean(), abs=1e-6)
    assert {one["label"]: one["auc"]["value"] for one in found["zero_shot"]["details"]["classes"]} == aucs


def test_it_has_heat_maps_by_grad_cam(weights: dict[str, Tensor], tmp_path: Path) -> None:
    model, tokenizer = load(tmp_path / "out")
    assert can_ground(model)
    images = images_of(SIDE, SIDE, 1)
    ids = torch.tensor([tokenizer("a red mass")["input_ids"]])
    maps = grad_cam(model, images, Tokens(ids, torch.ones_like(ids), torch.zeros_like(ids)))
    assert maps.shape == (1, SIDE // PATCH, SIDE // PATCH)
    assert maps.std() > 0


@pytest.mark.parametrize(
    ("name", "changed", "absent"),
    [
        ("projections.safetensors", "has other bytes than were written", "projections.safetensors is missing"),
        ("config.json", "gives no config.json", "gives no config.json"),
        ("text/model.safetensors", "has other bytes than were written", "model.safetensors is missing"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line(
    weights: dict[str, Tensor], name: str, changed: str, absent: str, tmp_path: Path
) -> None:
    before = weights_sha256(tmp_path / "out")
    file = tmp_path / "out" / name
    file.write_bytes(file.read_bytes()[:-2] + b"??")
    # What a run is keyed by follows the files of the towers, too.
    assert weights_sha256(tmp_path / "out") != before
    with pytest.raises(ValueError, match=f"out.*{changed}") as first:
        load(tmp_path / "out")
    file.unlink()
    with pytest.raises(ValueError, match=f"out.*{absent}") as second:
        load(tmp_path / "out")
    for caught in (first, second):
        assert "\n" not in str(caught.value)


def test_a_folder_of_the_hub_is_told_to_be_converted(tmp_path: Path) -> None:
    make_biomedclip(tmp_path / "hub")
    with pytest.raises(ValueError, match=r"hub is of open_clip: .*python -m pipelines\.weights\.open_clip"):
        load(tmp_path / "hub")
    with pytest.raises(ValueError, match=r"hub is of open_clip: .*python -m pipelines\.weights\.open_clip"):
        Pretrained(PretrainedConfig(pretrained=str(tmp_path / "hub")), 14)


def test_biomedclip_has_as_many_parameters_as_published() -> None:
    """195,902,721, which users of open_clip count of its model, one of them its temperature."""
    with torch.device("meta"):
        model = VitBert(
            VitBertSettings(
                vision_config=ViTConfig(),
                text_config=BertConfig(vocab_size=30522),
                image_projection=[768, 512],
                text_projection=[768, 640, 512],
            )
        )
    assert sum(part.numel() for part in model.parameters()) == 195_902_721 - 1

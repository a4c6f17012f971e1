"""A multi-organ set through the real stages: "liver" and "kidney" are trained on and scored, each by its own mask.

The slices are parts of the CT image that pydicom ships for its tests; the organs are drawn into them, and their masks
are label maps, as multi-organ sets have them.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from PIL import Image
from pydicom.data import get_testdata_file

from models import inference
from models.data.pairs import pair_mask, pairs_of
from models.data.shards import ShardSet
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.stage import run as run_captions
from pipelines.config import load
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.scoring import load_model
from pipelines.evaluate.stage import run as run_evaluate
from pipelines.ingest.config import IngestConfig
from pipelines.ingest.stage import run as run_ingest
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.stage import run as run_proposals
from pipelines.records import ITEMS
from pipelines.regions.config import RegionsConfig
from pipelines.regions.stage import run as run_regions
from pipelines.shards import captions, images
from pipelines.shards.config import ShardsConfig
from pipelines.sources import load_sources
from pipelines.split.config import SplitConfig
from pipelines.split.stage import run as run_split
from pipelines.train.config import TrainConfig
from pipelines.train.stage import run as run_train

SIDE = 64
LIVER, LEFT_KIDNEY, RIGHT_KIDNEY = 1, 2, 3
SPLITS = ("train",) * 8 + ("validation",) * 2 + ("test",) * 4
ENOUGH = ("train",) * 60 + ("validation",) * 8 + ("test",) * 32


def ellipse(x: float, y: float, across: float, down: float) -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return ((columns - x) / across) ** 2 + ((rows - y) / down) ** 2 <= 1


def write_organs(root: Path, splits: Sequence[str]) -> list[np.ndarray]:
    """A slice for each split and its label map; every third has no kidney. The maps, in the order of the listing."""
    path = get_testdata_file("CT_small.dcm")
    assert isinstance(path, str)
    values = pydicom.dcmread(path).pixel_array.astype(float)
    low, high = np.percentile(values, [1, 99])
    grey = np.clip((values - low) / (high - low), 0, 1) * 120
    random = np.random.default_rng(0)
    rows, maps = [], []
    for number, split in enumerate(splits):
        top, left = random.integers(0, 128 - SIDE, 2)
        pixels, organs = grey[top : top + SIDE, left : left + SIDE].copy(), np.zeros((SIDE, SIDE), np.uint8)
        x, y = random.uniform(14, 22), random.uniform(16, 26)
        organs[ellipse(x, y, 12, 9)] = LIVER
        if number % 3:
            organs[ellipse(x + 4, y + 28, 5, 7)] = LEFT_KIDNEY
            organs[ellipse(x + 32, y + 28, 5, 7)] = RIGHT_KIDNEY
        pixels[organs == LIVER] += 60
        pixels[organs > LIVER] += 120
        objects = [{"label": "liver", "mask": f"{number}-map.png", "mask_value": LIVER}]
        if number % 3:
            objects += [
                {"label": "kidney", "mask": f"{number}-map.png", "mask_value": value}
                for value in (LEFT_KIDNEY, RIGHT_KIDNEY)
            ]
        rows.append(
            {
                "file_name": f"{number}.png",
                "text": "An abdominal slice.",
                "labels": sorted({one["label"] for one in objects}),
                "split": split,
                "patient_id": f"P{number}",
                "objects": objects,
            }
        )
        root.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number}.png")
        Image.fromarray(organs).save(root / f"{number}-map.png")
        maps.append(organs)
    (root / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return maps


def params(repository: Path, root: Path) -> dict[str, Any]:
    """The params that ship, with this source, one method that reads text, and the task."""
    values = yaml.safe_load((repository / "params.yaml").read_text(encoding="utf-8"))
    source = {"adapter": "table", "root": str(root), "licence": "none", "patient_ids": "public"}
    values["ingest"]["sources"] = {"organs": source | {"options": {"modality": "ct"}}}
    # The slices are parts of one image: that they are alike is no leak here.
    values["split"]["near_duplicates"] = {"max_distance": 0, "min_correlation": 1.0}
    values["proposals"]["proposers"] = []
    values["regions"]["review"] = os.devnull
    values["captions"]["prompts"] = str(repository / "prompts" / "findings")
    values["train"]["engine"] |= {"num_workers": 0, "threads": 1}
    text_encoder = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    values["train"]["methods"] = {
        "lvit": {
            "model": {
                "base": 8,
                "image_size": SIDE,
                "text_encoder": {"architecture": text_encoder | {"intermediate_size": 32}},
            },
            "training": {
                "phases": {"joint": {"epochs": 2, "batch_size": 4, "learning_rate": 0.001, "losses": ["segmentation"]}},
                "augmentation": {"mirror": 0.5, "phrases": 0.75, "text_dropout": 0.25},
                "vocabulary_size": 300,
                "max_length": 16,
            },
        }
    }
    values["evaluate"] = {
        # Outlines are measured in other tests: MONAI takes seconds to be imported.
        "tasks": {"phrase_segmentation": {"rewordings": ["segment the {label}"], "surface": False}},
        "batch_size": 4,
        "bootstrap": {"samples": 20, "seed": 0},
    }
    return values


def run_stages() -> None:
    """From the source to the scores, in the current folder."""
    data = Path("data")
    run_ingest("organs", load(IngestConfig, "ingest"), data / "ingest" / "organs")
    run_split(load(SplitConfig, "split"), ["organs"])
    sources, split = load_sources(), data / "split" / "images.parquet"
    for name in ("proposals", "regions", "captions"):
        (data / name).mkdir()
    tables = {name: data / name / f"{name}.parquet" for name in ("proposals", "regions", "captions")}
    run_proposals(load(ProposalsConfig, "proposals"), sources, split.parent, tables["proposals"])
    run_regions(load(RegionsConfig, "regions"), split, tables["proposals"], tables["regions"])
    run_captions(load(CaptionsConfig, "captions"), sources, split, tables["regions"], tables["captions"])
    shards = data / "shards"
    images.run(load(ShardsConfig, "shards"), sources, split, tables["regions"], shards / "images")
    questions = data / "split" / "questions.parquet"
    captions.run(tables["captions"], questions, shards / "images", shards / "captions")
    run_train("lvit", load(TrainConfig, "train"))
    checkpoint = data / "checkpoints" / "lvit"
    families = (shards / "images", shards / "captions")
    run_evaluate(load(EvaluateConfig, "evaluate"), "lvit", checkpoint, *families, data / "evaluation" / "lvit")


def test_liver_and_kidney_are_trained_and_scored(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = write_organs(tmp_path / "organs", SPLITS)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params(repository, tmp_path / "organs")), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run_stages()

    shards = {split: ShardSet(Path("data/shards/images"), Path("data/shards/captions"), split) for split in set(SPLITS)}
    # Their maps are what tells samples and slices together, for the shards are in the order of digests.
    for split, role in (("train", "input"), ("test", "truth")):
        expected = {
            organs.tobytes(): organs for organs, of_split in zip(maps, SPLITS, strict=True) if of_split == split
        }
        for sample in shards[split].samples():
            pairs = {pair.text: pair_mask(sample, pair) for pair in pairs_of(sample, role)}
            found = np.where(pairs["liver"], LIVER, 0).astype(np.uint8)
            left, right = (np.arange(SIDE) < SIDE // 2 + 2), (np.arange(SIDE) >= SIDE // 2 + 2)
            if "kidney" in pairs:
                found += np.where(pairs["kidney"] & left, LEFT_KIDNEY, 0).astype(np.uint8)
                found += np.where(pairs["kidney"] & right, RIGHT_KIDNEY, 0).astype(np.uint8)
            assert expected.pop(found.tobytes()) is not None
        assert not expected

    scored = load_model("lvit", Path("data/checkpoints/lvit"))
    # No report names an organ; they came with the pairs.
    assert {"liver", "kidney"} <= scored.tokenizer.get_vocab().keys()
    result = json.loads(Path("data/evaluation/lvit/metrics.json").read_text())["tasks"]["phrase_segmentation"]
    kidneys = sum(number % 3 > 0 for number, split in enumerate(SPLITS) if split == "test")
    assert (result["status"], result["items"], result["excluded"]) == ("ok", 4 + kidneys, {})
    assert {label: of["pairs"] for label, of in result["details"]["labels"].items()} == {"kidney": kidneys, "liver": 4}
    assert result["details"]["items"]["absent"] == 4 - kidneys
    assert result["metrics"]["macro_dice"]["baselines"].keys() == {"empty text", "mean training mask", "image-blind"}
    # The organs lie in much the same place, so that their training masks are a baseline that can be met.
    assert result["metrics"]["macro_dice"]["baselines"]["mean training mask"] > 0.4

    dices = {
        row.item: row.value for row in ITEMS.rows(Path("data/evaluation/lvit/items.parquet")) if row.metric == "dice"
    }
    pairs = [(sample, pair) for sample in shards["test"].samples() for pair in pairs_of(sample, "truth")]
    asked = ((sample, pair.text) for sample, pair in pairs)
    masks = [mask > 0.5 for _, mask in inference.segment(scored.model, scored.tokenizer, asked, 4)]
    for (sample, pair), mask in zip(pairs, masks, strict=True):
        target = pair_mask(sample, pair)
        expected_dice = 2 * (mask & target).sum() / (mask.sum() + target.sum())
        assert dices.pop(f"{sample.key} {pair.text}") == pytest.approx(expected_dice, abs=1e-6)
    assert not dices


@pytest.mark.slow
def test_liver_and_kidney_are_learnt(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Better than a fixed mask of the organ, than the model without the text, and than the model on other images."""
    write_organs(tmp_path / "organs", ENOUGH)
    settings = params(repository, tmp_path / "organs")
    settings["train"]["methods"]["lvit"]["training"]["phases"]["joint"] |= {"epochs": 40, "learning_rate": 0.003}
    settings["evaluate"]["bootstrap"]["samples"] = 1000
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    run_stages()
    result = json.loads(Path("data/evaluation/lvit/metrics.json").read_text())["tasks"]["phrase_segmentation"]
    score = result["metrics"]["macro_dice"]
    assert score["baselines"].keys() == {"empty text", "mean training mask", "image-blind"}
    assert score["low"] > max(score["baselines"].values()) > score["chance"]
    assert all(of["dice"] > 0.5 for of in result["details"]["labels"].values())

"""The stage with a method that segments: which images it uses, augmentation, and a run that goes on."""

import copy
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models import checkpoint, inference
from models.data.shards import ShardSet
from models.text import load_tokenizer
from models.training.state import SavedState
from models.unet.model import UNet
from models.verified import sha256_file
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.metrics import segmentation as metrics
from pipelines.evaluate.scoring import load_model
from pipelines.train.config import TrainConfig
from pipelines.train.engine import STATE, _fit
from pipelines.train.stage import Prepared, prepare_run, run
from tests.models.small import ENCODERS, write_shards
from tests.pipelines.train.test_train_stage import add_validation

AUGMENTATION = {
    "mirror": 0.5,
    "rotation": 20.0,
    "zoom": 0.3,
    "blur": 0.02,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "hue": 0.05,
}


def settings(**training: Any) -> dict[str, Any]:
    phase = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "losses": ["segmentation"]}
    method = {
        "model": {"base": 2},
        "training": {"phases": {"joint": phase}, "vocabulary_size": 120, "max_length": 32} | training,
    }
    return {"engine": {"threads": 1, "num_workers": 0, "checkpoint_every": 2}, "methods": {"unet": method}}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """40 training images: 6 without a target, 7 of the others without a text."""
    write_shards(tmp_path / "data" / "shards", 40)
    return tmp_path


def train(study: Path, values: dict[str, Any], method: str = "unet") -> dict[str, Any]:
    data = study / "data"
    folders = {name: data / name for name in ("shards", "checkpoints", "cache", "summaries")}
    return run(method, parse(TrainConfig, values, "params.yaml: train"), **folders)


def prepared(study: Path, values: dict[str, Any]) -> Prepared:
    return prepare_run("unet", parse(TrainConfig, values, "train"), study / "data" / "shards", study / "data" / "cache")


def weights(study: Path) -> str:
    return sha256_file(study / "data" / "checkpoints" / "unet" / "model.safetensors")


def test_several_entries_of_one_method_are_trained_under_names_of_their_own(study: Path) -> None:
    values = settings()
    entry = values["methods"]["unet"]
    values["methods"] |= {
        "wide": {**entry, "method": "unet", "model": {"base": 4}},
        "same": {**entry, "method": "unet"},
    }
    for name in values["methods"]:
        train(study, values, name)
    folders = {name: study / "data" / "checkpoints" / name for name in values["methods"]}
    configs = {name: checkpoint.read_config(folder) for name, folder in folders.items()}
    assert [(config["method"], config["config"]["base"]) for config in configs.values()] == [
        ("unet", 2),
        ("unet", 4),
        ("unet", 2),
    ]
    assert json.loads((folders["wide"] / "curve.json").read_text())["method"] == "wide"
    digests = {name: sha256_file(folder / "model.safetensors") for name, folder in folders.items()}
    assert digests["same"] == digests["unet"] != digests["wide"]
    assert load_model("wide", folders["wide"]).model.config.base == 4
    values["methods"]["wide"]["method"] = "unett"
    with pytest.raises(UserError, match="unett"):
        train(study, values, "wide")


def test_a_run_and_its_counts(study: Path) -> None:
    summary = train(study, settings())
    assert (summary["inputs"], summary["ok"], summary["rejected"]) == (40, 34, 6)
    assert summary["reasons"] == {"rejected": {"no_target": 6}}
    # 34 // 8 = 4 steps an epoch.
    assert summary["steps"] == 8
    assert summary["truncated_texts"] == 0
    folder = study / "data" / "checkpoints" / "unet"
    curve = json.loads((folder / "curve.json").read_text())
    assert [set(point["terms"]) for point in curve["steps"]] == [{"segmentation"}] * 8
    assert curve["samples"] == 34
    assert curve["skipped"] == {"no_target": 6}


def test_data_fraction_trains_on_a_subset(study: Path) -> None:
    summary = train(study, settings(data_fraction=0.5))
    assert (summary["inputs"], summary["ok"]) == (40, 17)
    assert summary["reasons"] == {"rejected": {"beyond_data_fraction": 17, "no_target": 6}}
    assert summary["steps"] == 2 * (17 // 8)
    chosen = {share: prepared(study, settings(data_fraction=share)) for share in (0.25, 0.5, 1.0)}
    # 34 / 4 = 8.5 is rounded up.
    assert [int(one.run.train.usable.sum()) for one in chosen.values()] == [9, 17, 34]
    small, half, everything = (one.run.train.usable for one in chosen.values())
    assert not (small & ~half).any()
    assert not (half & ~everything).any()
    # Stored order is that of a hash, and the first of it are taken.
    assert small.nonzero()[0].tolist() == everything.nonzero()[0][:9].tolist()


def test_a_method_learns_from_the_sources_that_it_names(study: Path) -> None:
    # Even numbers are here, odd ones there, with all 6 that have no target.
    shutil.rmtree(study / "data" / "shards")
    write_shards(study / "data" / "shards", 40, sources=("here", "there"))
    summary = train(study, settings(sources=["there"]))
    assert (summary["inputs"], summary["ok"]) == (40, 14)
    assert summary["reasons"] == {"rejected": {"no_target": 6, "other_source": 20}}
    here, there, both = (prepared(study, settings(sources=names)) for names in (["here"], ["there"], ["here", "there"]))
    split = ShardSet(study / "data" / "shards" / "images", study / "data" / "shards" / "captions", "train")
    for one, source in ((here, "here"), (there, "there")):
        chosen = [split.sample(number, with_image=False) for number in one.run.train.usable.nonzero()[0].tolist()]
        assert {sample.meta.source for sample in chosen} == {source}
    assert (here.run.train.usable | there.run.train.usable == both.run.train.usable).all()
    # Reports name their number: words of what it does not learn from are not in its vocabulary.
    words = [load_tokenizer(one.run.folder / "tokenizer").get_vocab().keys() for one in (here, there)]
    assert "left" in words[1] - words[0]
    assert "right" in words[0] - words[1]
    with pytest.raises(UserError, match="names 'hear', of which there is no training image; there are: here, there"):
        prepared(study, settings(sources=["here", "hear"]))


def test_the_best_epoch_is_chosen_by_the_sources_that_a_method_names(study: Path) -> None:
    shutil.rmtree(study / "data" / "shards")
    write_shards(study / "data" / "shards", 40, sources=("here", "there"))
    add_validation(study, 40, sources=("here", "there"))
    assert [int(prepared(study, settings(sources=names)).run.validation.usable.sum()) for names in ([], ["there"])] == [
        34,
        14,
    ]


def test_texts_longer_than_the_method_reads_are_counted(study: Path) -> None:
    # 27 of the 34 are described, in more than two words; the others' empty text is two special tokens.
    summary = train(study, settings(max_length=4))
    assert summary["truncated_texts"] == 27
    curve = json.loads((study / "data" / "checkpoints" / "unet" / "curve.json").read_text())
    assert curve["truncated_texts"] == 27


def test_augmentation_changes_what_is_learned_and_the_same_run_gives_the_same_bytes(study) -> None:
    train(study, settings())
    plain = weights(study)
    train(study, settings(augmentation=AUGMENTATION))
    augmented = weights(study)
    assert augmented != plain
    train(study, settings(augmentation=AUGMENTATION))
    assert weights(study) == augmented
    # All at 0 is the same as none.
    train(study, settings(augmentation={}))
    assert weights(study) == plain


def test_the_checkpoint_holds_the_epoch_with_the_highest_dice_on_validation_images(study: Path) -> None:
    # 16 of the 19 have a target: all are in the two batches of 8.
    add_validation(study, 19)
    values = settings(keep="best", best_by="dice")
    phase = values["methods"]["unet"]["training"]["phases"]["joint"]
    phase |= {"epochs": 12, "learning_rate": 0.05, "early_stopping": 2}
    summary = train(study, values)
    folder = study / "data" / "checkpoints" / "unet"
    curve = json.loads((folder / "curve.json").read_text())
    scores = [point["scores"]["dice"] for point in curve["validation"]]
    best = scores.index(max(scores))
    assert curve["best_epoch"] == {
        "phase": "joint",
        "epoch": best + 1,
        "step": 4 * (best + 1),
        "by": "dice",
        "value": scores[best],
    }
    assert curve["stopped_early"] == {"joint": best + 3} == {"joint": len(scores)}
    assert (summary["best_epoch"], summary["stopped_early"]) == (curve["best_epoch"], curve["stopped_early"])
    # Independently: the checkpoint's masks, scored as evaluation does.
    model, tokenizer = checkpoint.load(folder, UNet)
    shards = study / "data" / "shards"
    split = ShardSet(shards / "images", shards / "captions", "validation")
    pairs = [(sample, "") for sample in split.samples() if sample.meta.has_target]
    masks = inference.segment(model, tokenizer, pairs, 16)
    counts = [metrics.confusion_counts(probability > 0.5, sample.target) for sample, probability in masks]
    assert len(counts) == 16
    assert float(metrics.dice(np.array(counts)).mean()) == pytest.approx(scores[best], abs=1e-6)


def test_a_run_that_chooses_nothing_says_nothing_of_it(study: Path) -> None:
    add_validation(study, 19)
    summary = train(study, settings())
    curve = json.loads((study / "data" / "checkpoints" / "unet" / "curve.json").read_text())
    assert not {"best_epoch", "stopped_early"} & (curve.keys() | summary.keys())
    assert not any("scores" in point for point in curve["validation"])


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_resumed_run_equals_an_unbroken_one_with_augmentation_on(
    study: Path, caplog: pytest.LogCaptureFixture, stop_after: int
) -> None:
    caplog.set_level(logging.INFO, logger="models.training.loop")
    values = settings(augmentation=AUGMENTATION, ema_decay=0.9)
    train(study, values)
    assert "step 1 of 8" in caplog.text
    unbroken = weights(study)
    broken = prepared(study, values).run
    saved = 0

    def save_and_die(state: SavedState) -> None:
        nonlocal saved
        saved += 1
        torch.save(state, broken.folder / STATE)
        if saved == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(broken, None, save_and_die)
    state = torch.load(broken.folder / STATE, weights_only=True)
    # 4 steps an epoch: in the middle of the first one, and of the second.
    assert (state["position"][3], state["finished"]) == (2 * stop_after, False)
    torch.manual_seed(99)
    caplog.clear()
    summary = train(study, values)
    assert summary["steps"] == 8
    assert "step 1 of 8" not in caplog.text, "it began anew"
    assert weights(study) == unbroken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"augmentation": {"mirrow": 0.5}}, r"augmentation\.mirrow: unknown key; did you mean 'mirror'"),
        ({"augmentation": {"mirror": 2}}, r"augmentation\.mirror 2(\.0)? does not lie between 0 and 1"),
        ({"data_fraction": 0.0}, "data_fraction 0.0 does not lie between 0 and 1"),
        (
            {"data_fraction": 0.1},
            "only 4 training images have an outline of all findings: lower batch_size",
        ),
        (
            {"keep": "best"},
            "only 0 validation images have an outline of all findings, which keep: best needs: .* or choose keep: last",
        ),
        ({"keep": "best", "best_by": "dise"}, "best_by 'dise' is not one of the method's: loss, dice"),
    ],
)
def test_mistakes_are_one_line(study: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        train(study, settings(**change))
    assert "\n" not in str(caught.value)


def test_a_loss_that_the_method_does_not_have(study: Path) -> None:
    values = settings()
    values["methods"]["unet"]["training"]["phases"]["joint"]["losses"] = ["segmentation", "alignment"]
    with pytest.raises(UserError, match=r"asks for the losses \['alignment'\]; the method has: segmentation"):
        train(study, values)


def test_a_method_that_takes_no_augmentation_refuses_it(study: Path) -> None:
    phase = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "losses": ["report"]}
    clip = {
        "model": copy.deepcopy(ENCODERS),
        "training": {
            "phases": {"joint": phase},
            "vocabulary_size": 120,
            "max_length": 32,
            "augmentation": AUGMENTATION,
        },
    }
    values = settings()
    values["methods"]["clip"] = clip
    with pytest.raises(UserError, match=r"train\.methods\.clip: training\.augmentation is set, .*: remove it"):
        train(study, values, "clip")
    del clip["training"]["augmentation"]
    assert train(study, values, "clip")["reasons"] == {"rejected": {"no_text_unannotated": 8}}


def test_the_checkpoint_holds_the_statistics_of_the_batches(study: Path) -> None:
    train(study, settings())
    model, tokenizer = checkpoint.load(study / "data" / "checkpoints" / "unet", UNet)
    assert int(model.encoder.first[1].num_batches_tracked) == 8
    assert tokenizer.model_max_length == 32

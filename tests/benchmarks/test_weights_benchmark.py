"""benchmarks/weights.py: its variants can be trained, and its page says of hand-made rows what it should."""

import csv
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from pipelines.config import parse
from pipelines.params import load_study
from pipelines.registry import plugin
from pipelines.train.config import TrainConfig

NAMES = ("weights", "weights_page")


@pytest.fixture
def study(repository: Path, tmp_path: Path) -> Path:
    settings = load_study(repository / "params" / "weights.yaml", repository / "params.yaml")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


def test_every_method_of_the_study_has_both_encoders(scripts: tuple[ModuleType, ...], study: Path) -> None:
    script, _ = scripts
    planned = [*script.plan(), *((method, "pretrained", 0) for method in (*script.SEGMENTING, *script.PRETRAINING))]
    methods = yaml.safe_load((study / "params.yaml").read_text())["train"]["methods"]
    assert {method for method, _, _ in planned} == set(methods)
    assert len(planned) == len(set(planned)) == 3 * 2 * 3 + 5 * 2
    for method, encoders, seed in planned:
        settings = parse(TrainConfig, script.settings_of(study, method, encoders, seed, tiny=False)["train"], "train")
        assert (settings.engine.seed, settings.engine.threads, settings.engine.num_workers) == (seed, 1, 0)
        entry, cls = settings.methods[method], plugin("methods", method)
        config = parse(cls.Config, entry.model, method)
        image = getattr(config, "image_encoder", None)
        assert (image is not None and image.pretrained == "data/weights/dinov2_small") == (encoders == "pretrained")
        if encoders == "scratch":
            losses = {loss for phase in entry.training.phases.values() for loss in phase.losses}
            assert losses <= set(cls(config, 50).losses)


def test_both_have_the_same_phases(scripts: tuple[ModuleType, ...], study: Path) -> None:
    script, _ = scripts
    for method in (*script.SEGMENTING, *script.PRETRAINING):
        one, other = (
            script.settings_of(study, method, name, 0, tiny=False)["train"]["methods"][method]["training"]
            for name in ("scratch", "pretrained")
        )
        assert one | {"vocabulary_size": None} == other | {"vocabulary_size": None}


def score(value: float, half: float, chance: float, **baselines: float) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "chance": chance, "baselines": baselines}


def tasks(dice: float, recall: float) -> dict[str, Any]:
    """A hand-made metrics.json."""
    part = {"items": 20, "pool": 0, "metrics": {"own/dice_per_image": score(dice, 0.05, 0.2)}}
    return {
        "segmentation": {
            "status": "ok",
            "definitions": {},
            **part,
            "by_source": {"one": part},
        },
        "retrieval": {
            "status": "ok",
            "definitions": {},
            "items": 30,
            "pool": 30,
            "metrics": {"i2t_recall@1": score(recall, 0.1, 0.05, **{"image-blind": 0.3})},
        },
        "grounding": {"status": "skipped", "reason": "no phrase", "metrics": {}},
    }


def test_the_page_of_hand_made_rows(scripts: tuple[ModuleType, ...], tmp_path: Path) -> None:
    _, page = scripts
    about = {
        "parameters": 10,
        "steps": 5,
        "seconds": 7,
        "scoring_seconds": 3,
        "peak_memory_mb": 99.5,
    }
    dice = {"scratch": (0.4, 0.5, 0.6), "pretrained": (0.6, 0.72, 0.84)}
    rows = [
        {"method": "unet", "encoders": encoders, "seed": seed, **about, **found}
        for encoders, values in dice.items()
        for seed, value in enumerate(values)
        for found in page.scores_of(tasks(value, 0.5 if encoders == "pretrained" else 0.35))
    ]
    with (tmp_path / "weights_runs.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    cached = io.StringIO()
    fields = ("method", "features", "images", "steps", "seconds", "stored_mb", "checkpoint_sha256")
    csv.writer(cached).writerows([fields, ("clip", "all kept", 5, 4, 1.5, 2.5, "0123456789abcdef")])
    (tmp_path / "weights_cache.csv").write_text(cached.getvalue())
    page.write(tmp_path, tmp_path)
    lines = (tmp_path / "weights.md").read_text().splitlines()
    # Differences 0.2, 0.22 and 0.24: their deviation is 0.02, and t of two degrees of freedom is 4.303.
    half = 4.303 * 0.02 / 3**0.5
    of_source = next(line for line in lines if line.startswith("| unet | one | own | 20 | 3 | 0.200 |"))
    assert f"| 0.500 ± 0.100 | 0.720 ± 0.120 | +0.220 | +{0.22 - half:.3f} to +{0.22 + half:.3f} | 0.0" in of_source
    assert of_source.endswith("| confirmed |")
    retrieval = next(line for line in lines if line.startswith("| unet | retrieval |"))
    assert "0.350 (0.250 to 0.450) | 0.500 (0.400 to 0.600)" in retrieval
    assert "better than chance and itself on other images" in retrieval
    assert "| clip | all kept | 5 | 4 | 1.5 | 2.5 | 0123456789ab |" in lines
    assert "| unet | scratch | 10 | 5 | 7 | 3 | 99.5 |" in lines

"""benchmarks/pretraining.py: its variants can be trained, and its page judges by hand-made rows what it should."""

import csv
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.config import parse
from pipelines.registry import plugin
from pipelines.train.config import TrainConfig

NAMES = ("pretraining", "pretraining_page")
HIGHEST = "grounding/without_position/which_lesion"


def test_every_variant_can_be_trained_and_has_as_many_steps(scripts: tuple[ModuleType, ModuleType]) -> None:
    script, _ = scripts
    for variant in (*script.COMPARED, *script.ONCE):
        settings = parse(TrainConfig, script.changed(variant, 3)["train"], "train")
        assert (settings.engine.seed, settings.engine.threads, settings.engine.num_workers) == (3, 1, 0)
        entry, method = settings.methods[variant.method], plugin("methods", variant.method)
        model = method(parse(method.Config, entry.model, variant.name), 50)
        phases = entry.training.phases.values()
        assert {loss for phase in phases for loss in phase.losses} <= set(model.losses), variant.name
        assert sum(phase.epochs for phase in phases) == script.EPOCHS, variant.name
        assert {phase.batch_size for phase in phases} == {32}


def test_all_have_the_same_encoders(scripts: tuple[ModuleType, ModuleType]) -> None:
    script, _ = scripts
    models = [
        script.changed(variant, 0)["train"]["methods"][variant.method]["model"]
        for variant in (*script.COMPARED, *script.ONCE)
    ]
    for encoder in ("image_encoder", "text_encoder"):
        assert all(model[encoder] == models[0][encoder] for model in models)
    assert [model["sentences"] for model in models].count(True) == 1


def test_the_whole_plan(scripts: tuple[ModuleType, ModuleType]) -> None:
    script, page = scripts
    runs = script.plan()
    assert len(runs) == len({(variant.method, variant.name, seed) for variant, seed in runs}) == 8 * 5 + 4
    assert [seed for variant, seed in runs if variant == script.COMPARED[0]] == [0, 1, 2, 3, 4]
    assert [variant.method for variant, _ in runs[24:28]] == ["plan", "gloria", "mgca", "convirt"]
    # What is compared has every seed.
    known = {(variant.method, variant.name) for variant in script.COMPARED}
    assert {key for order in page.ORDERS for key in (order.better, order.worse)} <= known
    assert {metric for order in page.ORDERS for metric in order.metrics} <= set(script.COLUMNS)


@pytest.mark.slow
def test_a_tiny_study_from_images_to_the_page(repository: Path, tmp_path: Path) -> None:
    """Runs resume: the second call has nothing left to do, and rows of another study are refused in one line."""
    words = [sys.executable, "benchmarks/pretraining.py", str(tmp_path), "--tiny"]
    environment = os.environ | {"PYTHONPATH": str(repository)}

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=repository, env=environment, capture_output=True, text=True)

    done = start()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "4 runs" in done.stdout
    file = tmp_path / "pretraining_runs.csv"
    rows = list(csv.DictReader(line for line in file.read_text().splitlines() if line[0] != "#"))
    assert sorted((row["method"], row["seed"]) for row in rows) == [
        (method, seed) for method in ("clip", "regionmed_clip") for seed in "01"
    ]
    table = list(
        csv.DictReader(line for line in (tmp_path / "pretraining.csv").read_text().splitlines() if line[0] != "#")
    )
    named = {(row["method"], row["variant"]) for row in table if row["metric"] == "without_position/pointing"}
    assert named == {
        ("chance", "default"),
        ("centre", "default"),
        ("text_only", "named_cell"),
        ("text_only", "mean_training_mask"),
        ("blind", "clip default"),
        ("blind", "regionmed_clip default"),
        ("clip", "default"),
        ("regionmed_clip", "default"),
    }
    assert "Planned from:" in (tmp_path / "pretraining.md").read_text()
    assert "0 runs" in start().stdout
    file.write_text("method,variant\nclip,default\n")
    refused = start()
    assert refused.returncode == 1
    assert "holds the rows of an earlier study" in refused.stderr.splitlines()[-1]


def _row(script: ModuleType, page: ModuleType, method: str, variant: str, seed: int, value: float) -> dict[str, str]:
    values = dict.fromkeys(script.COLUMNS, value)
    bounds = {f"{column} {bound}": "" for column in script.COLUMNS for bound in page.BOUNDS}
    bounds |= {f"{column} chance": 0.01 for column in script.COLUMNS}
    bounds |= {f"{HIGHEST} image-blind": value / 2, f"{HIGHEST} named cell": 0.15}
    items = {f"{column} items": 7 for column in script.COLUMNS}
    head = {"method": method, "variant": variant, "seed": seed, "steps": 210, "seconds": 1}
    return {name: str(cell) for name, cell in (head | values | bounds | items).items()}


def test_means_bounds_and_verdicts_of_made_up_rows(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    script, page = scripts

    def row(method: str, variant: str, seed: int, value: float) -> dict[str, str]:
        return _row(script, page, method, variant, seed, value)

    rows = [row("regionmed_clip", "default", seed, 0.4 + 0.01 * seed) for seed in range(3)]
    rows += [row("clip", "default", seed, 0.1 + 0.01 * seed) for seed in range(3)]
    rows += [row("siglip", "default", 0, 0.2)]
    page.write(rows, rows[:6], script.COLUMNS, tmp_path / "table.csv", tmp_path / "page.md", "# head\n")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[:2] == ["# head", "method,variant,task,metric,mean,std,seeds,items"]
    found = {(r["method"], r["variant"], f"{r['task']}/{r['metric']}"): r for r in csv.DictReader(lines[1:])}
    assert found["regionmed_clip", "default", HIGHEST] == {
        "method": "regionmed_clip",
        "variant": "default",
        "task": "grounding",
        "metric": "without_position/which_lesion",
        "mean": "0.41",
        "std": "0.01",
        "seeds": "3",
        "items": "7",
    }
    assert found["chance", "default", HIGHEST]["mean"] == "0.01"
    assert found["blind", "regionmed_clip default", HIGHEST]["mean"] == "0.205"
    assert found["text_only", "named_cell", HIGHEST]["mean"] == "0.15"
    assert ("text_only", "mean_training_mask", HIGHEST) not in found
    text = (tmp_path / "page.md").read_text().splitlines()
    judged = [line for line in text if HIGHEST in line and "clip default" in line]
    assert any("+0.300" in line and line.endswith("| confirmed |") for line in judged)
    siglip = [line for line in text if line.startswith("| 001 table 3") and "siglip default" in line]
    assert siglip
    assert all(line.endswith("| 1 |  | not measured |") for line in siglip)
    # 0.4, 0.41 and 0.42 less a half of each; of clip less the named cell, which is above its blind self.
    against = [line for line in text if line.startswith(f"| clip | default | {HIGHEST} |")]
    assert against == [f"| clip | default | {HIGHEST} | named cell | -0.040 | -0.065 to -0.015 | 3 | below |"]
    (full,) = [line for line in text if line.startswith(f"| regionmed_clip | default | {HIGHEST} |")]
    assert "| image-blind | +0.205 | +0.193 to +0.217 | 3 | above |" in full
    assert f"| {HIGHEST} | 1 | 2 | 0.0000 |" in "\n".join(text)

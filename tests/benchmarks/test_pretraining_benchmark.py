"""benchmarks/pretraining.py: its variants can be trained, and its page judges by hand-made rows what it should."""

import csv
import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.config import parse
from pipelines.registry import plugin
from pipelines.train.config import TrainConfig


@pytest.fixture
def scripts(repository: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(repository / "benchmarks")
    yield importlib.import_module("pretraining"), importlib.import_module("pretraining_page")
    for name in ("pretraining", "pretraining_page", "header", "orders", "power", "runs"):
        sys.modules.pop(name, None)


def test_every_variant_can_be_trained_and_has_as_many_epochs(scripts: tuple[ModuleType, ModuleType]) -> None:
    script, _ = scripts
    for variant in script.VARIANTS:
        settings = parse(TrainConfig, script.changed(variant, 3)["train"], "train")
        assert (settings.engine.seed, settings.engine.threads, settings.engine.num_workers) == (3, 1, 0)
        entry, method = settings.methods[variant.method], plugin("methods", variant.method)
        for changes in ({}, *variant.embeddings.values()):
            parse(method.Config, entry.model | changes, variant.name)
        assert {loss for phase in entry.training.phases.values() for loss in phase.losses} <= set(method.losses)
        if variant.name not in ("untrained", "paper_schedule"):
            assert sum(phase.epochs for phase in entry.training.phases.values()) == 6, variant.name
            assert {phase.batch_size for phase in entry.training.phases.values()} == {64}


def test_every_order_is_between_variants_that_are_run(scripts: tuple[ModuleType, ModuleType]) -> None:
    script, page = scripts
    known = {(variant.method, name) for variant in script.VARIANTS for name in (variant.name, *variant.embeddings)}
    assert {key for order in page.ORDERS for key in (order.better, order.worse)} <= known
    assert {metric for order in page.ORDERS for metric in order.metrics} <= set(script.COLUMNS)


def test_means_chance_and_verdicts_of_made_up_rows(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    script, page = scripts
    full, region = 0.4, "region_retrieval/recall@1"

    def row(method: str, variant: str, seed: int, value: float) -> dict[str, str]:
        values = dict.fromkeys(script.COLUMNS, value)
        chances = {f"{column} chance": 0.01 for column in script.COLUMNS}
        items = {f"{task} items": 7 for task in script.METRICS}
        head = {"method": method, "variant": variant, "seed": seed, "steps": 210, "seconds": 1}
        return {name: str(cell) for name, cell in (head | values | chances | items).items()}

    rows = [row("regionmed_clip", "default", seed, full + 0.01 * seed) for seed in range(3)]
    rows += [row("clip", "default", seed, 0.1 + 0.01 * seed) for seed in range(3)]
    rows += [row("siglip", "default", 0, 0.2)]
    page.write(rows, script.COLUMNS, tmp_path / "table.csv", tmp_path / "page.md", "# head\n")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[:2] == ["# head", "method,variant,task,metric,mean,std,seeds,items"]
    found = {(r["method"], f"{r['task']}/{r['metric']}"): r for r in csv.DictReader(lines[1:])}
    assert found["regionmed_clip", region] == {
        "method": "regionmed_clip",
        "variant": "default",
        "task": "region_retrieval",
        "metric": "recall@1",
        "mean": "0.41",
        "std": "0.01",
        "seeds": "3",
        "items": "7",
    }
    assert found["chance", region]["mean"] == "0.01"
    judged = [line for line in (tmp_path / "page.md").read_text().splitlines() if region in line]
    assert any("clip default" in line and "+0.300" in line and line.endswith("| confirmed |") for line in judged)
    retrieval = [line for line in (tmp_path / "page.md").read_text().splitlines() if "siglip default" in line]
    assert retrieval
    assert all(line.endswith("| 1 |  | not measured |") for line in retrieval)

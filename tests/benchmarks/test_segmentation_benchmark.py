"""benchmarks/segmentation.py: its variants can be trained, and its page judges by hand-made rows what it should."""

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
    yield importlib.import_module("segmentation"), importlib.import_module("segmentation_page")
    for name in ("segmentation", "segmentation_page", "header", "orders", "power", "runs"):
        sys.modules.pop(name, None)


def test_every_variant_is_built_with_its_losses_and_as_many_steps(scripts: tuple[ModuleType, ModuleType]) -> None:
    script, _ = scripts
    for data, variants in (
        (script.PHANTOM, (*script.MAIN, *script.ABLATIONS, *script.ONCE)),
        *((data, script.MAIN) for data in script.REAL),
    ):
        for variant in variants:
            settings = parse(TrainConfig, script.changed(variant, data, 3)["train"], "train")
            assert (settings.engine.seed, settings.engine.threads, settings.engine.num_workers) == (3, 1, 0)
            entry, cls = settings.methods[variant.method], plugin("methods", variant.method)
            model = cls(parse(cls.Config, entry.model, variant.name), 50)
            (phase,) = entry.training.phases.values()
            assert phase.losses == model.losses == model.required_losses
            assert phase.epochs == data.epochs


def test_every_order_is_between_variants_that_are_run(scripts: tuple[ModuleType, ModuleType]) -> None:
    script, page = scripts
    known = {(variant.method, variant.name) for variant in (*script.MAIN, *script.ABLATIONS)}
    assert {key for order in page.ORDERS for key in (order.better, order.worse)} == known
    assert {key for order in page.REAL_ORDERS for key in (order.better, order.worse)} == {
        (variant.method, variant.name) for variant in (*script.MAIN, script.PUBLISHED)
    }
    judged = {metric for order in (*page.ORDERS, *page.REAL_ORDERS) for metric in order.metrics}
    assert judged <= {*script.COLUMNS, "validation/dice_per_image"}


def test_the_whole_plan(scripts: tuple[ModuleType, ModuleType]) -> None:
    """Ablations and the three main methods with every seed on the phantom, those three on QaTa, Kvasir-SEG once."""
    script, _ = scripts
    first, second = (script.studies(script.REAL, seed) for seed in (0, 1))
    assert len(first) == len(set(map(repr, first)))
    assert [study for study in first if study not in second] == [(script.REAL[1], variant) for variant in script.MAIN]
    assert {data.source for data, _ in script.studies((), 0)} == {"phantom"}


def test_means_and_verdicts_of_made_up_rows(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    script, page = scripts

    def row(method: str, data: str, seed: int, value: float) -> dict[str, str]:
        own = {column: value for column in script.COLUMNS if not column.startswith("mask_derived")}
        empty = dict.fromkeys([column for column in script.COLUMNS if column.startswith("mask_derived")], "")
        constants = {f"{column} constant": 0.2 if column in own else "" for column in script.COLUMNS}
        head = {"method": method, "variant": "default", "data": data, "seed": seed, "steps": 7, "seconds": 1}
        more = {
            "parameters": 1000,
            "validation/dice_per_image": 0.5,
            "laterality/retention": 0.9,
            "laterality/suppression": "",
        }
        items = {f"{text} items": 9 for text in script.TEXTS}
        return {name: str(cell) for name, cell in (head | own | empty | constants | more | items).items()}

    rows = [row("reclmis", "qata_test", seed, 0.8 + 0.01 * seed) for seed in range(3)]
    rows += [row("unet", "qata_test", seed, 0.7 + 0.01 * seed) for seed in range(3)]
    rows += [row("unet", "phantom_test", 0, 0.6)]
    page.write(rows, script.COLUMNS, tmp_path / "table.csv", tmp_path / "page.md", "# head\n")
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert lines[:2] == ["# head", "method,variant,data,text,metric,mean,std,seeds,items"]
    found = {(r["method"], r["data"], r["text"], r["metric"]): r for r in csv.DictReader(lines[1:])}
    assert found["reclmis", "qata_test", "own", "dice_pooled"] == {
        "method": "reclmis",
        "variant": "default",
        "data": "qata_test",
        "text": "own",
        "metric": "dice_pooled",
        "mean": "0.81",
        "std": "0.01",
        "seeds": "3",
        "items": "9",
    }
    assert found["constant", "qata_test", "empty", "accuracy"]["mean"] == "0.2"
    assert not [key for key in found if key[2] == "mask_derived"]
    text = (tmp_path / "page.md").read_text()
    judged = [line for line in text.splitlines() if line.startswith("| 003 table I |")]
    assert any("own/dice_pooled" in line and "+0.100" in line and line.endswith("| confirmed |") for line in judged)
    assert any(line.endswith("| not measured |") for line in judged)
    assert "| unet | default | 1 | 7 | 1,000 | 0.500 | 0.600 |" in text

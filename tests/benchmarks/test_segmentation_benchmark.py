"""benchmarks/segmentation.py: its variants can be trained, and its page judges by hand-made rows what it should."""

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

NAMES = ("segmentation", "segmentation_plan", "segmentation_page")


def test_every_variant_is_built_with_its_losses_and_as_many_steps(scripts: tuple[ModuleType, ...]) -> None:
    script, plan, _ = scripts
    # LViT and Swin UNETR have learned positions, and are run on QaTa-COV19 alone.
    for variant, data in {
        (one[0].method, one[0].name, one[1].source): one[:2] for one in plan.plan(with_real=True)
    }.values():
        settings = parse(TrainConfig, script.changed(variant, data, 3)["train"], "train")
        assert (settings.engine.seed, settings.engine.threads, settings.engine.num_workers) == (3, 1, 0)
        entry, cls = settings.methods[variant.method], plugin("methods", variant.method)
        model = cls(parse(cls.Config, entry.model, variant.name), 50)
        (phase,) = entry.training.phases.values()
        assert phase.losses == model.losses == model.required_losses
        assert phase.epochs == data.epochs
        assert (entry.training.keep, entry.training.best_by) == ("best", "dice")


def test_the_mask_ratios_are_those_of_the_papers_tables(scripts: tuple[ModuleType, ...]) -> None:
    script, plan, _ = scripts
    for variant in plan.COMPARED[:2]:
        model = script.changed(variant, plan.QATA, 0)["train"]["methods"]["reclmis"]["model"]
        assert (model["vision_mask_ratio"], model["text_mask_ratio"]) == (0.3, 0.3)


def test_every_order_is_between_variants_that_have_every_seed(scripts: tuple[ModuleType, ...]) -> None:
    script, plan, page = scripts
    known = {(variant.method, variant.name) for variant in plan.COMPARED}
    for data in page.TITLES:
        assert {key for order in page.orders(data) for key in (order.better, order.worse)} == known
        assert {metric for order in page.orders(data) for metric in order.metrics} <= set(script.COLUMNS)


def test_the_whole_plan(scripts: tuple[ModuleType, ...]) -> None:
    """Five variants with five seeds on QaTa-COV19, four methods once, and the five with three seeds on the phantom."""
    _, plan, _ = scripts
    runs = plan.plan(with_real=True)
    assert len(runs) == len({plan.called(one) for one in runs}) == 5 * 5 + 4 + 5 * 3
    # A cut leaves whole seeds, first those of QaTa-COV19.
    first = [(data.source, seed) for variant, data, seed in runs if variant.method == "unet"]
    assert first == [
        *(("qata_cov19", seed) for seed in (0, 1, 2)),
        ("phantom", 0),
        *(("qata_cov19", seed) for seed in (3, 4)),
        *(("phantom", seed) for seed in (1, 2)),
    ]
    assert [variant.method for variant, _, _ in runs[15:19]] == ["lvit", "swin_unetr", "unetpp", "attention_unet"]
    assert {data.source for _, data, _ in plan.plan(with_real=False)} == {"phantom"}


def test_the_forecast_and_what_it_leaves_out(scripts: tuple[ModuleType, ...], capsys: pytest.CaptureFixture) -> None:
    _, plan, _ = scripts
    unet, tmca, lvit = ((plan.Variant(method=name), plan.QATA, 0) for name in ("unet", "tmca", "lvit"))
    baseline = (plan.Variant(method="tmca", name="baseline"), plan.QATA, 0)
    rows = [
        {"method": "tmca", "variant": name, "data": "qata_test", "seconds": seconds, "scoring_seconds": "20"}
        for name, seconds in (("default", "100"), ("default", "140"), ("other", "60"))
    ]
    # The variant's own mean; the method's; what was known before; nothing known.
    ariadne = (plan.Variant(method="ariadne"), plan.QATA, 0)
    found = [plan.forecast(one, rows) for one in (tmca, baseline, unet, ariadne)]
    assert found == [140, 120, plan.SECONDS["qata_cov19", "unet", "default"], plan.UNKNOWN_SECONDS]
    # 140 + 120 seconds in two processes are 130 s, with the third 355 s.
    assert plan.within([tmca, baseline, lvit], rows, minutes=4, processes=2) == [tmca, baseline]
    assert capsys.readouterr().out.splitlines() == [
        "forecast: 2 runs, 2 minutes in 2 processes",
        "left out, beyond 4 minutes: lvit default qata_cov19 0",
    ]


def test_the_plan_fits_its_time(scripts: tuple[ModuleType, ...]) -> None:
    _, plan, _ = scripts
    runs = plan.plan(with_real=True)
    assert plan.within(runs, [], minutes=75, processes=2) == runs


@pytest.mark.slow
def test_a_tiny_study_from_images_to_the_page(repository: Path, tmp_path: Path) -> None:
    """Runs resume: the second call has nothing left to do, and rows of another study are refused in one line."""
    words = [sys.executable, "benchmarks/segmentation.py", str(tmp_path), "--tiny"]
    environment = os.environ | {"PYTHONPATH": str(repository)}

    def start() -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=repository, env=environment, capture_output=True, text=True)

    done = start()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "forecast: 4 runs, " in done.stdout
    file = tmp_path / "segmentation_runs.csv"
    rows = list(csv.DictReader(line for line in file.read_text().splitlines() if line[0] != "#"))
    assert sorted((row["method"], row["seed"]) for row in rows) == [
        (method, seed) for method in ("reclmis", "unet") for seed in "01"
    ]
    for row in rows:
        # Empty images are left out, and a mean over others is another one.
        assert 0 < int(row["non-empty items"]) <= int(row["own items"])
        assert 0 < float(row["own/dice_per_non_empty_image constant"]) < 1
        assert 0 <= float(row["own/dice_per_non_empty_image"]) <= 1
        assert row["best_epoch"] == "1"
    page = (tmp_path / "segmentation.md").read_text()
    assert "| 003 table I | reclmis default | unet default | own/dice_per_non_empty_image |" in page
    assert "Planned from, QaTa-COV19:" in page
    assert "forecast: 0 runs" in start().stdout
    file.write_text("method,variant\nunet,default\n")
    refused = start()
    assert refused.returncode == 1
    assert "holds the rows of an earlier study" in refused.stderr.splitlines()[-1]


def test_means_and_verdicts_of_made_up_rows(scripts: tuple[ModuleType, ...], tmp_path: Path) -> None:
    script, _, page = scripts

    def row(method: str, data: str, seed: int, value: float) -> dict[str, str]:
        own = {column: value for column in script.COLUMNS if not column.startswith("shuffled")}
        empty = dict.fromkeys([column for column in script.COLUMNS if column.startswith("shuffled")], "")
        constants = {f"{column} constant": 0.2 if column in own else "" for column in script.COLUMNS}
        head = {"method": method, "variant": "default", "data": data, "seed": seed, "steps": 7, "seconds": 1}
        more = {
            "parameters": 1000,
            "validation/dice_per_image": 0.5,
            "laterality/retention": 0.9,
            "laterality/suppression": "",
        }
        items = {f"{text} items": 9 for text in script.TEXTS} | {"non-empty items": 7}
        return {name: str(cell) for name, cell in (head | own | empty | constants | more | items).items()}

    rows = [row("reclmis", "qata_test", seed, 0.8 + 0.01 * seed) for seed in range(3)]
    rows += [row("unet", "qata_test", seed, 0.7 + 0.01 * seed) for seed in range(3)]
    rows += [row("unet", "phantom_test", 0, 0.6)]
    pilot = [
        {"method": m, "variant": "default", "data": "qata_test", "seed": str(n), "own/dice_pooled": str(value)}
        for m, values in (("unet", (0.1, 0.2, 0.3)), ("reclmis", (0.3, 0.5, 0.7)))
        for n, value in enumerate(values)
    ]
    page.write(rows, pilot, script.COLUMNS, tmp_path / "table.csv", tmp_path / "page.md", "# head\n")
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
    assert found["reclmis", "qata_test", "own", "dice_per_non_empty_image"]["items"] == "7"
    assert not [key for key in found if key[2] == "shuffled"]
    text = (tmp_path / "page.md").read_text()
    judged = [line for line in text.splitlines() if line.startswith("| 003 table I |")]
    assert any("own/dice_pooled" in line and "+0.100" in line and line.endswith("| confirmed |") for line in judged)
    assert any(line.endswith("| not measured |") for line in judged)
    assert "| unet | default | 1 | 7 | 1,000 | 0.500 | 0.600 |" in text
    # The pilot's differences 0.2, 0.3 and 0.4: standard deviation 0.1, one pair.
    assert "| own/dice_pooled | 1 | 2 | 0.1000 | 0.326 |" in text

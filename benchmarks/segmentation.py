"""The methods that segment: five variants on QaTa-COV19 and the phantom with the same seeds, others once.

Reads   params/segmentation.yaml: data, models and phases; every variant below is a change to one of its entries
        RAW/qata_cov19, as its publishers lay it out; without RAW the phantom alone
Writes  benchmarks/results/segmentation_runs.csv, a row a (method, variant, data, seed) as it ends; rows that are there
        are kept, so delete the file to start anew
        benchmarks/results/segmentation.csv, means over seeds, and segmentation.md, the page with the orders and with
        what the seeds can see (planned from segmentation_pilot.csv, rows of the study before)
        WORK: the data sets, checkpoints, scores and logs; a killed run goes on where it stopped
Run     python benchmarks/segmentation.py WORK [RAW [MINUTES [PROCESSES]]], with nothing else running on the host
        python benchmarks/segmentation.py WORK --tiny tries it on a few images of the phantom; all is written to WORK

It prints how long the runs will take before they start, and leaves out the last of them where that is more than
MINUTES. They are ordered so that a cut costs least: three seeds of the five variants on QaTa-COV19, what runs once, one
seed on the phantom, the other seeds. Each data set is built by the stages, on its own. Variants of one data set have
the same number of optimiser steps.
"""

import contextlib
import copy
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import runs
import segmentation_page
import yaml
from header import header, last_commit
from runs import REPOSITORY, RESULTS
from segmentation_plan import TESTS, Data, Run, Variant, called, plan, tiny_plan, within

from models import checkpoint, inference
from models.data.shards import ShardSet
from models.segmentation.batches import training_text
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate.metrics import segmentation as metrics
from pipelines.evaluate.segmentation.masks import without_padding
from pipelines.params import load_study
from pipelines.registry import plugin
from pipelines.stage import command

PARAMS = REPOSITORY / "params" / "segmentation.yaml"
TEXTS = ("own", "shuffled", "empty")
# Dice per image of those images that have a target: on the phantom a seventh has none, and leaving these empty is what
# moves the mean over all.
NON_EMPTY = "dice_per_non_empty_image"
METRICS = (*metrics.METRICS, NON_EMPTY)
LATERALITY = ("laterality/retention", "laterality/suppression")
COLUMNS = [f"{text}/{metric}" for text in TEXTS for metric in METRICS]


def main(work: str, raw: str = "", minutes: str = "75", processes: str = "2") -> None:
    folder = Path(work).resolve()
    tiny = raw == "--tiny"
    results = folder if tiny else RESULTS
    results.mkdir(parents=True, exist_ok=True)
    planned = tiny_plan() if tiny else plan(with_real=bool(raw))
    runs_file, limits = results / "segmentation_runs.csv", (float(minutes), int(processes))
    run_planned(planned, folder, "" if tiny else raw, runs_file, head(), limits, lambda: summarise(results))


def run_planned(
    planned: list[Run],
    folder: Path,
    raw: str,
    runs_file: Path,
    header_lines: str,
    limits: tuple[float, int],
    summarise: Callable[[], None],
) -> None:
    """Build the data sets of a plan and run what has no row yet.

    Args:
        planned: The runs.
        folder: Of data sets, checkpoints, scores and logs.
        raw: Folder of the data sets as their publishers lay them out.
        runs_file: Gets a row of each run as it ends.
        header_lines: At its head.
        limits: Minutes for all runs, and processes.
        summarise: Called after each row, and at the end.

    Raises:
        UserError: The file has other columns.
    """
    rows = runs.read(runs_file)
    if rows and "scoring_seconds" not in rows[0]:
        raise UserError(f"{runs_file} holds the rows of an earlier study, with other columns: delete it to start anew")
    for data in {planned_run[1].source: planned_run[1] for planned_run in planned}.values():
        build_data(folder / data.source, data, raw)
    done = {(row["method"], row["variant"], row["data"], int(row["seed"])) for row in rows}
    waiting = [
        (variant, data, seed)
        for variant, data, seed in planned
        if (variant.method, variant.name, TESTS[data.source], seed) not in done
    ]
    minutes, processes = limits
    chosen = within(waiting, rows, minutes, processes)

    def keep(found: list[dict[str, Any]]) -> None:
        runs.append(runs_file, found, header_lines)
        summarise()

    named = {called(one): (*one, folder) for one in chosen}
    runs.run_all(named, run, processes, keep)
    summarise()


def build_data(folder: Path, data: Data, raw: str) -> None:
    """The shards of one data set, by the stages themselves."""
    settings = params(data)
    stages = [f"ingest {data.source}", "split", "proposals", "regions", "captions", "shards images", "shards captions"]
    if data.source == "phantom":
        stages.insert(0, "phantom")
    else:
        (folder / "data" / "raw").mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            (folder / "data" / "raw" / data.source).symlink_to(Path(raw).resolve() / data.source)
    runs.build_data(folder, yaml.safe_dump(settings, sort_keys=False), stages)


def params(data: Data) -> dict[str, Any]:
    """The params with one data set."""
    settings = load_study(PARAMS, REPOSITORY / "params.yaml")
    settings["ingest"]["sources"] = {data.source: settings["ingest"]["sources"][data.source]}
    settings["split"]["allow_leaks"] = [name for name in settings["split"]["allow_leaks"] if name == data.source]
    settings["shards"]["image_size"] = data.image_size
    for name, value in data.settings.items():
        section, key = name.split(".")
        settings[section][key] = value
    return settings


def changed(variant: Variant, data: Data, seed: int) -> dict[str, Any]:
    """The params with the variant's changes, one thread, and no resamples: intervals come from the seeds."""
    settings = copy.deepcopy(params(data))
    settings["train"]["engine"] |= {"seed": seed, "threads": 1, "num_workers": 0, "loader_workers": 0}
    entry = settings["train"]["methods"][variant.method]
    entry["model"] |= variant.model
    if "grid" in entry["model"]:
        entry["model"]["grid"] = data.image_size // 16
    if "image_size" in entry["model"]:
        entry["model"]["image_size"] = data.image_size
    for phase in entry["training"]["phases"].values():
        phase["epochs"] = data.epochs
        phase["batch_size"] = data.batch_size or phase["batch_size"]
        phase["losses"] = list(_losses(variant.method, entry["model"]))
    settings["evaluate"] = {
        "tasks": {"segmentation": {}},
        "batch_size": settings["evaluate"]["batch_size"],
        "bootstrap": {"samples": 2, "seed": 0},
        # It would double the masks; texts of other images are asked for by themselves.
        "image_blind": False,
    }
    return settings


def _losses(method: str, model: dict[str, Any]) -> tuple[str, ...]:
    """Those of the components that are on."""
    cls = plugin("methods", method)
    return cls(parse(cls.Config, model, method), 100).losses


def run(variant: Variant, data: Data, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Train and score one variant in one thread."""
    os.chdir(REPOSITORY)
    name = f"{data.source}-{variant.method}-{variant.name}-{seed}"
    shards = folder / data.source / "data" / "shards"
    with runs.logging_to(folder, name):
        trained = runs.train_and_score(name, variant.method, changed(variant, data, seed), shards, folder)
        began = time.perf_counter()
        on_validation = _on_validation(variant.method, folder / "checkpoints" / name, shards)
        scoring_seconds = trained.scoring_seconds + round(time.perf_counter() - began)
    task = trained.tasks["segmentation"]
    found = {name: score["value"] for name, score in task["metrics"].items()}
    constant = {name: score["chance"] for name, score in task["metrics"].items()}
    items = {f"{text} items": task["details"]["items"].get(text, 0) for text in TEXTS}
    shown, there, everything = non_empty(trained.evaluation / "items.parquet", shards)
    found |= shown
    constant |= dict.fromkeys(shown, everything)
    row = {
        "method": variant.method,
        "variant": variant.name,
        "data": TESTS[data.source],
        "seed": seed,
        "steps": trained.summary["steps"],
        "seconds": trained.seconds,
        "scoring_seconds": scoring_seconds,
        "parameters": trained.summary["parameters"],
        "best_epoch": trained.summary["best_epoch"]["epoch"],
        "validation/dice_per_image": round(on_validation, 6),
        **{column: found.get(column, "") for column in (*COLUMNS, *LATERALITY)},
        **items,
        "non-empty items": there,
        **{f"{column} constant": constant.get(column, "") for column in COLUMNS},
    }
    return [row]


def non_empty(items: Path, shards: Path) -> tuple[dict[str, float], int, float]:
    """Dice per image over the test images that have a target: by text, how many images, and of a mask of everything."""
    split = ShardSet(shards / "images", shards / "captions", "test")
    fractions = {
        sample.key: float(without_padding(sample, sample.target).mean())
        for sample in split.samples()
        if sample.meta.has_target and sample.target.any()
    }
    table = pd.read_parquet(items, columns=["task", "metric", "item", "value"])
    found = {}
    for text in TEXTS:
        mine = table[(table["task"] == "segmentation") & (table["metric"] == f"{text}/dice")]
        if len(values := mine[mine["item"].isin(fractions)]["value"]):
            found[f"{text}/{NON_EMPTY}"] = round(float(values.mean()), 6)
    everything = np.mean([2 * fraction / (1 + fraction) for fraction in fractions.values()])
    return found, len(fractions), round(float(everything), 6)


def _on_validation(method: str, checkpoints: Path, shards: Path) -> float:
    """Dice per image on the validation split, with the texts that training reads: what a default is chosen by."""
    model, tokenizer = checkpoint.load(checkpoints / method, plugin("methods", method))
    split = ShardSet(shards / "images", shards / "captions", "validation")
    samples = [sample for sample in split.samples() if sample.meta.has_target]
    pairs = [(sample, training_text(sample)) for sample in samples]
    counts = [
        metrics.confusion_counts(probability > 0.5, sample.target)
        for sample, probability in inference.segment(model, tokenizer, pairs, 64)
    ]
    return float(metrics.METRICS["dice_per_image"](np.array(counts)))


def summarise(results: Path) -> None:
    rows = runs.read(results / "segmentation_runs.csv")
    table, page = results / "segmentation.csv", results / "segmentation.md"
    segmentation_page.write(rows, runs.read(RESULTS / "segmentation_pilot.csv"), COLUMNS, table, page, head())


def head(script: str = "segmentation") -> str:
    return header(f"python benchmarks/{script}.py WORK RAW", last_commit(REPOSITORY, "models", "pipelines", "params"))


if __name__ == "__main__":
    command(main)

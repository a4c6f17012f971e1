"""The pretraining methods on the phantom: the variants whose order the papers claim with the same seeds, others once.

Reads   params/pretraining.yaml: data, models and phases; every variant below is a change to one of its entries
Writes  benchmarks/results/pretraining_runs.csv, a row a (method, variant, seed) as it ends; rows that are there are
        kept, so delete the file to start anew
        benchmarks/results/pretraining.csv, means over seeds, and pretraining.md, the page with the orders and with what
        the seeds can see (planned from pretraining_pilot.csv, rows of the study before)
        WORK: the data set, checkpoints, scores and logs; a killed run goes on where it stopped
Run     python benchmarks/pretraining.py WORK [PROCESSES], with nothing else running on the host
        python benchmarks/pretraining.py WORK --tiny tries it on a few images; all is written to WORK

All variants have the same data, encoders, learning rate and number of optimiser steps. Seeds 0 to 2 of what is compared
come first, then what runs once, then the other seeds.
"""

import copy
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pretraining_page
import runs
import yaml
from header import header, last_commit
from runs import REPOSITORY, RESULTS

from pipelines.errors import UserError
from pipelines.params import load_study
from pipelines.stage import command

PARAMS = REPOSITORY / "params" / "pretraining.yaml"
STAGES = ("phantom", "ingest phantom", "split", "proposals", "regions", "captions", "shards images", "shards captions")
METRICS = {
    "retrieval": ("i2t_recall@1", "t2i_recall@1"),
    "region_retrieval": ("recall@1", "adjective_accuracy"),
    "grounding": (
        "which_lesion",
        "pointing",
        "cnr_signed",
        "cnr_absolute",
        "without_position/which_lesion",
        "without_position/pointing",
        "without_position/cnr_signed",
    ),
}
COLUMNS = [f"{task}/{metric}" for task, metrics in METRICS.items() for metric in metrics]
SEEDS = 5
TINY_IMAGES, TINY_SEEDS = 120, 2

Phases = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A change to a method's entry in the params.

    Attributes:
        method: Name of the entry.
        name: default, or the ablation's name.
        model: Settings of the model that differ.
        phases: In the place of the entry's.
    """

    method: str
    name: str = "default"
    model: dict[str, Any] = field(default_factory=dict)
    phases: Phases | None = None


def phase(name: str, epochs: int, losses: list[str], *, rate: float = 1.0, **changes: Any) -> Phases:
    """One phase at `rate` times the common learning rate; `|` puts another one after it."""
    settings = {"batch_size": 32, "learning_rate": RATE * rate, "losses": losses}
    return {name: {"epochs": epochs} | settings | changes}


RATE, EPOCHS = 0.002, 9
LAST = {"schedule": "cosine"}
FIRST = {"warmup_steps": 20}
WARM_UP = phase("warm_up", 1, ["report"], rate=0.5, **FIRST)
WHOLE, REGION = ["report", "summary"], ["region", "negatives"]

COMPARED = (
    # Figure 5 of paper 001: its baseline is CLIP; G adds the loss of whole images, R that of regions, and the default,
    # F there, both together. G trains no ROI processor, which its map would need.
    Variant(method="clip"),
    Variant(
        method="regionmed_clip",
        name="G",
        model={"map": "grad_cam"},
        phases=WARM_UP | phase("global", 8, WHOLE, **LAST),
    ),
    Variant(
        method="regionmed_clip",
        name="R",
        phases=WARM_UP | phase("global", 2, WHOLE) | phase("region", 6, REGION, **LAST),
    ),
    Variant(method="regionmed_clip"),
    # Table 3 of paper 001.
    Variant(method="siglip"),
    # Table VI of paper 000: with and without its local loss.
    Variant(method="plan"),
    Variant(method="plan", name="global", phases=phase("joint", 9, ["report"], **FIRST, **LAST)),
    # Of ours: CLIP that learns sentences from patches.
    Variant(
        method="clip",
        name="sentences",
        model={"sentences": True},
        phases=phase("sentences", 4, ["sentence"], **FIRST) | phase("global", 5, ["report", "sentence"], **LAST),
    ),
)
ONCE = (
    # Ten minutes a run: each word against the patches of every image of the batch.
    Variant(method="plan", name="negatives_images", model={"negatives": "images"}),
    *(Variant(method=method) for method in ("gloria", "mgca", "convirt")),
)

Run = tuple[Variant, int]


def plan() -> list[Run]:
    """All runs, those first whose loss would cost most: a cut leaves whole seeds behind."""

    def compared(seeds: range) -> list[Run]:
        return [(variant, seed) for seed in seeds for variant in COMPARED]

    return [*compared(range(3)), *((variant, 0) for variant in ONCE), *compared(range(3, SEEDS))]


def tiny_plan() -> list[Run]:
    """Two variants with two seeds, which make an order."""
    clip, _, _, full, *_ = COMPARED
    return [(variant, seed) for seed in range(TINY_SEEDS) for variant in (clip, full)]


def main(work: str, processes: str = "2") -> None:
    folder = Path(work).resolve()
    tiny = processes == "--tiny"
    results = folder if tiny else RESULTS
    results.mkdir(parents=True, exist_ok=True)
    file = results / "pretraining_runs.csv"
    rows = runs.read(file)
    if rows and "scoring_seconds" not in rows[0]:
        raise UserError(f"{file} holds the rows of an earlier study, with other columns: delete it to start anew")
    runs.build_data(folder, yaml.safe_dump(params(tiny=tiny), sort_keys=False), STAGES)
    done = {(row["method"], row["variant"], int(row["seed"])) for row in rows}
    waiting = [
        (variant, seed)
        for variant, seed in (tiny_plan() if tiny else plan())
        if (variant.method, variant.name, seed) not in done
    ]

    def keep(found: list[dict[str, Any]]) -> None:
        runs.append(file, found, head())
        summarise(results)

    print(f"{len(waiting)} runs", flush=True)
    named = {
        f"{variant.method} {variant.name} {seed}": (variant, seed, folder, changed(variant, seed, tiny=tiny))
        for variant, seed in waiting
    }
    runs.run_all(named, run, 2 if tiny else int(processes), keep)
    summarise(results)


def params(*, tiny: bool) -> dict[str, Any]:
    """All sections of the study."""
    settings = load_study(PARAMS, REPOSITORY / "params.yaml")
    if tiny:
        settings["phantom"]["images"] = TINY_IMAGES
    return settings


def changed(variant: Variant, seed: int, *, tiny: bool = False) -> dict[str, Any]:
    """The params with the variant's changes, one thread, and no resamples: intervals come from the seeds."""
    settings = copy.deepcopy(params(tiny=tiny))
    settings["train"]["engine"] |= {"seed": seed, "threads": 1, "num_workers": 0, "loader_workers": 0}
    entry = settings["train"]["methods"][variant.method]
    entry["model"] |= variant.model
    if variant.phases is not None:
        entry["training"] |= {"phases": copy.deepcopy(variant.phases), "phase_order": list(variant.phases)}
    if tiny:
        for one in entry["training"]["phases"].values():
            one["epochs"] = 1
    settings["evaluate"] |= {
        "tasks": {"retrieval": {"ks": [1]}, "region_retrieval": {"ks": [1]}, "grounding": {}},
        "bootstrap": {"samples": 2, "seed": 0},
    }
    return settings


def run(variant: Variant, seed: int, folder: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Train and score one variant in one thread."""
    os.chdir(REPOSITORY)
    name = f"{variant.method}-{variant.name}-{seed}"
    with runs.logging_to(folder, name):
        found = runs.train_and_score(name, variant.method, settings, folder / "data" / "shards", folder)
    tasks = found.tasks
    scores = {column: score_of(tasks, column) for column in COLUMNS}
    row = {
        "method": variant.method,
        "variant": variant.name,
        "seed": seed,
        "steps": found.summary["steps"],
        "parameters": found.summary["parameters"],
        "seconds": found.seconds,
        "scoring_seconds": found.scoring_seconds,
        **{column: score["value"] for column, score in scores.items()},
        **{
            f"{column} {bound}": {**score["baselines"], "chance": score["chance"]}.get(bound, "")
            for column, score in scores.items()
            for bound in pretraining_page.BOUNDS
        },
        **{f"{column} items": items_of(tasks, column) for column in COLUMNS},
    }
    return [row]


def score_of(tasks: dict[str, Any], column: str) -> dict[str, Any]:
    task, _, metric = column.partition("/")
    return tasks[task]["metrics"][metric]


def items_of(tasks: dict[str, Any], column: str) -> int:
    """What a score is the mean of: `details.items` says it where it is not the number of all."""
    task, _, metric = column.partition("/")
    counted = tasks[task]["details"].get("items", {})
    return counted.get(metric, counted.get(metric.rpartition("/")[0], tasks[task]["items"]))


def summarise(results: Path) -> None:
    rows, pilot = runs.read(results / "pretraining_runs.csv"), runs.read(RESULTS / "pretraining_pilot.csv")
    pretraining_page.write(rows, pilot, COLUMNS, results / "pretraining.csv", results / "pretraining.md", head())


def head() -> str:
    return header("python benchmarks/pretraining.py WORK", last_commit(REPOSITORY, "models", "pipelines", "params"))


if __name__ == "__main__":
    command(main)

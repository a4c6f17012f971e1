"""The pretraining methods on the phantom: each method, its ablations, and the orders that the papers claim.

Reads   params/pretraining.yaml: data, models and phases; every variant below is a change to one of its entries
Writes  benchmarks/results/pretraining_runs.csv, a row a (method, variant, seed) as it ends; rows that are there are
        kept, so delete the file to start anew
        benchmarks/results/pretraining.csv, means over seeds, and pretraining.md, the page with the orders
        WORK: the data set, checkpoints, scores and logs; a killed run goes on where it stopped
Run     python benchmarks/pretraining.py WORK [SEEDS [PROCESSES]], with nothing else running on the host

Variants have the same number of optimiser steps, but for `paper_schedule`, which has the paper's epochs and ratios of
learning rates. Orders are judged by seed: the difference of two variants trained from the same seed, and Student's t
interval of its mean.
"""

import contextlib
import copy
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pretraining_page
import runs
from header import header, last_commit
from runs import REPOSITORY, RESULTS

from models.verified import seal
from pipelines.config import parse
from pipelines.evaluate import stage as evaluation
from pipelines.evaluate.config import EvaluateConfig
from pipelines.params import load_study
from pipelines.stage import command
from pipelines.train import stage as training
from pipelines.train.config import TrainConfig

PARAMS = REPOSITORY / "params" / "pretraining.yaml"
FILE = RESULTS / "pretraining_runs.csv"
STAGES = ("phantom", "ingest phantom", "split", "proposals", "regions", "captions", "shards images", "shards captions")
METRICS = {
    "retrieval": ("i2t_recall@1", "t2i_recall@1"),
    "region_retrieval": ("recall@1", "adjective_accuracy"),
    "grounding": ("cnr_signed", "cnr_absolute", "pointing"),
}
COLUMNS = [f"{task}/{metric}" for task, metrics in METRICS.items() for metric in metrics]

Phases = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A change to a method's entry in the params.

    Attributes:
        method: Name of the entry.
        name: default, or the ablation's name.
        model: Settings of the model that differ.
        phases: In the place of the entry's.
        training: Settings of the training that differ.
        embeddings: Further variants of the same weights: name -> settings of the model at inference.
    """

    method: str
    name: str = "default"
    model: dict[str, Any] = field(default_factory=dict)
    phases: Phases | None = None
    training: dict[str, Any] = field(default_factory=dict)
    embeddings: dict[str, dict[str, Any]] = field(default_factory=dict)


def phase(name: str, epochs: int, losses: list[str], *, rate: float = 1.0, **changes: Any) -> Phases:
    """One phase at `rate` times the common learning rate; `|` puts another one after it."""
    settings = {"batch_size": 64, "learning_rate": RATE * rate, "losses": losses}
    return {name: {"epochs": epochs} | settings | changes}


RATE = 0.002
LAST = {"schedule": "cosine"}
WARM_UP = phase("warm_up", 1, ["report"], rate=0.5, warmup_steps=20)
WHOLE, REGION = ["report", "summary"], ["region", "negatives"]
JOINT = ["report", *REGION]
GRAD_CAM = {"map": "grad_cam"}

VARIANTS = (
    Variant(method="clip"),
    Variant(method="clip", name="untrained", phases=phase("none", 1, ["report"], rate=0.0)),
    Variant(
        method="clip",
        name="paper_schedule",
        phases=phase("warm_up", 2, ["report"], rate=0.5) | phase("global", 24, ["report"]),
    ),
    Variant(
        method="regionmed_clip",
        embeddings={"embedding_regions": {"embedding": "regions"}, "embedding_mean": {"embedding": "mean"}},
    ),
    # Figure 5 of paper 001, one component more from row to row; F is the default. B, W and G train no ROI processor.
    Variant(
        method="regionmed_clip",
        name="B",
        model=GRAD_CAM,
        phases=phase("global", 6, ["report"], warmup_steps=20, **LAST),
    ),
    Variant(method="regionmed_clip", name="W", model=GRAD_CAM, phases=WARM_UP | phase("global", 5, ["report"], **LAST)),
    Variant(method="regionmed_clip", name="G", model=GRAD_CAM, phases=WARM_UP | phase("global", 5, WHOLE, **LAST)),
    Variant(
        method="regionmed_clip",
        name="R",
        phases=WARM_UP | phase("global", 2, WHOLE) | phase("region", 3, REGION, **LAST),
    ),
    Variant(method="regionmed_clip", name="one_directional", model={"symmetric": False}),
    Variant(method="regionmed_clip", name="negatives_softmax", model={"negative_loss": "softmax"}),
    Variant(
        method="regionmed_clip",
        name="paper_schedule",
        phases=phase("warm_up", 2, ["report"], rate=0.5)
        | phase("global", 8, WHOLE)
        | phase("region", 8, REGION)
        | phase("joint", 8, JOINT, rate=0.15, batch_size=48),
    ),
    Variant(method="plan"),
    # Table VI of paper 000: L_g; L_g with the local loss from the initial importance alone; the default has all.
    Variant(method="plan", name="global", phases=phase("joint", 6, ["report"], warmup_steps=20, **LAST)),
    Variant(method="plan", name="initial_local", model={"refine": False, "iterations": 1}),
    *(Variant(method="plan", name=f"iterations_{t}", model={"iterations": t}) for t in (1, 2, 4, 5)),
    Variant(method="plan", name="negatives_report", model={"negatives": "report"}),
    Variant(
        method="plan",
        name="paper_schedule",
        phases=phase("joint", 10, ["report", "local"], batch_size=48, schedule="plateau"),
        training={"optimiser": "adam", "weight_decay": 1e-6},
    ),
    Variant(method="siglip"),
    Variant(method="convirt"),
    Variant(method="gloria"),
    Variant(method="mgca"),
)


def main(work: str, seeds: str = "3", processes: str = "2") -> None:
    folder = Path(work).resolve()
    runs.build_data(folder, PARAMS.read_text(encoding="utf-8"), STAGES)
    done = {(row["method"], row["variant"], int(row["seed"])) for row in runs.read(FILE)}
    # Seed by seed: a cut leaves whole seeds behind.
    waiting = [
        (variant, seed)
        for seed in range(int(seeds))
        for variant in VARIANTS
        if (variant.method, variant.name, seed) not in done
    ]
    named = {f"{variant.method} {variant.name} {seed}": (variant, seed, folder) for variant, seed in waiting}
    runs.run_all(named, run, int(processes), keep)
    summarise()


def keep(rows: list[dict[str, Any]]) -> None:
    runs.append(FILE, rows, head())
    summarise()


def run(variant: Variant, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Train and score one variant in one thread; a row for it and one for each of its further embeddings."""
    os.chdir(REPOSITORY)
    name = f"{variant.method}-{variant.name}-{seed}"
    (folder / "logs").mkdir(exist_ok=True)
    with (folder / "logs" / f"{name}.txt").open("w") as log, contextlib.redirect_stdout(log):
        return _run(variant, seed, folder, name)


def _run(variant: Variant, seed: int, folder: Path, name: str) -> list[dict[str, Any]]:
    settings = changed(variant, seed)
    shards, checkpoints, summaries = (
        folder / "data" / "shards",
        folder / "checkpoints" / name,
        folder / "summaries" / name,
    )
    began = time.perf_counter()
    done = training.run(
        variant.method,
        parse(TrainConfig, settings["train"], "train"),
        shards=shards,
        checkpoints=checkpoints,
        cache=folder / "cache" / name,
        summaries=summaries,
    )
    seconds = time.perf_counter() - began
    rows = []
    for label, inference in {variant.name: {}, **variant.embeddings}.items():
        config_file = checkpoints / variant.method / "config.json"
        config = json.loads(config_file.read_text())
        config["config"] |= inference
        config_file.write_text(json.dumps(config))
        seal(config_file.parent)
        output = folder / "evaluation" / f"{variant.method}-{label}-{seed}"
        evaluation.run(
            parse(EvaluateConfig, settings["evaluate"], "evaluate"),
            variant.method,
            checkpoints / variant.method,
            shards / "images",
            shards / "captions",
            output,
            summaries,
        )
        tasks = json.loads((output / "metrics.json").read_text())["tasks"]
        rows.append(
            {
                "method": variant.method,
                "variant": label,
                "seed": seed,
                "steps": done["steps"],
                "seconds": round(seconds),
            }
            | {column: value_of(tasks, column)["value"] for column in COLUMNS}
            | {f"{column} chance": value_of(tasks, column)["chance"] for column in COLUMNS}
            | {f"{column} trivial": value for column, value in trivial(tasks).items()}
            | {f"{task} items": tasks[task]["items"] for task in METRICS}
        )
    return rows


def value_of(tasks: dict[str, Any], column: str) -> dict[str, float]:
    task, metric = column.split("/")
    return tasks[task]["metrics"][metric]


def trivial(tasks: dict[str, Any]) -> dict[str, float]:
    """What scores without a look at the region: a map high in the centre, and the most frequent adjective."""
    centre = {
        f"grounding/{metric}": score["baselines"]["centre heatmap"]
        for metric, score in tasks["grounding"]["metrics"].items()
    }
    return centre | {"region_retrieval/adjective_accuracy": tasks["region_retrieval"]["details"]["frequent_adjective"]}


def changed(variant: Variant, seed: int) -> dict[str, Any]:
    """The params with the variant's changes, one thread, and no resamples: intervals come from the seeds."""
    settings = copy.deepcopy(load_study(PARAMS, REPOSITORY / "params.yaml"))
    settings["train"]["engine"] |= {"seed": seed, "threads": 1, "num_workers": 0, "loader_workers": 0}
    entry = settings["train"]["methods"][variant.method]
    entry["model"] |= variant.model
    entry["training"] |= variant.training
    if variant.phases is not None:
        entry["training"]["phases"] = variant.phases
        entry["training"]["phase_order"] = list(variant.phases)
    settings["evaluate"]["bootstrap"]["samples"] = 2
    return settings


def summarise() -> None:
    pretraining_page.write(runs.read(FILE), COLUMNS, RESULTS / "pretraining.csv", RESULTS / "pretraining.md", head())


def head() -> str:
    return header("python benchmarks/pretraining.py WORK", last_commit(REPOSITORY, "models", "pipelines", "params"))


if __name__ == "__main__":
    command(main)

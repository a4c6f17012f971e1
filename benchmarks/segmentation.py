"""The methods that segment, their ablations, and the orders that the papers claim.

Reads   params/segmentation.yaml: data, models and phases; every variant below is a change to one of its entries
        RAW/qata_cov19 and RAW/kvasir_seg, as their publishers lay them out; without RAW the phantom alone
Writes  benchmarks/results/segmentation_runs.csv, a row a (method, variant, data, seed) as it ends; rows that are there
        are kept, so delete the file to start anew
        benchmarks/results/segmentation.csv, means over seeds, and segmentation.md, the page with the orders
        WORK: the data sets, checkpoints, scores and logs; a killed run goes on where it stopped
Run     python benchmarks/segmentation.py WORK [RAW [SEEDS [PROCESSES]]], with nothing else running on the host

Each data set is built by the stages, on its own. Variants of one data set have the same number of optimiser steps.
"""

import contextlib
import copy
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import runs
import segmentation_page
import yaml
from header import header, last_commit
from runs import REPOSITORY, RESULTS

from models import checkpoint, inference
from models.data.shards import ShardSet
from models.segmentation.batches import training_text
from pipelines.config import parse
from pipelines.evaluate import stage as evaluation
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.metrics import segmentation as metrics
from pipelines.params import load_study
from pipelines.registry import plugin
from pipelines.stage import command
from pipelines.train import stage as training
from pipelines.train.config import TrainConfig

PARAMS = REPOSITORY / "params" / "segmentation.yaml"
FILE = RESULTS / "segmentation_runs.csv"
TEXTS = ("own", "shuffled", "empty", "mask_derived")
METRICS = tuple(metrics.METRICS)
LATERALITY = ("laterality/retention", "laterality/suppression")
COLUMNS = [f"{text}/{metric}" for text in TEXTS for metric in METRICS]


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set at its size.

    Attributes:
        source: Name in params.
        image_size: Pixels.
        epochs: Passes over its training images.
    """

    source: str
    image_size: int
    epochs: int


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A change to a method's entry in the params.

    Attributes:
        method: Name of the entry.
        name: default, or the ablation's name.
        model: Settings of the model that differ.
    """

    method: str
    name: str = "default"
    model: dict[str, Any] = field(default_factory=dict)


PHANTOM = Data(source="phantom", image_size=64, epochs=7)
QATA = Data(source="qata_cov19", image_size=96, epochs=6)
REAL = (QATA, Data(source="kvasir_seg", image_size=96, epochs=6))
# What the first column of the results calls them.
TESTS = {"phantom": "phantom_test", "qata_cov19": "qata_test", "kvasir_seg": "kvasir_test"}

MAIN = tuple(Variant(method=method) for method in ("unet", "reclmis", "tmca"))
OTHERS = tuple(Variant(method=method) for method in ("lvit", "ariadne", "unetpp", "attention_unet", "swin_unetr"))
PUBLISHED = Variant(method="reclmis", name="published", model={"variant": "published"})
OFF = {"contrastive": False, "vision_reconstruction": False, "language_reconstruction": False}
UNCONDITIONED = {"contrastive_condition": False, "vision_condition": False, "language_condition": False}
ABLATIONS = (
    # Table III of paper 003: the default is row a.
    Variant(method="reclmis", name="no_language_reconstruction", model={"language_reconstruction": False}),
    Variant(method="reclmis", name="no_vision_reconstruction", model={"vision_reconstruction": False}),
    Variant(
        method="reclmis",
        name="no_reconstruction",
        model={"vision_reconstruction": False, "language_reconstruction": False},
    ),
    Variant(method="reclmis", name="no_interaction", model={"interaction": "none", **OFF}),
    # Table IV, and table V.
    Variant(method="reclmis", name="no_condition", model={"masking": "random", **UNCONDITIONED}),
    Variant(method="reclmis", name="self_interaction", model={"interaction": "self"}),
    PUBLISHED,
    # Tables 2 and 3 of paper 002.
    Variant(method="tmca", name="baseline", model={"tsdm": False, "ltem": False, "levels": []}),
    Variant(method="tmca", name="mcas", model={"tsdm": False, "ltem": False}),
    Variant(method="tmca", name="mcas_ltem", model={"tsdm": False}),
    Variant(method="tmca", name="levels_g", model={"levels": ["global"]}),
    Variant(method="tmca", name="levels_g_32", model={"levels": ["global", 32]}),
    Variant(method="tmca", name="levels_g_32_16", model={"levels": ["global", 32, 16]}),
    Variant(method="tmca", name="ltem_literal", model={"ltem_form": "literal"}),
    Variant(method="tmca", name="paper_weight", model={"contrastive_weight": 1.0}),
)

# Run with one seed: other methods, and what is no component: table V's reconstruction, figures 7 and 11.
ONCE = (
    *OTHERS,
    Variant(method="reclmis", name="self_reconstruction", model={"reconstruction": "self"}),
    Variant(method="reclmis", name="random_masking", model={"masking": "random"}),
    Variant(method="reclmis", name="layers_1", model={"layers": 1}),
    Variant(method="reclmis", name="layers_7", model={"layers": 7}),
)


def main(work: str, raw: str = "", seeds: str = "3", processes: str = "2") -> None:
    folder = Path(work).resolve()
    real = REAL if raw else ()
    for data in (PHANTOM, *real):
        build_data(folder / data.source, data, raw)
    done = {(row["method"], row["variant"], row["data"], int(row["seed"])) for row in runs.read(FILE)}
    planned = [(variant, data, seed) for seed in range(int(seeds)) for data, variant in studies(real, seed)]
    planned += [(variant, PHANTOM, 0) for variant in ONCE]
    waiting = {
        f"{variant.method} {variant.name} {data.source} {seed}": (variant, data, seed, folder)
        for variant, data, seed in planned
        if (variant.method, variant.name, TESTS[data.source], seed) not in done
    }
    runs.run_all(waiting, run, int(processes), keep)
    summarise()


def studies(real: tuple[Data, ...], seed: int) -> list[tuple[Data, Variant]]:
    """What one seed runs: ablations on the phantom alone, where they cost minutes, and Kvasir-SEG once."""
    found = [(data, variant) for data in real for variant in MAIN if seed == 0 or data is QATA]
    found += [(PHANTOM, variant) for variant in (*MAIN, *ABLATIONS)]
    # Which of the two is the default, real images are to say.
    return found + [(data, PUBLISHED) for data in real if data is QATA]


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
        phase["losses"] = list(_losses(variant.method, entry["model"]))
    settings["evaluate"] = {
        "tasks": {"segmentation": {}},
        "batch_size": settings["evaluate"]["batch_size"],
        "bootstrap": {"samples": 2, "seed": 0},
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
    (folder / "logs").mkdir(exist_ok=True)
    with (folder / "logs" / f"{name}.txt").open("w") as log, contextlib.redirect_stdout(log):
        return [_run(variant, data, seed, folder, name)]


def _run(variant: Variant, data: Data, seed: int, folder: Path, name: str) -> dict[str, Any]:
    settings = changed(variant, data, seed)
    shards, checkpoints, summaries = (
        folder / data.source / "data" / "shards",
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
    output = folder / "evaluation" / name
    evaluation.run(
        parse(EvaluateConfig, settings["evaluate"], "evaluate"),
        variant.method,
        checkpoints / variant.method,
        shards / "images",
        shards / "captions",
        output,
        summaries,
    )
    task = json.loads((output / "metrics.json").read_text())["tasks"]["segmentation"]
    found = {name: score["value"] for name, score in task["metrics"].items()}
    return {
        "method": variant.method,
        "variant": variant.name,
        "data": TESTS[data.source],
        "seed": seed,
        "steps": done["steps"],
        "seconds": round(seconds),
        "parameters": done["parameters"],
        "validation/dice_per_image": round(_on_validation(variant.method, checkpoints, shards), 6),
        **{column: found.get(column, "") for column in (*COLUMNS, *LATERALITY)},
        **{f"{text} items": task["details"]["items"].get(text, 0) for text in TEXTS},
        **{f"{column} constant": _chance(task, column) for column in COLUMNS},
    }


def _chance(task: dict[str, Any], column: str) -> float | str:
    return task["metrics"][column]["chance"] if column in task["metrics"] else ""


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


def keep(rows: list[dict[str, Any]]) -> None:
    runs.append(FILE, rows, head())
    summarise()


def summarise() -> None:
    segmentation_page.write(runs.read(FILE), COLUMNS, RESULTS / "segmentation.csv", RESULTS / "segmentation.md", head())


def head() -> str:
    return header(
        "python benchmarks/segmentation.py WORK RAW", last_commit(REPOSITORY, "models", "pipelines", "params")
    )


if __name__ == "__main__":
    command(main)

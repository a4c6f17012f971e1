"""Every method on every task, one seed: the phantom, or four real data sets, each score beside what needs no model.

Reads   params/pretraining.yaml and params/segmentation.yaml: the methods, with settings for two cores
        params.yaml, for the real sets params/real.yaml: data and tasks; tasks that they lack get their own defaults
        RAW/{qata_cov19,covid_chestxray,vqa_rad,kvasir_seg}, as their publishers lay them out; without RAW the phantom
Writes  benchmarks/results/matrix_phantom.csv or matrix_real.csv: the rows of a method as it ends; methods that have
        rows are not run again, so delete the file to start anew
        benchmarks/results/matrix.md, the page, from the rows of both files
        WORK/phantom or WORK/real: the data set, checkpoints, scores and logs; a killed run goes on where it stopped
Run     python benchmarks/matrix.py WORK [RAW], with nothing else running on the host
        --methods clip unet: these alone; --results FOLDER: rows and page there; --processes 1: one after the other
        --scores: score the checkpoints that WORK holds and train nothing, as after a change of a task; delete the rows
        --tiny: a few phantom images and one epoch of each phase; rows and page are written to WORK

Methods and tasks are those that are registered, so that a new one is in the next matrix. Each data set is built once
for all methods. A method is trained and scored in one thread, two side by side; those that segment, which take longest,
come first. A cell has scores, or the reason why it has none.
"""

import argparse
import contextlib
import copy
import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import matrix_page
import pandas as pd
import runs
import torch
import yaml
from header import header, last_commit
from matrix_rows import COLUMNS, rows_of, without_scores
from runs import REPOSITORY, RESULTS

from models import checkpoint
from models.data.shards import ShardSet
from pipelines.config import load_params, parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.scoring import ITEM_TABLE, METRICS, TEST, load_model, score_split
from pipelines.files import atomic_folder, atomic_path, read_output, read_summary
from pipelines.params import load_study
from pipelines.registry import names, plugin
from pipelines.stage import command

PARAMS, OVERLAYS = REPOSITORY / "params.yaml", REPOSITORY / "params"
PHANTOM, REAL = DATA = ("phantom", "real")
# What takes longest comes first, so that both processes end at about the same time.
SETTINGS = ("segmentation", "pretraining")
# Forecast from the rows of the pretraining and the segmentation study: two idle cores take less than 20 minutes for
# all methods on the phantom, and less than 50 on the real sets, whose test splits are whole.
PHANTOM_IMAGES = 900
LIMITS = {"qata_cov19": {"train": 800, "validation": 120}, "kvasir_seg": {"train": 400}}
PAGE = "matrix.md"
TINY_IMAGES, TINY_BATCH = 80, 4
NO_SETTINGS = "no settings: neither params/segmentation.yaml nor params/pretraining.yaml has an entry of this name"
NOT_TRAINED = "nothing of it is trained: it scores published weights, which a person brings (docs/methods.md)"


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python benchmarks/matrix.py", description="Every method on every task.")
    parser.add_argument("work", type=Path)
    parser.add_argument("raw", type=Path, nargs="?", help="folder of the four real data sets; without, the phantom")
    parser.add_argument("--methods", nargs="+", help="these alone")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--scores", action="store_true", help="of the checkpoints in WORK; nothing is trained")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(arguments)
    if options.tiny and options.raw:
        parser.error("--tiny is for the phantom: leave RAW out")
    data = REAL if options.raw else PHANTOM
    folder = (options.work / data).resolve()
    results = options.work.resolve() if options.tiny else options.results
    file = rows_file(results, data)
    done = done_of(file)
    waiting = [method for method in methods_to_run(options.methods) if method not in done]
    results.mkdir(parents=True, exist_ok=True)
    build_data(folder, data, options.raw, tiny=options.tiny)

    def keep(found: list[dict[str, Any]]) -> None:
        runs.append(file, found, head(data, scores=options.scores))
        write_page(results)

    for method in waiting:
        if (reason := why_not(method)) is not None:
            keep(without_scores(method, sorted(names("tasks")), reason))
    trained = [method for method in waiting if why_not(method) is None]
    named = {method: (method, data, folder, options.tiny, options.scores) for method in trained}
    print(f"{len(named)} methods", flush=True)
    runs.run_all(named, run, options.processes, keep)
    write_page(results)


def rows_file(results: Path, data: str) -> Path:
    return results / f"matrix_{data}.csv"


def done_of(file: Path) -> set[str]:
    """The methods that have rows.

    Raises:
        UserError: The rows are of another table, or of other tasks than those that are registered now.
    """
    rows = runs.read(file)
    if rows and (tuple(rows[0]) != COLUMNS or {row["task"] for row in rows} != set(names("tasks"))):
        raise UserError(f"{file} holds rows of other tasks or columns than there are now: delete it to start anew")
    return {row["method"] for row in rows}


@cache
def entries() -> dict[str, dict[str, Any]]:
    """Method -> its entry of `train.methods`, in the order in which they run; nobody changes them."""
    found: dict[str, dict[str, Any]] = {}
    for name in SETTINGS:
        found |= load_study(OVERLAYS / f"{name}.yaml", PARAMS)["train"]["methods"]
    known = names("methods")
    return {name: entry for name, entry in found.items() if name in known}


def why_not(method: str) -> str | None:
    """Why a method is not trained here; None: it is."""
    if method in entries():
        return None
    return NOT_TRAINED if getattr(plugin("methods", method), "losses", None) == () else NO_SETTINGS


def methods_to_run(chosen: list[str] | None) -> list[str]:
    """All registered methods, or those that are named, in the order in which they run.

    Raises:
        UserError: One is not registered.
    """
    known = sorted(names("methods"))
    if wrong := [name for name in chosen or () if name not in known]:
        raise UserError(f"'{wrong[0]}' is not one of the methods: choose from {', '.join(known)}")
    ordered = [*entries(), *(name for name in known if name not in entries())]
    return [name for name in ordered if chosen is None or name in chosen]


def params(data: str, *, tiny: bool = False) -> dict[str, Any]:
    """All sections, with the entries of all methods and with every registered task."""
    settings = load_study(OVERLAYS / "real.yaml", PARAMS) if data == REAL else load_params(PARAMS)
    if data == REAL:
        for source, limit in LIMITS.items():
            settings["ingest"]["sources"][source]["limit"] = limit
    else:
        settings["phantom"]["images"] = TINY_IMAGES if tiny else PHANTOM_IMAGES
    settings["train"]["methods"] = dict(entries())
    given = settings["evaluate"]["tasks"]
    settings["evaluate"]["tasks"] = {task: given.get(task, {}) for task in sorted(names("tasks"))}
    return settings


def settings_of(method: str, data: str, *, tiny: bool = False) -> dict[str, Any]:
    """The params with one method, one seed and one thread."""
    settings = params(data, tiny=tiny)
    settings["train"]["engine"] |= {"seed": 0, "threads": 1, "num_workers": 0, "loader_workers": 0}
    entry = copy.deepcopy(entries()[method])
    if tiny:
        for phase in entry["training"]["phases"].values():
            phase |= {"epochs": 1, "batch_size": TINY_BATCH}
    settings["train"]["methods"] = {method: entry}
    return settings


def build_data(folder: Path, data: str, raw: Path | None, *, tiny: bool) -> None:
    """The shards of a data set, by the stages themselves."""
    settings = params(data, tiny=tiny)
    sources = list(settings["ingest"]["sources"])
    (folder / "data" / "raw").mkdir(parents=True, exist_ok=True)
    if raw is not None:
        for source in sources:
            if not (raw / source).is_dir():
                raise UserError(f"{raw} has no folder {source}: give the folder that holds {', '.join(sources)}")
            with contextlib.suppress(FileExistsError):
                (folder / "data" / "raw" / source).symlink_to((raw / source).resolve())
    stages = [f"ingest {source}" for source in sources]
    stages += ["split", "proposals", "regions", "captions", "shards images", "shards captions"]
    runs.build_data(folder, yaml.safe_dump(settings, sort_keys=False), ["phantom", *stages] if raw is None else stages)


def run(method: str, data: str, folder: Path, tiny: bool, scores: bool) -> list[dict[str, Any]]:
    """Train a method and score it on the test split; what its tasks choose, they choose on the validation split.

    With `scores` it was trained before.
    """
    os.chdir(REPOSITORY)
    settings = settings_of(method, data, tiny=tiny)
    shards, evaluation = folder / "data/shards", folder / "evaluation" / method
    weights = folder / "checkpoints" / method / method
    # As training sets it; what is trained before has nothing else that does.
    torch.set_num_threads(1)
    with runs.logging_to(folder, method):
        summary = trained_before(folder, method) if scores else runs.train(method, method, settings, shards, folder)
        began = time.perf_counter()
        config = parse(EvaluateConfig, settings["evaluate"], "evaluate")
        split = ShardSet(shards / "images", shards / "captions", TEST)
        with atomic_folder(evaluation) as output:
            found = score_split(config, load_model(method, weights), split, output, scores_only=True)
        ended = time.perf_counter()
    took = {
        "parameters": summary["parameters"],
        "steps": summary["steps"],
        "seconds": round(summary["seconds"]),
        "scoring_seconds": round(ended - began),
    }
    excluded = {task: result.excluded for task, result in found.results.items()}
    tasks = read_output(evaluation / METRICS)["tasks"]
    cells = rows_of(method, tasks, excluded, found.evaluation_set.images, item_counts(evaluation))
    return [{**cell, **took} for cell in cells]


def trained_before(folder: Path, method: str) -> dict[str, Any]:
    """The summary of a training that ended in WORK.

    Raises:
        UserError: There is none, or its checkpoint is another one.
    """
    file = folder / "summaries" / method / f"train-{method}.json"
    summary = read_summary(file) if file.is_file() else {}
    weights = folder / "checkpoints" / method / method
    if not weights.is_dir() or checkpoint.digest(weights) != summary.get("checkpoint_sha256"):
        raise UserError(f"{method} was not trained in {folder}, or not to its end: leave --scores out")
    return summary


def item_counts(evaluation: Path) -> dict[tuple[str, str, str], int]:
    """Task, metric and source -> the rows of items.parquet."""
    columns = ["task", "metric", "source"]
    return dict(pd.read_parquet(evaluation / ITEM_TABLE, columns=columns).groupby(columns).size().items())


def write_page(results: Path) -> None:
    files = {data: rows for data in DATA if (rows := runs.read(rows_file(results, data)))}
    lines = matrix_page.page(files, sorted(names("methods")), sorted(names("tasks")))
    with atomic_path(results / PAGE) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def head(data: str, *, scores: bool) -> str:
    words = "python benchmarks/matrix.py WORK" + " RAW" * (data == REAL) + " --scores" * scores
    return header(words, last_commit(REPOSITORY, "models", "pipelines", "params", "params.yaml"))


if __name__ == "__main__":
    command(main)

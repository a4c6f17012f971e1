"""Published weights against the same methods from scratch, on the data of params/weights.yaml.

Reads   STUDY, a workspace of params/weights.yaml in which `make weights run` has ended: its params and shards, its
        scores, which are those of `pretrained` with seed 0, and the features of frozen encoders that it kept
Writes  benchmarks/results/weights_runs.csv, rows a (method, encoders, seed) as it ends; rows that are there are kept,
        so delete the file to start anew
        benchmarks/results/weights_cache.csv, one training without kept features, with none kept yet, and with all kept
        benchmarks/results/weights.md, the page
        WORK: checkpoints, scores and logs; a killed run goes on where it stopped
Run     python benchmarks/record.py weights STUDY
        python benchmarks/weights.py WORK STUDY [PROCESSES], with nothing else running on the host
        python benchmarks/weights.py WORK STUDY --tiny tries it on one variant and one epoch; all is written to WORK

`pretrained` is the params' entry: DINOv2-S and MiniLM, frozen. `scratch` has small encoders in their place, and learns
them with the rest; data, losses and epochs are the same. The methods that segment have three seeds, the others one.
"""

import copy
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import runs
import weights_page
from header import header, last_commit
from runs import REPOSITORY, RESULTS

from models import checkpoint
from pipelines.config import load_params, parse
from pipelines.errors import UserError
from pipelines.files import read_summary
from pipelines.stage import command
from pipelines.train import engine
from pipelines.train import stage as training
from pipelines.train.config import TrainConfig

SEGMENTING = ("unet", "reclmis", "tmca")
PRETRAINING = ("clip", "siglip", "regionmed_clip", "plan", "gloria")
SEEDS = 3
# What the measurement of kept features trains.
CACHED = "clip"

IMAGES: dict[str, Any] = {
    "architecture": {
        "model_type": "vit",
        "image_size": 224,
        "patch_size": 16,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
    },
    "convolutional_stem": True,
    "pooling": "mean",
}
TEXTS: dict[str, Any] = {
    "architecture": {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 128,
    },
    "pooling": "mean",
}
CONVNEXT: dict[str, Any] = {
    "architecture": {"model_type": "convnext", "hidden_sizes": [24, 48, 96, 192], "depths": [1, 1, 2, 1]}
}
# What takes the place of an entry's settings; a method that segments has its own encoder of images.
SCRATCH: dict[str, dict[str, Any]] = {
    **{method: {"image_encoder": IMAGES, "text_encoder": TEXTS} for method in PRETRAINING},
    # Its windows have 56 pixels, which must be whole patches.
    "regionmed_clip": {
        "image_encoder": IMAGES | {"architecture": IMAGES["architecture"] | {"patch_size": 8}},
        "text_encoder": TEXTS,
    },
    "unet": {"image_encoder": None},
    "reclmis": {"image_encoder": None, "text_encoder": TEXTS},
    "tmca": {"image_encoder": CONVNEXT, "text_encoder": TEXTS, "pyramid_widths": None},
}

Run = tuple[str, str, int]


def plan() -> list[Run]:
    """Method, encoders and seed of each run beside the study's own, those first whose loss would cost most."""
    once = [(method, "scratch", 0) for method in (*SEGMENTING, *PRETRAINING)]
    others = [
        (method, encoders, seed)
        for seed in range(1, SEEDS)
        for method in SEGMENTING
        for encoders in ("scratch", "pretrained")
    ]
    return [*once, *others]


def main(work: str, study: str, processes: str = "2") -> None:
    folder, workspace = Path(work).resolve(), Path(study).resolve()
    if not (workspace / "data" / "shards" / "captions").is_dir():
        raise UserError(f"{workspace} holds no shards: run `make weights run` there first")
    tiny = processes == "--tiny"
    results = folder if tiny else RESULTS
    (folder / "cache").mkdir(parents=True, exist_ok=True)
    (workspace / "data" / "cache" / "features").mkdir(parents=True, exist_ok=True)
    runs.link(folder / "cache", workspace / "data" / "cache", "features")
    cache = results / "weights_cache.csv"
    if not cache.exists():
        runs.run_all(
            {"cache": (folder, workspace, tiny)}, measure_cache, 1, lambda rows: runs.append(cache, rows, head())
        )
    file = results / "weights_runs.csv"
    done = {(row["method"], row["encoders"], int(row["seed"])) for row in runs.read(file)}
    for method in (*SEGMENTING, *PRETRAINING):
        if (method, "pretrained", 0) not in done:
            runs.append(file, of_study(workspace, method), head())
    waiting = [one for one in ([("unet", "scratch", 0)] if tiny else plan()) if one not in done]
    named = {" ".join(map(str, one)): (*one, folder, workspace, tiny) for one in waiting}
    print(f"{len(waiting)} runs", flush=True)
    runs.run_all(named, run, 1 if tiny else int(processes), lambda rows: runs.append(file, rows, head()))
    weights_page.write(results, RESULTS)


def settings_of(workspace: Path, method: str, encoders: str, seed: int, *, tiny: bool) -> dict[str, Any]:
    """The study's params with one thread, and the encoders from scratch where that is asked for."""
    settings = copy.deepcopy(load_params(workspace / "params.yaml"))
    settings["train"]["engine"] |= {"seed": seed, "threads": 1, "num_workers": 0, "loader_workers": 0}
    entry = settings["train"]["methods"][method]
    if encoders == "scratch":
        entry["model"] |= SCRATCH[method]
        entry["training"]["vocabulary_size"] = 1000
    if tiny:
        for phase in entry["training"]["phases"].values():
            phase["epochs"] = 1
    return settings


def run(method: str, encoders: str, seed: int, folder: Path, workspace: Path, tiny: bool) -> list[dict[str, Any]]:
    """Train and score one variant in one thread: a row for each score, of all test images and of each source."""
    # The params name the weights' folders from there.
    os.chdir(workspace)
    name = f"{method}-{encoders}-{seed}"
    settings = settings_of(workspace, method, encoders, seed, tiny=tiny)
    with runs.logging_to(folder, name):
        found = runs.train_and_score(name, method, settings, workspace / "data" / "shards", folder)
    return _rows((method, encoders, seed), found.summary, found.seconds, found.scoring_seconds, found.tasks)


def of_study(workspace: Path, method: str) -> list[dict[str, Any]]:
    """The rows of the study's own run of an entry."""
    data = workspace / "data"
    trained, scored = (read_summary(data / "summaries" / f"{stage}-{method}.json") for stage in ("train", "evaluate"))
    tasks = json.loads((data / "evaluation" / method / "metrics.json").read_text())["tasks"]
    return _rows((method, "pretrained", 0), trained, round(trained["seconds"]), round(scored["seconds"]), tasks)


def _rows(
    one: Run, summary: dict[str, Any], seconds: int, scoring_seconds: int, tasks: dict[str, Any]
) -> list[dict[str, Any]]:
    about = {
        **dict(zip(("method", "encoders", "seed"), one, strict=True)),
        "parameters": summary["parameters"],
        "steps": summary["steps"],
        "seconds": seconds,
        "scoring_seconds": scoring_seconds,
        "peak_memory_mb": summary["peak_memory_mb"],
    }
    return [about | score for score in weights_page.scores_of(tasks)]


def measure_cache(folder: Path, workspace: Path, tiny: bool) -> list[dict[str, Any]]:
    """Train one entry thrice in one thread: the weights are the same whether or not features are kept.

    With a quarter of the epochs, for without kept features each takes minutes.
    """
    os.chdir(workspace)
    settings = settings_of(workspace, CACHED, "pretrained", 0, tiny=tiny)["train"]
    for phase in settings["methods"][CACHED]["training"]["phases"].values():
        phase["epochs"] = -(-phase["epochs"] // 4)
    config = parse(TrainConfig, settings, "train")
    features, rows = folder / "cached" / "cache" / "features", []
    keep = engine.keep_features
    for kept in ("not kept", "none kept yet", "all kept"):
        engine.keep_features = keep if kept != "not kept" else lambda model, place: None
        checkpoints = folder / "cached" / "checkpoints" / kept.replace(" ", "_")
        began = time.perf_counter()
        with runs.logging_to(folder, f"cache-{kept.replace(' ', '-')}"):
            summary = training.run(
                CACHED,
                config,
                shards=workspace / "data" / "shards",
                checkpoints=checkpoints,
                cache=folder / "cached" / "cache" / "train",
                summaries=folder / "summaries" / f"cache-{kept.replace(' ', '_')}",
            )
        rows.append(
            {
                "method": CACHED,
                "features": kept,
                "images": summary["ok"],
                "steps": summary["steps"],
                "seconds": round(time.perf_counter() - began, 1),
                "stored_mb": round(sum(file.stat().st_size for file in features.glob("*")) / 1e6, 1),
                "checkpoint_sha256": checkpoint.digest(checkpoints / CACHED),
            }
        )
        shutil.rmtree(folder / "cached" / "cache" / "train", ignore_errors=True)
    return rows


def head() -> str:
    return header("python benchmarks/weights.py WORK STUDY", last_commit(REPOSITORY, "models", "pipelines", "params"))


if __name__ == "__main__":
    command(main)

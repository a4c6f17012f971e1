"""What the benchmarks of trained variants share: data by the stages, rows written as they end, runs side by side."""

import contextlib
import csv
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate import stage as evaluation
from pipelines.evaluate.config import EvaluateConfig
from pipelines.files import atomic_path
from pipelines.train import stage as training
from pipelines.train.config import TrainConfig

REPOSITORY = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def build_data(folder: Path, params: str, stages: Sequence[str]) -> None:
    """Run some stages in a folder of their own; a stage that is through is not run again."""
    (folder / "data" / "raw").mkdir(parents=True, exist_ok=True)
    link(folder, REPOSITORY, "pipelines", "models", "prompts", "keys")
    (folder / "params.yaml").write_text(params, encoding="utf-8")
    (folder / "data" / "review.jsonl").touch()
    (folder / "data" / "audit.jsonl").touch()
    # The fingerprints that the stages ask for.
    subprocess.run([sys.executable, "-m", "pipelines.code"], cwd=folder, check=True)
    for stage in stages:
        through = folder / f"{stage.replace(' ', '-')}.through"
        if not through.exists():
            module, *arguments = stage.split()
            subprocess.run([sys.executable, "-m", f"pipelines.{module}", *arguments], cwd=folder, check=True)
            through.touch()


@dataclass(frozen=True, kw_only=True)
class Took:
    """What a command took.

    Attributes:
        seconds: Of the clock.
        processor_seconds: Of it and the processes that it waited for.
        output: What it printed on standard output.
    """

    seconds: float
    processor_seconds: float
    output: str


def timed(study: Path, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Took:
    """Run Python with some arguments in a study; a command that fails ends the benchmark, with its last lines.

    Through a shell, which has little memory: the kernel counts that of a process for those that it starts.
    """
    through_shell = ["/bin/sh", "-c", '"$@"; exit $?', "sh", sys.executable, *arguments]
    began = time.perf_counter()
    with (study / "output.txt").open("w+") as output, (study / "log.txt").open("w+") as log:
        process = subprocess.Popen(through_shell, cwd=study, env=environment, stdout=output, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        log.seek(0)
        if process.returncode:
            raise UserError(f"{' '.join(arguments)} in {study}: exit {process.returncode}\n{log.read()[-2000:]}")
        return Took(seconds=seconds, processor_seconds=usage.ru_utime + usage.ru_stime, output=output.read())


def link(study: Path, checkout: Path, *names: str) -> None:
    """Let a study find folders of a checkout under their names; those that are there stay."""
    for name in names:
        with contextlib.suppress(FileExistsError):
            (study / name).symlink_to(checkout / name)


def read(file: Path) -> list[dict[str, str]]:
    """The rows so far."""
    if not file.exists():
        return []
    return list(csv.DictReader(line for line in file.read_text(encoding="utf-8").splitlines() if line[0] != "#"))


def append(file: Path, rows: Sequence[dict[str, Any]], head: str) -> None:
    text = file.read_text(encoding="utf-8") if file.exists() else head
    with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(text)
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        if text == head:
            writer.writeheader()
        writer.writerows(rows)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What training and scoring one variant gave.

    Attributes:
        summary: Of its training.
        tasks: Results of its tasks on the test split, as in metrics.json.
        seconds: Of its training.
        scoring_seconds: Of scoring both splits.
        evaluation: Folder of the results.
    """

    summary: dict[str, Any]
    tasks: dict[str, Any]
    seconds: int
    scoring_seconds: int
    evaluation: Path


def train(name: str, method: str, settings: dict[str, Any], shards: Path, folder: Path) -> dict[str, Any]:
    """Train an entry of the params as the stage does, into `checkpoints/<name>/<method>`; its summary.

    Args:
        name: Of the variant, for its files.
        method: Of the entry.
        settings: The params.
        shards: Folder of the shards.
        folder: Of checkpoints, summaries and caches.
    """
    return training.run(
        method,
        parse(TrainConfig, settings["train"], "train"),
        shards=shards,
        checkpoints=folder / "checkpoints" / name,
        cache=folder / "cache" / name,
        summaries=folder / "summaries" / name,
    )


def train_and_score(name: str, method: str, settings: dict[str, Any], shards: Path, folder: Path) -> Trained:
    """Train an entry of the params and score it, as the stages do; arguments as of `train`."""
    began = time.perf_counter()
    summary = train(name, method, settings, shards, folder)
    trained = time.perf_counter()
    evaluation_folder = folder / "evaluation" / name
    evaluation.run(
        parse(EvaluateConfig, settings["evaluate"], "evaluate"),
        method,
        folder / "checkpoints" / name / method,
        shards / "images",
        shards / "captions",
        evaluation_folder,
        folder / "summaries" / name,
    )
    return Trained(
        summary=summary,
        tasks=json.loads((evaluation_folder / "metrics.json").read_text())["tasks"],
        seconds=round(trained - began),
        scoring_seconds=round(time.perf_counter() - trained),
        evaluation=evaluation_folder,
    )


@contextlib.contextmanager
def logging_to(folder: Path, name: str) -> Iterator[None]:
    """What is printed within it goes to a file of this name."""
    (folder / "logs").mkdir(exist_ok=True)
    with (folder / "logs" / f"{name}.txt").open("w") as log, contextlib.redirect_stdout(log):
        yield


def run_all(
    waiting: dict[str, tuple[Any, ...]],
    run: Callable[..., list[dict[str, Any]]],
    processes: int,
    keep: Callable[[list[dict[str, Any]]], None],
) -> None:
    """Call `run` for each entry in a process of its own; `keep` gets its rows as it ends.

    Raises:
        UserError: Some runs failed; the others were kept.
    """
    failed = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=spawn, max_tasks_per_child=1) as pool:
        running = {pool.submit(run, *arguments): name for name, arguments in waiting.items()}
        for number, ended in enumerate(as_completed(running), start=1):
            if error := ended.exception():
                failed.append(f"{running[ended]}: {error}")
                print(failed[-1], flush=True)
                continue
            keep(ended.result())
            print(f"{number} of {len(waiting)}: {running[ended]}", flush=True)
    if failed:
        raise UserError("; ".join(failed))

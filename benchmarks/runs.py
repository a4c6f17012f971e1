"""What the benchmarks of trained variants share: data by the stages, rows written as they end, runs side by side."""

import contextlib
import csv
import multiprocessing
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from pipelines.errors import UserError
from pipelines.files import atomic_path

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

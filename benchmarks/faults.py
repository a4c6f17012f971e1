"""Faults on purpose: kills, bad disks, turned bits, hostile inputs, bad servers. At most 75 minutes on 2 cores.

Writes  benchmarks/results/faults.csv, a row a trial as it ends, and faults_summary.md, made from it; a trial that has a
        row is not run again, so delete its row, or the file, to try anew
Keeps   build/faults/: the study of 40 images that the trials copy, corpora and findings of the fuzzing
Run     PYTHONPATH=. python benchmarks/faults.py
        --only KIND    kill, kill_flow, disk, flip, fuzz or requests
        --trials N     at most N trials of each stage of a kind, and little in each: to see that it works
        --minutes M    start nothing that would end later (default 75)

Kinds, and what is promised: benchmarks/fault_parts/, a module each. Fuzzing by coverage runs in `.fuzz`, an environment
that this makes from the extra `fuzz`. Mounts need a superuser or user namespaces; without, these trials are left out.
"""

import argparse
import functools
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from fault_parts import caption_requests, disk, flips, fuzz, kills, workspace
from fault_parts.summary import summary
from fault_parts.trials import Row
from header import header, last_commit
from runs import RESULTS, append, read

logger = logging.getLogger(__name__)

ROOT = workspace.ROOT
KINDS = ("kill", "kill_flow", "disk", "flip", "fuzz", "requests")
PROCESSES = 2
REQUESTS = 20_000
FLOW_TRIALS = {"tracking": 14, "promote": 12, "rebuild": 8, "repro caption_shards": 10, "repro evaluate@clip": 8}
# Seconds of each trial of fuzzing, and how many of them each target gets.
FUZZ_SECONDS = {"atheris": 190, "hypothesis": 60}
FUZZ_TRIALS = {"atheris": 1, "hypothesis": 1}
FUZZ_INPUTS = 300_000


@dataclass(frozen=True)
class Planned:
    """A trial that is still to run.

    Attributes:
        group: Kind as `--only` knows it.
        name: Kind and stage for the log.
        key: Stage and number; with the group, what tells a trial that has a row.
        seconds: What it may take.
        run: The trial, given a folder of its own.
    """

    group: str
    name: str
    key: tuple[str, int]
    seconds: float
    run: Callable[[Path], Row]


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    for name in ("pipelines", "models"):
        logging.getLogger(name).setLevel(logging.ERROR)
    work = arguments.work / _code_digest()
    work.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * arguments.minutes
    study = work / "study"
    logger.info("the study: %s", workspace.build(study))
    planned = plan(study, work, arguments.trials)
    done = {(group_of(row["kind"]), row["stage"], int(row["trial"])) for row in read(arguments.output)}
    waiting = [one for one in planned if arguments.only in (None, one.group) and (one.group, *one.key) not in done]
    logger.info("%d trials, %d of them done", len(planned), len(planned) - len(waiting))
    if any(one.group == "fuzz" for one in waiting):
        fuzz.environment()
    head = header("PYTHONPATH=. python benchmarks/faults.py", last_commit(ROOT))

    def keep(row: Row) -> None:
        append(arguments.output, [row.cells()], head)
        page = arguments.output.with_name(f"{arguments.output.stem}_summary.md")
        page.write_text(summary(read(arguments.output), arguments.output.name), encoding="utf-8")

    left = run_all(waiting, work, end, keep)
    if left:
        sys.exit(f"error: {left} trials are left, for the time is over: run it again")


def plan(study: Path, work: Path, trials: int | None) -> list[Planned]:
    """All trials, those first that take longest."""
    small = trials is not None

    def count(full: int) -> range:
        return range(min(full, trials) if trials is not None else full)

    planned = [
        Planned(
            "requests",
            "captions",
            ("captions", 0),
            600,
            lambda _: caption_requests.trial(Path(tempfile.mkdtemp(dir=work)), 0, 500 if small else REQUESTS),
        )
    ]
    for engine, seconds in FUZZ_SECONDS.items():
        for number in count(FUZZ_TRIALS[engine]):
            for target in fuzz.TARGETS:
                planned.append(_fuzz(target, engine, work, number, 10 if small else seconds))
    for killed in kills.flow_kills():
        for number in count(FLOW_TRIALS[killed.name]):
            planned.append(_kill(killed, study, number, 90))
    for killed in kills.stage_kills():
        for number in count(7):
            planned.append(_kill(killed, study, number, 25))
    for way in disk.ways():
        for stage in disk.stages(way):
            for number in count(2 if way in ("file_size_limit", "full_data") else 1):
                run = functools.partial(_disk, way, stage, study, number)
                planned.append(Planned("disk", f"{way} {stage.name}", (f"{stage.name}, {way}", number), 25, run))
    planned += _flips(study, work, count)
    return planned


def _fuzz(target: str, engine: str, work: Path, number: int, seconds: float) -> Planned:
    def run(_: Path) -> Row:
        return fuzz.trial(target, engine, work / "fuzz", number, FUZZ_INPUTS, seconds)

    stage = f"{target} by {engine}"
    return Planned("fuzz", stage, (stage, number), seconds + 30, run)


def _kill(killed: kills.Killed, study: Path, number: int, seconds: float) -> Planned:
    def run(scratch: Path) -> Row:
        return kills.trial(killed, _study_of(killed, study), scratch, number)

    return Planned(killed.kind, killed.name, (killed.name, number), seconds, run)


def _study_of(killed: kills.Killed, study: Path) -> Path:
    return study if killed.kind == "kill" else kills.with_dvc(study, study.with_name("study_dvc"))


def _disk(way: str, stage: workspace.Stage, study: Path, number: int, scratch: Path) -> Row:
    return disk.trial(way, stage, study, scratch, number)


def _flips(study: Path, work: Path, count: Callable[[int], range]) -> list[Planned]:
    making = threading.Lock()
    made: list[flips.Readers] = []

    def readers() -> flips.Readers:
        """The readers with the study that they turn bits of, made once by the first of the threads."""
        with making:
            if not made:
                shutil.rmtree(work / "flips", ignore_errors=True)
                made.append(flips.Readers(flips.prepare(study, work / "flips")))
        return made[0]

    planned = []
    for kind in flips.KINDS:
        for number in count(40):
            run = functools.partial(lambda kind, number, _: readers().trial(kind, number), kind, number)
            planned.append(Planned("flip", f"reading {kind.name}", (f"reading {kind.name}", number), 2, run))
    for number in count(24):
        run = functools.partial(lambda number, scratch: flips.stage_trial(study, scratch, number), number)
        planned.append(Planned("flip", "a stage", (flips.stage_of(number), number), 20, run))
    for number in count(6):
        run = functools.partial(lambda number, scratch: _dvc_flip(study, scratch, number), number)
        planned.append(Planned("flip", "DVC's cache", (flips.VERIFY, number), 15, run))
    return planned


def _dvc_flip(study: Path, scratch: Path, number: int) -> Row:
    return flips.dvc_trial(kills.with_dvc(study, study.with_name("study_dvc")), scratch, number)


def run_all(waiting: list[Planned], work: Path, end: float, keep: Callable[[Row], None]) -> int:
    """Run trials, two at a time; how many were left because the time is over."""
    left, number = list(waiting), 0
    running: dict[Future[Row], Planned] = {}
    with ThreadPoolExecutor(PROCESSES) as pool:
        while left or running:
            while len(running) < PROCESSES and (one := _next(left, running, end)) is not None:
                running[pool.submit(_run, one, work)] = one
            if not running:
                break
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                number += 1
                one = running.pop(ended)
                row = ended.result()
                keep(row)
                logger.info("%d of %d: %s: %s; %s", number, len(waiting), one.name, row.outcome, row.detail[:200])
    return len(left)


def _next(left: list[Planned], running: dict[Future[Row], Planned], end: float) -> Planned | None:
    """The first trial that ends in time and whose stage is not under way: two would share a corpus."""
    busy = {(one.group, one.key[0]) for one in running.values()}
    for one in left:
        if time.monotonic() + one.seconds <= end and (one.group, one.key[0]) not in busy:
            left.remove(one)
            return one
    return None


def _run(one: Planned, work: Path) -> Row:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=work, prefix="trial-", ignore_cleanup_errors=True) as scratch:
        try:
            return one.run(Path(scratch))
        # Whatever it is, the other trials must run. The row says what.
        except Exception as error:
            logger.exception(one.name)
            return Row(
                kind=one.group,
                stage=one.key[0],
                trial=one.key[1],
                outcome="not tried",
                equal_bytes=False,
                left_overs=0,
                seconds=time.monotonic() - begun,
                detail=f"{type(error).__name__}: {error}",
            )


def group_of(kind: str) -> str:
    """The kind as `--only` knows it, for the kind of a row."""
    return {unhurt: group for group, unhurt in kills.UNHURT.items()}.get(kind, kind)


def _code_digest() -> str:
    """Of all code: a study of other code than the present would be refused by its fingerprints."""
    digest = hashlib.sha256()
    for folder in ("flows", "models", "pipelines", "benchmarks/fault_parts", "prompts"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".j2", ".css", ".txt"):
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--trials", type=int)
    parser.add_argument("--minutes", type=float, default=75)
    parser.add_argument("--output", type=Path, default=RESULTS / "faults.csv")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "faults")
    arguments = parser.parse_args()
    if arguments.trials is not None and arguments.output == parser.get_default("output"):
        parser.error("--trials gives no results: name another --output")
    return arguments


if __name__ == "__main__":
    os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", tempfile.gettempdir())
    main()

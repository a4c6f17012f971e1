"""What the models reach on a GPU, as one command that ends within 9 minutes. benchmarks/gpu.md says how to run it.

Reads   QATA, the file that benchmarks/pack_qata.py wrote (without it, segmentation is not run)
        WEIGHTS, the folder that benchmarks/pack_weights.py wrote (without a model's weights, it is not run)
Writes  OUTPUT (benchmarks/results/gpu.csv), the rows of an item as it ends; an item that has rows is not run again, so
        delete its rows, or the file, to measure it anew
Run     PYTHONPATH=. python benchmarks/gpu.py --qata QATA --weights WEIGHTS --commit COMMIT, with nothing else
        running on the host
        --dry-run   print the items, their time boxes and what must travel, and run nothing
        --small     all items on a CPU within seconds: to see that they work, no result

It imports `models`, torch, transformers, numpy, pillow and safetensors. Each item is a process of its own and is ended
when its time box is over. A row `status` says of an item that it failed, or was not run because something is missing.
"""

import argparse
import csv
import functools
import importlib.util
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from gpu_parts import launchers, pretraining, proposals, published, segmentation
from gpu_parts.context import Context, Measure, Measures, device_name
from header import header, last_commit

logger = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("part", "item", "setting", "measure", "value", "unit", "device", "torch", "transformers", "commit")
LIMIT_SECONDS = 540
LIMIT_BYTES = 60 * 10**6


@dataclass(frozen=True, kw_only=True)
class Item:
    """What is measured together.

    Attributes:
        part: pretraining, segmentation, proposals, published or launchers.
        name: Of the item.
        seconds: Its time box, from its start to its rows.
        measure: What measures it.
        packages: Those that it needs beside the ones that everything here needs.
        needs_qata: Whether it needs the packed data.
        needs_weights: Whether it needs packed weights, which lie in a folder of its name.
    """

    part: str
    name: str
    seconds: int
    measure: Callable[[Context], Measures]
    packages: tuple[str, ...] = ()
    needs_qata: bool = False
    needs_weights: bool = False


def items() -> list[Item]:
    """In the order of their worth."""
    found = [Item(part="pretraining", name="matmul", seconds=10, measure=pretraining.measure_matmul)]
    for compiled, boxes in ((False, (25, 30, 30)), (True, (40, 45, 45))):
        for method, seconds in zip(pretraining.METHODS, boxes, strict=True):
            measure = functools.partial(pretraining.measure, name=method, compiled=compiled)
            name = f"{method}_compiled" if compiled else method
            found.append(Item(part="pretraining", name=name, seconds=seconds, measure=measure))
    for method in segmentation.METHODS:
        measure = functools.partial(segmentation.measure, name=method)
        found.append(Item(part="segmentation", name=method, seconds=72, measure=measure, needs_qata=True))
    found += [
        Item(part="proposals", name="grounding_dino", seconds=20, measure=proposals.grounding_dino),
        Item(part="proposals", name="medsam", seconds=16, measure=proposals.medsam),
    ]
    for name, measure in zip(published.NAMES, (published.lite_medsam, published.dinov2_small), strict=True):
        found.append(Item(part="published", name=name, seconds=12, measure=measure, needs_weights=True))
    found += [
        Item(part="launchers", name="torchrun", seconds=25, measure=launchers.torchrun),
        Item(part="launchers", name="ray_train", seconds=12, measure=launchers.ray_train, packages=("ray",)),
    ]
    return found


def main() -> None:
    arguments = _arguments()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    if arguments.dry_run:
        dry_run(arguments.qata, arguments.weights)
        return
    # Asked for in a process of its own: one that has used a GPU cannot start others by forking.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        name = pool.submit(_device_name, arguments.device).result()
    if name is None:
        sys.exit("error: torch finds no GPU here; --small runs all items on a CPU")
    stamp = (name, torch.__version__, transformers.__version__, arguments.commit)
    done = _begin(arguments.output, stamp)
    with tempfile.TemporaryDirectory() as folder:
        for item in items():
            if (item.part, item.name) in done:
                continue
            reason = missing(item, arguments.qata, arguments.weights, small=arguments.small)
            if reason is not None:
                append(arguments.output, item, [("", "status", f"not run: needs {reason}", "")], stamp)
                continue
            run_item(item, arguments, Path(folder), stamp)


def run_item(item: Item, arguments: argparse.Namespace, work: Path, stamp: Sequence[str]) -> None:
    """Run an item in a process of its own, and end it when its time box is over."""
    logger.info("%s %s, at most %d s", item.part, item.name, item.seconds)
    process = multiprocessing.get_context("fork").Process(target=_run, args=(item, arguments, work, stamp))
    process.start()
    # On a CPU of any speed no item may be cut off: that is no measurement.
    process.join(None if arguments.small else item.seconds)
    reason = None
    if process.exitcode is None:
        _stop(process)
        reason = f"failed: not done within {item.seconds} s"
    elif process.exitcode != 0:
        reason = f"failed: its process ended with {process.exitcode}"
    if reason is not None:
        append(arguments.output, item, [("", "status", reason, "")], stamp)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qata", type=Path, help="the packed data")
    parser.add_argument("--weights", type=Path, help="the folder of packed weights")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "gpu.csv")
    parser.add_argument("--commit", help="for the rows, where there is no git; default: the last one")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--dry-run", action="store_true")
    arguments = parser.parse_args()
    if arguments.small and arguments.output == parser.get_default("output") and not arguments.dry_run:
        parser.error("--small gives no results: name another --output")
    if not arguments.dry_run:
        arguments.commit = arguments.commit or last_commit(ROOT, "models", "benchmarks")
    arguments.device = "cpu" if arguments.small else "cuda"
    return arguments


def dry_run(qata: Path | None, weights: Path | None) -> None:
    """Print what would run, and what must travel, in how many journeys."""
    for item in items():
        needs = [*item.packages, *(["QATA"] if item.needs_qata else []), *(["WEIGHTS"] if item.needs_weights else [])]
        print(f"{item.seconds:4d} s  {item.part:12s} {item.name:24s}{'needs ' + ', '.join(needs) if needs else ''}")
    total = sum(item.seconds for item in items())
    print(f"{total:4d} s  sum of the time boxes; limit {LIMIT_SECONDS} s")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    repository = sum((ROOT / name).stat().st_size for name in names if name and (ROOT / name).is_file())
    print(f"{repository / 1e6:6.1f} MB  repository, in every journey")
    carried = [("packed data", qata, "--qata")]
    for name in published.NAMES:
        file = None if weights is None else weights / name / published.WEIGHTS
        carried.append((f"weights {name}", file, "--weights"))
    sizes = {}
    for name, file, option in carried:
        if file is None or not file.is_file():
            print(f"   ?   MB  {name}: give {option}")
            continue
        sizes[name] = file.stat().st_size
        print(f"{sizes[name] / 1e6:6.1f} MB  {name}")
    for number, together in enumerate(journeys(sizes, repository), start=1):
        size = (repository + sum(sizes[name] for name in together)) / 1e6
        print(f"{size:6.1f} MB  journey {number}: {', '.join(['repository', *together])}")
    print(f"{LIMIT_BYTES / 1e6:6.1f} MB  limit of a journey, wheels included")
    if total >= LIMIT_SECONDS or any(repository + size > LIMIT_BYTES for size in (0, *sizes.values())):
        sys.exit("error: over a limit")


def journeys(sizes: Mapping[str, int], repository: int) -> list[list[str]]:
    """Which files travel together, in their order, as many at a time as the limit lets pass; at least one journey."""
    found: list[list[str]] = [[]]
    for name, size in sizes.items():
        if found[-1] and repository + sum(sizes[other] for other in found[-1]) + size > LIMIT_BYTES:
            found.append([])
        found[-1].append(name)
    return found


def missing(item: Item, qata: Path | None, weights: Path | None, *, small: bool) -> str | None:
    """What an item needs and does not find; None where it has all."""
    for package in item.packages:
        if importlib.util.find_spec(package) is None:
            return package
    if item.needs_qata and not small and (qata is None or not qata.is_file()):
        return "the packed data (--qata)"
    if item.needs_weights and not small and (weights is None or not (weights / item.name).is_dir()):
        return "its packed weights (--weights)"
    return None


def append(output: Path, item: Item, rows: Sequence[Measure], stamp: Sequence[str]) -> None:
    """Write the rows of an item, in one piece."""
    formatted = [
        (setting, measure, f"{value:.5g}" if isinstance(value, int | float) else value, unit)
        for setting, measure, value, unit in rows
    ]
    with output.open("a", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows((item.part, item.name, *row, *stamp) for row in formatted)
    for row in formatted:
        logger.info("%s %s: %s", item.part, item.name, " ".join(filter(None, row)))


def _run(item: Item, arguments: argparse.Namespace, work: Path, stamp: Sequence[str]) -> None:
    # A group of its own, so that the processes of a loader end with it.
    os.setsid()
    context = Context(
        device=torch.device(arguments.device),
        small=arguments.small,
        work=work,
        qata=arguments.qata,
        weights=arguments.weights,
        seconds=item.seconds,
    )
    if arguments.small:
        torch.set_num_threads(1)
    try:
        rows = list(item.measure(context))
    # Whatever it is, the other items must run: no second try may be left on a borrowed machine. The row says what.
    except Exception as error:
        logger.exception("%s %s", item.part, item.name)
        message = str(error).strip().partition("\n")[0]
        rows = [("", "status", f"failed: {type(error).__name__}: {message}", "")]
    append(arguments.output, item, rows, stamp)


def _stop(process: multiprocessing.process.BaseProcess) -> None:
    """End a process and those that it started; torchrun ends its own when it is asked to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.is_alive() and process.pid is not None:
            os.killpg(process.pid, number)
            process.join(2)


def _device_name(device: str) -> str | None:
    """None where torch finds no GPU."""
    return None if device == "cuda" and not torch.cuda.is_available() else device_name(torch.device(device))


def _begin(output: Path, stamp: Sequence[str]) -> set[tuple[str, str]]:
    """Part and name of the items that the file has; a file with a header is begun where there is none."""
    if output.exists():
        lines = [line for line in output.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return {(row["part"], row["item"]) for row in csv.DictReader(lines)}
    head = header("PYTHONPATH=. python benchmarks/gpu.py --qata QATA --weights WEIGHTS --commit COMMIT", stamp[3])
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(head.replace("no GPU used", stamp[0]) + ",".join(COLUMNS) + "\n", encoding="utf-8")
    return set()


if __name__ == "__main__":
    main()

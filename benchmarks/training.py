"""How fast the training engine goes: Ray beside the bare loop, the loader beside decoding, memory, use of a GPU.

Reads   SHARDS, a folder with both families, and PARAMS, a file with the section `train`
Writes  OUTPUT (benchmarks/results/training.csv, with --gpu training_gpu.csv), each row as it ends; rows that are there
        are kept, so delete the file to start anew
Run     python benchmarks/training.py SHARDS PARAMS [METHOD ...], with nothing else running on the host
        python benchmarks/training.py SHARDS PARAMS [METHOD ...] --gpu PEAK, with the device's peak in TFLOP/s

Every run is a process of its own and trains the last phase of the method for --steps steps; the first, and with it
whatever starts up, is left out. The two sides of a ratio take turns; figures are medians, ratios those of the medians.
`peak_memory` is the resident set of the process of the bare loop, decoding included. `loader_over_decode` divides by
the rate at which equally many processes decode the same samples, in memory already, and throw them away. With --gpu the
encoders are those of the papers, in bfloat16, and the FLOPs of a step are counted by torch on its first batch.
"""

import argparse
import csv
import dataclasses
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from header import header, last_commit
from torch.utils.flop_counter import FlopCounterMode

from models.data.batches import Tokenise
from models.text import load_tokenizer
from models.training.config import TrainingConfig
from models.training.data import EpochRange, RankShardedDataset, load
from models.training.prepare import prepare
from pipelines import config as params
from pipelines.errors import UserError
from pipelines.files import atomic_path
from pipelines.train.config import TrainConfig
from pipelines.train.engine import Run, train_in_process, train_with_ray
from pipelines.train.stage import prepare_run

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
COLUMNS = ("measure", "method", "setting", "value", "unit", "repeats")
# Paper 001: ViT-B/16 at 224 pixels and PubMedBERT; what is not named here is transformers' default, which is theirs.
PAPER = {
    "image_encoder": {"architecture": {"model_type": "vit", "image_size": 224, "patch_size": 16}},
    "text_encoder": {"architecture": {"model_type": "bert"}},
    "embedding_size": 512,
}
Rows = Iterator[tuple[str, str, float, str]]


def main() -> None:
    arguments = _arguments()
    settings = params.load(TrainConfig, "train", arguments.params)
    if settings.engine.reader != "random_access":
        # The two sides of a ratio must have the same batches, whatever their number of processes.
        raise UserError(f"{arguments.params}: train.engine.reader is {settings.engine.reader}: set random_access")
    done = _done(arguments)
    for method in arguments.methods or settings.methods:
        for name, measure in _measures(arguments).items():
            if (name, method) in done:
                continue
            with tempfile.TemporaryDirectory() as folder:
                run = _run(method, settings, arguments, Path(folder))
                _append(arguments.output, name, method, arguments.repeats, measure(run, arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("params", type=Path)
    parser.add_argument("methods", nargs="*", help="default: all of PARAMS")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100, help="of each run")
    parser.add_argument("--loader-workers", type=int, nargs="*", default=[0, 2], help="to measure the loader with")
    parser.add_argument("--gpu", type=float, metavar="PEAK", help="measure the bare loop on the GPU; its peak, TFLOP/s")
    parser.add_argument("--device", default="cuda", help="with --gpu; cpu tries the same code without one")
    parser.add_argument("--batch-size", type=int, help="with --gpu; default: the phase's")
    parser.add_argument("--encoders", type=json.loads, default=PAPER, help="with --gpu; default: the papers'")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", help="for the header, where there is no git")
    arguments = parser.parse_args()
    arguments.output = arguments.output or RESULTS / ("training.csv" if arguments.gpu is None else "training_gpu.csv")
    return arguments


def _measures(arguments: argparse.Namespace) -> dict[str, Callable[[Run, argparse.Namespace], Rows]]:
    """What is measured together, by its first row's measure: a part that was cut off is measured again."""
    if arguments.gpu is not None:
        return {"model_flop_utilisation": _gpu}
    return {"ray_over_bare": _ray_and_bare, "loader_over_decode": _loader}


def _run(method: str, settings: TrainConfig, arguments: argparse.Namespace, folder: Path) -> Run:
    """The last phase of a method, as long as was asked for; without validation, which is no part of a step."""
    configured = settings.methods[method]
    name, phase = list(configured.training.phases.items())[-1]
    engine, model = settings.engine, configured.model
    if arguments.gpu is not None:
        phase = dataclasses.replace(phase, batch_size=arguments.batch_size or phase.batch_size)
        engine = dataclasses.replace(engine, precision="bfloat16", use_gpu=arguments.device == "cuda")
        model = model | arguments.encoders
    training = dataclasses.replace(configured.training, phases={name: phase})
    configured = dataclasses.replace(configured, model=model, training=training)
    settings = dataclasses.replace(settings, engine=engine, methods={method: configured})
    run = prepare_run(method, settings, arguments.shards, folder).run
    phase = dataclasses.replace(phase, epochs=-(-arguments.steps // run.train.steps(phase.batch_size)))
    nothing = dataclasses.replace(run.validation, usable=np.zeros_like(run.validation.usable))
    return dataclasses.replace(run, training=dataclasses.replace(training, phases={name: phase}), validation=nothing)


def _alone(function: Callable[..., Any], *values: Any) -> Any:
    """Call a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *values).result()


def _speed(train: Callable[[Run], dict[str, Any]], run: Run) -> dict[str, Any]:
    """Train from the beginning."""
    speed: dict[str, Any] = train(run)["throughput"]
    return speed


def _fresh(run: Run, name: str) -> Run:
    """The same run with nothing to continue."""
    folder = run.folder.parent / name
    folder.mkdir()
    (folder / "tokenizer").symlink_to(run.folder / "tokenizer")
    return dataclasses.replace(run, name=name, folder=folder)


def _ray_and_bare(run: Run, arguments: argparse.Namespace) -> Rows:
    sides = {"bare": (train_in_process, 0), "ray_1_worker": (train_with_ray, 1)}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    # Ray would give a worker of one CPU one thread.
    os.environ["OMP_NUM_THREADS"] = str(run.engine.threads)
    for repeat in range(arguments.repeats):
        for name in sorted(sides, reverse=bool(repeat % 2)):
            train, workers = sides[name]
            engine = dataclasses.replace(run.engine, num_workers=workers)
            side = dataclasses.replace(_fresh(run, f"{name}-{repeat}"), engine=engine)
            found[name].append(_alone(_speed, train, side))
    rates = {name: _median(speeds, "samples_per_second") for name, speeds in found.items()}
    yield "ray_over_bare", "", rates["ray_1_worker"] / rates["bare"], ""
    for name, speeds in found.items():
        yield "samples_per_second", name, rates[name], "1/s"
        yield "data_wait_fraction", name, _median(speeds, "data_wait_fraction"), ""
    yield "peak_memory", "bare", _median(found["bare"], "worker_peak_memory_mb"), "MiB"


def _median(speeds: list[dict[str, Any]], name: str) -> float:
    return statistics.median(speed[name] for speed in speeds)


def _dataset(run: Run) -> RankShardedDataset:
    tokenizer = load_tokenizer(run.folder / "tokenizer")
    model = run.model_class(run.model_config, len(tokenizer))
    tokenise = Tokenise(tokenizer, tokenizer.model_max_length, normalises=model.normalises_text)
    collate = model.collate(tokenise, run.training.augmentation, run.engine.seed)
    (phase,) = run.training.phases.values()
    epochs = [EpochRange(plan=run.train, epoch=epoch, batch_size=phase.batch_size) for epoch in range(phase.epochs)]
    return RankShardedDataset(epochs, collate, 0, 1)


def _loader(run: Run, arguments: argparse.Namespace) -> Rows:
    for workers in arguments.loader_workers:
        loaded, decoded = [], []
        for _ in range(arguments.repeats):
            loaded.append(_alone(_load_rate, run, workers))
            decoded.append(_decode_rate(run, max(1, workers)))
        rates = statistics.median(loaded), statistics.median(decoded)
        setting = f"{workers} processes"
        yield "loader_over_decode", setting, rates[0] / rates[1], ""
        yield "loader_samples_per_second", setting, rates[0], "1/s"
        yield "decode_samples_per_second", setting, rates[1], "1/s"


def _load_rate(run: Run, workers: int) -> float:
    """Samples a second that `load` gives once what was loaded ahead is used up."""
    torch.set_num_threads(1)
    dataset = _dataset(run)
    batches = load(dataset, workers)
    # Each process has 4 batches ready, and begins the next.
    ahead = max(1, 5 * workers)
    for _ in range(ahead):
        next(batches)
    start = time.perf_counter()
    # Not to the end of the iterator, which waits until the processes have ended.
    count = sum(len(next(batches).keys) for _ in range(sum(map(len, dataset.ranges)) - ahead))
    return count / (time.perf_counter() - start)


def _decode_rate(run: Run, processes: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _set_barrier, (barrier,)) as pool:
        return sum(pool.map(_decode, [run] * processes, range(processes), [processes] * processes))


def _set_barrier(barrier: Any) -> None:
    global start_together
    start_together = barrier


def _decode(run: Run, turn: int, turns: int) -> float:
    """Samples a second of one of `turns` processes that decode samples which lie in memory."""
    torch.set_num_threads(1)
    dataset = _dataset(run)
    numbers = [batch for part in dataset.ranges for batch in part.batches()][turn::turns]
    samples = {number: run.train.shards.sample(number) for batch in numbers for number in batch}
    batches = [[samples[number] for number in batch] for batch in numbers]
    start_together.wait()
    start = time.perf_counter()
    for batch in batches:
        dataset.collate(batch)
    return sum(map(len, batches)) / (time.perf_counter() - start)


def _gpu(run: Run, arguments: argparse.Namespace) -> Rows:
    flops = _alone(_flops, run, arguments.device)
    speeds = [_alone(_speed, train_in_process, _fresh(run, f"gpu-{repeat}")) for repeat in range(arguments.repeats)]
    (phase,) = run.training.phases.values()
    batch_size = phase.batch_size
    rate = _median(speeds, "samples_per_second")
    setting = f"{_device_name(arguments.device)}, {run.engine.precision}, batch {batch_size}"
    yield "model_flop_utilisation", setting, rate * flops / batch_size / (arguments.gpu * 1e12), ""
    yield "samples_per_second", setting, rate, "1/s"
    yield "model_flops", setting, flops / batch_size / 1e9, "GFLOP/sample"
    yield "data_wait_fraction", setting, _median(speeds, "data_wait_fraction"), ""
    peak = "gpu_peak_memory_mb" if arguments.device == "cuda" else "worker_peak_memory_mb"
    yield "peak_memory", setting, _median(speeds, peak), "MiB"


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _flops(run: Run, device: str) -> float:
    """Of the forward and backward pass of the first batch."""
    tokenizer = load_tokenizer(run.folder / "tokenizer")
    model = run.model_class(run.model_config, len(tokenizer)).to(device).train()
    prepare(model, TrainingConfig(phases=run.training.phases), dataclasses.replace(run.engine, compile=False))
    (phase,) = run.training.phases.values()
    batch = next(load(_dataset(run), 0)).to(torch.device(device))
    with FlopCounterMode(display=False) as counter:
        torch.stack(list(model(batch, phase.losses).values())).sum().backward()
    return counter.get_total_flops()


def _done(arguments: argparse.Namespace) -> set[tuple[str, str]]:
    """Measure and method of the rows that the file holds; a file with a header is begun where there is none."""
    output: Path = arguments.output
    if output.exists():
        lines = [line for line in output.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        return {(row["measure"], row["method"]) for row in csv.DictReader(lines)}
    # Where the shards lie is the machine's business.
    words = ["SHARDS" if word == str(arguments.shards) else word for word in sys.argv]
    head = header(" ".join(["python", *words]), arguments.commit or last_commit(ROOT, "models", "pipelines"))
    if arguments.gpu is not None:
        head = head.replace("no GPU used", f"{_device_name(arguments.device)}, peak {arguments.gpu} TFLOP/s")
    with atomic_path(output) as temporary:
        temporary.write_text(head + ",".join(COLUMNS) + "\n", encoding="utf-8")
    return set()


def _append(output: Path, name: str, method: str, repeats: int, rows: Rows) -> None:
    found = [(measure, method, setting, f"{value:.4g}", unit, repeats) for measure, setting, value, unit in rows]
    # The measure by which a part is known to be done comes last.
    found.sort(key=lambda row: row[0] == name)
    with output.open("a", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(found)
    for row in found:
        print(dict(zip(COLUMNS, row, strict=True)), flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")

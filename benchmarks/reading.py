"""Reading training samples: both of our readers beside plain files, webdataset, litdata and mosaicml-streaming.

Builds  IMAGES synthetic images of 224 pixels with a report each in WORK, in the layout of every reader; once
Writes  OUTPUT (benchmarks/results/reading.csv), when all passes were made; rows that are there are kept
        WORK/passes.csv, each pass as it ends; one that is there is not made again
Run     PYTHONPATH=. python benchmarks/reading.py WORK, with nothing else running on the host; readers whose packages
        are not installed (litdata, mosaicml-streaming) are left out and named

A row is one pass over all images in shuffled order, in one process and one thread: every image decoded to RGB by Pillow
and, where `gives` says so, its report. `decode` is the limit: the same images from memory. Headers, indices and the
start of servers are not counted. `disk, cold` reads after the files' pages were dropped from the page cache, `disk,
warm` after all files were read, `http` from Python's own server on loopback. `processor_us` are microseconds an image
on the processor, of all threads of the process and not of programs that it starts (webdataset's curl): they say nothing
of waiting, and change less where the host is busy. Rates are medians over --repeats, in which all rows take turns;
`processor_us` is the least.
"""

import argparse
import contextlib
import importlib.util
import io
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import torch
from gpu_parts.random_shards import random_sample, write_once
from header import header, last_commit
from PIL import Image
from runs import RESULTS, append, read

from models.data import format as shard_format
from models.data.shards import ShardSet
from models.data.stream import TarStream
from models.training.data import EpochRange, SamplingPlan
from models.training.stream import Lane

SIDE, WORDS, BUFFER = 224, 40, 1000
FOLDERS = {"random_access": "shards", "stream": "shards", "webdataset": "shards", "files": "files"}
FOLDERS |= {"litdata": "litdata", "mosaicml-streaming": "mds", "decode": "files"}
PACKAGES = {"litdata": "litdata", "mosaicml-streaming": "streaming"}
DISK, WARM, HTTP, MEMORY = "disk, cold", "disk, warm", "http, loopback", "memory"

Decoded = Iterator[tuple[np.ndarray, str | None]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "reading.csv")
    arguments = parser.parse_args()
    missing = sorted(name for name, package in PACKAGES.items() if importlib.util.find_spec(package) is None)
    print(f"not installed, left out: {', '.join(missing) or 'none'}")
    wanted = [(name, place) for name, places in PLACES.items() if name not in missing for place in places]
    done = {(row["reader"], row["where"]) for row in read(arguments.output)}
    wanted = [one for one in wanted if one not in done]
    build(arguments.work, arguments.images, [name for name in FOLDERS if name not in missing])
    passes = arguments.work / "passes.csv"
    for repeat in range(arguments.repeats):
        for name, place in wanted if repeat % 2 == 0 else reversed(wanted):
            key = {"reader": name, "where": place, "repeat": str(repeat)}
            if any(key.items() <= row.items() for row in read(passes)):
                continue
            rate, processor = alone(measure, name, place, arguments.work, arguments.images)
            append(passes, [key | {"rate": rate, "processor_us": processor}], "")
            print(name, place, round(rate), round(processor), flush=True)
    head = header(f"python benchmarks/reading.py WORK --images {arguments.images}", last_commit(Path(), "models"))
    for name, place in wanted:
        measured = [row for row in read(passes) if (row["reader"], row["where"]) == (name, place)]
        rates, times = ([float(row[figure]) for row in measured] for figure in ("rate", "processor_us"))
        row = {
            "reader": name,
            "where": place,
            "gives": "image" if name in ("decode", "webdataset") else "image and report",
            "images": arguments.images,
            "images_per_second": round(statistics.median(rates), 1),
            "lowest": round(min(rates), 1),
            "highest": round(max(rates), 1),
            "processor_us": round(min(times), 1),
            "repeats": len(rates),
        }
        append(arguments.output, [row], head)


def alone(function: Callable[..., Any], *values: Any) -> Any:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *values).result()


def measure(name: str, place: str, work: Path, images: int) -> tuple[float, float]:
    """Images a second of one pass, and microseconds an image on the processor."""
    torch.set_num_threads(1)
    folder = work / FOLDERS[name]
    if place == DISK:
        drop(folder)
    with served(folder) if place == HTTP else contextlib.nullcontext(str(folder)) as location:
        samples = READERS[name](folder, location)
        if place == WARM:
            for path in folder.rglob("*"):
                if path.is_file():
                    path.read_bytes()
        count, pixels, begun, used = 0, 0, time.perf_counter(), time.process_time()
        for image, report in samples:
            count += 1
            pixels += int(image[0, 0, 0])
            if report is not None and len(report.split()) != WORDS:
                raise AssertionError(f"{name} gave a report of {len(report.split())} words")
        seconds, processor = time.perf_counter() - begun, time.process_time() - used
    if count != images:
        raise AssertionError(f"{name} gave {count} of {images} images")
    return count / seconds, processor / count * 1e6


def drop(folder: Path) -> None:
    """Take the files' pages out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A folder on a web server of its own process; its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def decode(folder: Path, location: str) -> Decoded:
    data = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    return ((decoded(one), None) for one in data)


def files(folder: Path, location: str) -> Decoded:
    names = sorted(path.stem for path in folder.glob("*.jpg"))
    order = np.random.default_rng(0).permutation(len(names))

    def of(name: str) -> bytes:
        if location.startswith("http"):
            with urlopen(f"{location}/{name}") as response:
                return response.read()
        return Path(location, name).read_bytes()

    return ((decoded(of(f"{names[n]}.jpg")), of(f"{names[n]}.txt").decode()) for n in order)


def plan(folder: Path) -> SamplingPlan:
    shards = ShardSet(folder / "images", folder / "captions", "train")
    return SamplingPlan(shards, np.ones(len(shards), dtype=bool), seed=0, buffer=BUFFER)


def random_access(folder: Path, location: str) -> Decoded:
    shards = plan(folder).shards
    # Reads the headers of all tars.
    shards.sample(0)
    drop(folder)
    samples = (shards.sample(number) for number in shards.order(0, 0, BUFFER))
    return ((sample.image, sample.captions.report) for sample in samples)


def stream(folder: Path, location: str) -> Decoded:
    whole = plan(folder)
    part = EpochRange(plan=replace(whole, shards=whole.shards.without_headers()), epoch=0, batch_size=1)
    lane = Lane(part=part, rank=0, world=1, turn=0, turns=1)
    tars = TarStream(part.plan.shards, location if location.startswith("http") else None)
    return ((sample.image, sample.captions.report) for sample in lane.samples(tars))


def plain_webdataset(folder: Path, location: str) -> Decoded:
    import webdataset

    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("images/train/*.tar"))
    urls = [f"{location}/{name}" for name in names]
    data = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(BUFFER)
    return ((decoded(sample["image.jpg"]), None) for sample in data)


def lit(folder: Path, location: str) -> Decoded:
    from litdata import StreamingDataset

    data = StreamingDataset(str(folder), shuffle=True, seed=0)
    return ((decoded(sample["image"]), sample["report"]) for sample in data)


def mosaic(folder: Path, location: str) -> Decoded:
    from streaming import StreamingDataset

    data = StreamingDataset(local=str(folder), shuffle=True, shuffle_seed=0, batch_size=1)
    return ((decoded(sample["image"]), sample["report"]) for sample in data)


READERS: dict[str, Callable[[Path, str], Decoded]] = {
    "decode": decode,
    "files": files,
    "random_access": random_access,
    "stream": stream,
    "webdataset": plain_webdataset,
    "litdata": lit,
    "mosaicml-streaming": mosaic,
}
PLACES = {
    "decode": (MEMORY,),
    "files": (DISK, WARM, HTTP),
    "random_access": (DISK, WARM),
    "stream": (DISK, WARM, HTTP),
    "webdataset": (DISK, WARM, HTTP),
    "litdata": (DISK, WARM),
    "mosaicml-streaming": (DISK, WARM),
}


def build(work: Path, images: int, names: list[str]) -> None:
    """The same images and reports in the layout of each reader; what is there stays."""
    shards = write_once(
        work / "shards",
        lambda: (random_sample(number, SIDE, WORDS, regions=0) for number in range(images)),
        SIDE,
        "train",
    )
    if len(shards) != images:
        raise SystemExit(f"error: {work} holds {len(shards)} images, not {images}: delete it, or give its number")

    def pairs() -> Iterator[tuple[str, bytes, str]]:
        for sample in shards.samples():
            yield sample.key, sample.members[shard_format.IMAGE], sample.captions.report or ""

    if not (work / "files").is_dir():
        (work / "files").mkdir()
        for key, image, report in pairs():
            (work / "files" / f"{key}.jpg").write_bytes(image)
            (work / "files" / f"{key}.txt").write_text(report)
    if "litdata" in names and not (work / "litdata").is_dir():
        from litdata import optimize

        rows = [(str(work / "files" / f"{key}.jpg"), report) for key, _, report in pairs()]
        optimize(fn=as_row, inputs=rows, output_dir=str(work / "litdata"), chunk_bytes="8MB", num_workers=1)
    if "mosaicml-streaming" in names and not (work / "mds").is_dir():
        from streaming import MDSWriter

        columns = {"image": "bytes", "report": "str"}
        with MDSWriter(out=str(work / "mds"), columns=columns, size_limit="8mb") as writer:
            for _, image, report in pairs():
                writer.write({"image": image, "report": report})


def as_row(pair: tuple[str, str]) -> dict[str, Any]:
    return {"image": Path(pair[0]).read_bytes(), "report": pair[1]}


if __name__ == "__main__":
    main()

"""The engine's actors beside `map_batches` of Ray Data: the same samples of shards, and what a death costs.

Builds  WORK: the pictures of benchmarks/cores.py and a study of them, up to its regions
Writes  benchmarks/results/ray_data.csv: a row a way and kind as it ends; those with a row are not run again
Run     PYTHONPATH=. python benchmarks/ray_data.py WORK [--images 2000], with nothing else running on the host

Both have two actors of a private Ray on this host, the same batches of 32 pictures in the order of the table, and the
outcomes in that order. `seconds` count from the connection to Ray to its end. `a death` is the same with one picture
that ends whichever process makes its sample: how many pictures of all have their sample then. What has not ended after
LIMIT seconds is stopped.
"""

import argparse
import os
import pickle
import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cores
from header import header, last_commit
from runs import REPOSITORY, RESULTS, append, read

from pipelines.config import load
from pipelines.ray_session import ray_session
from pipelines.records import REGIONS, SPLIT_IMAGES
from pipelines.shards.config import ShardsConfig
from pipelines.shards.images import BATCH, Members, SampleMaker
from pipelines.shards.stored_images import ShardImage
from pipelines.sources import load_sources
from pipelines.tables import beside
from pipelines.workers.config import WorkersConfig
from pipelines.workers.crew import Lost
from pipelines.workers.engine import in_batches, in_workers

OUTPUT = RESULTS / "ray_data.csv"
WORKERS = 2
LIMIT = 300


class MortalMaker(SampleMaker):
    """Ends its process at one picture."""

    def __call__(self, images: Sequence[ShardImage]) -> list[Members | str]:
        if any(image.row.path == "000040.png" for image in images):
            os._exit(9)
        return super().__call__(images)


def by_actors(make: "partial[SampleMaker]", images: list[ShardImage]) -> int:
    os.environ["RAY_ADDRESS"] = "local"
    pairs = in_workers(
        make,
        in_batches(images, BATCH),
        WorkersConfig(processes=WORKERS),
        items=len(images),
        worth=len(images) // WORKERS,
    )
    return sum(not isinstance(outcome, Lost | str) for _, outcome in pairs)


class MadeByRayData:
    """The batch function as Ray Data calls it: a column of pickled batches in, one of pickled outcomes out."""

    def __init__(self, make: bytes, folder: str) -> None:
        os.chdir(folder)
        self._function = pickle.loads(make)()

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[bytes]]:
        return {"made": [pickle.dumps(self._function(pickle.loads(batch))) for batch in rows["batch"]]}


def by_ray_data(make: "partial[SampleMaker]", images: list[ShardImage]) -> int:
    with ray_session(WORKERS):
        import ray.data

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        # What it offers against deaths: blocks that fail are left out.
        context.max_errored_blocks = -1
        batches = [{"batch": pickle.dumps(batch)} for batch in in_batches(images, BATCH)]
        made = ray.data.from_items(batches, override_num_blocks=len(batches)).map_batches(
            MadeByRayData,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=WORKERS),
            fn_constructor_args=(pickle.dumps(make), str(Path.cwd())),
        )
        return sum(_made(made.iter_rows()))


def _made(rows: Iterator[dict[str, Any]]) -> Iterator[int]:
    for row in rows:
        yield sum(not isinstance(outcome, str) for outcome in pickle.loads(row["made"]))


WAYS = {"actors": by_actors, "ray data": by_ray_data}


def too_long(*_: object) -> None:
    raise TimeoutError


def main() -> None:
    signal.signal(signal.SIGALRM, too_long)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=2)
    arguments = parser.parse_args()
    study = cores.make(arguments.work, arguments.images, 512)
    if not (study / "data/regions").is_dir():
        for command in ("pipelines.ingest mine", "pipelines.split", "pipelines.proposals", "pipelines.regions"):
            cores.run(command, study, "2")
    os.chdir(study)
    split, regions = Path("data/split/images.parquet"), Path("data/regions/regions.parquet")
    images = [
        ShardImage(row, tuple(rows)) for row, rows in beside(SPLIT_IMAGES.rows(split), REGIONS.groups(regions), "")
    ]
    settings = load(ShardsConfig, "shards"), load_sources()
    done = {(row["way"], row["kind"], int(row["repetition"])) for row in read(OUTPUT)}
    for repetition in range(arguments.repetitions):
        for kind, maker in (("whole", SampleMaker), ("a death", MortalMaker)):
            for way in sorted(WAYS, reverse=repetition % 2 == 1):
                if (way, kind, repetition) in done or (kind == "a death" and repetition):
                    continue
                began, error = time.perf_counter(), ""
                signal.alarm(LIMIT)
                try:
                    count = WAYS[way](partial(maker, *settings), images)
                except Exception as fault:  # noqa: BLE001 - how it ends is a result
                    count, error = 0, type(fault).__name__
                finally:
                    signal.alarm(0)
                row = {
                    "way": way,
                    "kind": kind,
                    "repetition": repetition,
                    "items": len(images),
                    "samples": count,
                    "seconds": round(time.perf_counter() - began, 1),
                    "error": error,
                }
                append(
                    OUTPUT, [row], header("PYTHONPATH=. python benchmarks/ray_data.py WORK", last_commit(REPOSITORY))
                )
                print(row, flush=True)


if __name__ == "__main__":
    # Workers import the classes of this file by its name.
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "benchmarks")))
    import ray_data

    ray_data.main()

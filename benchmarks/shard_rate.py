"""How near image shards come to what decoding, resizing and encoding alone allow, on the pictures of cores.py.

Builds  WORK: the pictures and the study of benchmarks/cores.py
Writes  benchmarks/results/shard_rate.csv: a row a repetition as it ends
Run     PYTHONPATH=. python benchmarks/shard_rate.py WORK [--images 2000] [--repetitions 3], with nothing else running

`limit` is how many pictures a second Pillow alone opens, scales down to `shards.image_size` and writes as JPEG of
`shards.quality`, files in the memory of the kernel, in one process for each core. `shards` is the whole stage with a
worker for each core: also a mask for each image, two regions' crops and masks, descriptions, digests, tars and the
start of all processes. `without start` leaves the start out, as the stage takes it for a tenth of the images. The last
columns say in milliseconds of one core what a sample is made of: reading and hashing the file, decoding it, the image
that the limit has too, the regions' crops, and masks with the description; and what of the stage without its start is
left, which are the table, the transport between processes and the tars.
"""

import argparse
import io
import multiprocessing
import os
import shutil
import time
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import cores
from header import header, last_commit
from PIL import Image
from runs import REPOSITORY, RESULTS, append, read

from models.preparation import crop_bytes, image_bytes
from pipelines.config import load
from pipelines.raw_images import open_raw
from pipelines.records import ANNOTATIONS_PROPOSER, REGIONS, SPLIT_IMAGES
from pipelines.shards.config import ShardsConfig
from pipelines.shards.images import image_members
from pipelines.shards.stage import REGION_TABLE, SPLIT_TABLE
from pipelines.sources import load_sources
from pipelines.tables import beside

OUTPUT = RESULTS / "shard_rate.csv"
WORKERS = os.cpu_count() or 1
PROBED = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    small, whole = (cores.make(arguments.work, images, 512) for images in (arguments.images // 10, arguments.images))
    for study in (small, whole):
        for command in ("pipelines.ingest mine", "pipelines.split", "pipelines.proposals", "pipelines.regions"):
            cores.run(command, study, str(WORKERS))
    files = sorted((arguments.work / f"source-{arguments.images}-512").glob("??????.png"))
    settings = load(ShardsConfig, "shards", whole / "params.yaml")
    for repetition in range(len(read(OUTPUT)), arguments.repetitions):
        alone = by_pillow(files, settings)
        of_small, of_whole = made(small), made(whole)
        limit, shards = len(files) / alone, len(files) / of_whole
        without_start = 0.9 * len(files) / (of_whole - of_small)
        row = {
            "repetition": repetition,
            "images": len(files),
            "cores": WORKERS,
            "limit_images_per_second": round(limit, 1),
            "shards_images_per_second": round(shards, 1),
            "ratio": round(shards / limit, 3),
            "without_start_images_per_second": round(without_start, 1),
            "without_start_ratio": round(without_start / limit, 3),
        }
        parts = parts_of_a_sample(whole)
        row |= {name: round(value, 3) for name, value in parts.items()}
        row["left_ms"] = round(1000 * WORKERS / without_start - sum(parts.values()), 3)
        append(OUTPUT, [row], header("PYTHONPATH=. python benchmarks/shard_rate.py WORK", last_commit(REPOSITORY)))
        print(row, flush=True)


def by_pillow(files: list[Path], settings: ShardsConfig) -> float:
    """Seconds for all files, in processes that are there already."""
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        work = [(file, settings.image_size, settings.quality) for file in files]
        pool.starmap(encoded, work, chunksize=32)  # so that the files are in memory
        began = time.perf_counter()
        pool.starmap(encoded, work, chunksize=32)
        return time.perf_counter() - began


def encoded(file: Path, side: int, quality: int) -> int:
    """The bytes of one picture as the shards have it."""
    stream = io.BytesIO()
    with Image.open(file) as image:
        small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    small.save(stream, "JPEG", quality=quality, subsampling=0)
    return len(stream.getvalue())


def parts_of_a_sample(study: Path) -> dict[str, float]:
    """Milliseconds an image, in this process, over the first PROBED images."""
    before = Path.cwd()
    os.chdir(study)
    try:
        config, sources = load(ShardsConfig, "shards"), load_sources()
        rows = beside(
            SPLIT_IMAGES.rows(SPLIT_TABLE), REGIONS.groups(REGION_TABLE), "regions of images that are not there"
        )
        images = [(row, tuple(regions)) for row, regions in islice(rows, PROBED)]
        total: Counter[str] = Counter()
        for row, regions in images:
            file = sources.roots[row.source] / row.path
            accepted = [region for region in regions if region.status == "accepted"]
            annotated = [region for region in regions if region.proposer == ANNOTATIONS_PROPOSER]
            clock = [time.perf_counter()]
            pixels = open_raw(sources, row)
            clock.append(time.perf_counter())
            with Image.open(file) as image:
                image.load()
            clock.append(time.perf_counter())
            image_bytes(pixels, config.input_format)
            clock.append(time.perf_counter())
            for region in accepted:
                crop_bytes(pixels, region.box, config.input_format)
            clock.append(time.perf_counter())
            image_members(row, accepted, annotated, pixels, config)
            clock.append(time.perf_counter())
            opened, decoded, whole, crops, members = (after - at for at, after in pairwise(clock))
            total.update(read_and_hash_ms=opened - decoded, decode_ms=decoded, image_ms=whole, crops_ms=crops)
            total["masks_and_description_ms"] += members - whole - crops
        return {name: 1000 * seconds / len(images) for name, seconds in total.items()}
    finally:
        os.chdir(before)


def made(study: Path) -> float:
    """Seconds of the stage."""
    for left in ("data/cache", "data/shards"):
        shutil.rmtree(study / left, ignore_errors=True)
    return cores.run("pipelines.shards images", study, str(WORKERS))[0]


if __name__ == "__main__":
    main()

"""The search for near-duplicates from 1,000 to 500,000 images: seconds, memory, and the pairs of a search over all.

Builds  WORK: pictures of 64 x 64 of ten kinds, every tenth a copy of an earlier one (other contrast, moved, noise;
        `mixed`); beside them sets of one picture alone, the same (`equal`) or with a little noise (`alike`)
Writes  benchmarks/results/near_duplicates.csv: a row a set as it ends; sets that have a row are not searched again
Run     PYTHONPATH=. python benchmarks/near_duplicates.py WORK [--largest 500000] [--exhaustive 100000]

Hashes and thumbnails are those of `pipelines.images`. Each search has a process of its own and is given hashes and a
file of thumbnails, as the stage `split` has them. Up to --exhaustive images its pairs are compared with those of a
search that compares every two hashes. Seconds are those on the processor, of which a search uses one core; other
processes may run on the host.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from header import header, last_commit
from PIL import Image
from runs import REPOSITORY, RESULTS, append, read

from pipelines.files import atomic_path
from pipelines.images import perceptual_hash, thumbnail
from pipelines.split.close_hashes import agreement, choose_plan
from pipelines.split.config import NearDuplicates
from pipelines.split.near_duplicates import find, hash_words, pearson
from pipelines.split.pairs import LISTED
from pipelines.split.thumbnails import ThumbnailFile

OUTPUT = RESULTS / "near_duplicates.csv"
SETS = (
    ("mixed", 1_000),
    ("mixed", 10_000),
    ("mixed", 20_000),
    ("mixed", 100_000),
    ("equal", 20_000),
    ("alike", 20_000),
    ("mixed", 500_000),
    ("equal", 100_000),
    ("alike", 100_000),
)
BLOCK = 10_000  # pictures of a file of WORK, made from the file's number
SIDE, KINDS = 64, 10
SAMPLED = 2**18  # pairs for the shares of pairs that a way compares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--largest", type=int, default=500_000)
    parser.add_argument("--exhaustive", type=int, default=100_000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    done = {(row["data"], int(row["images"])) for row in read(arguments.output)}
    head = header("PYTHONPATH=. python benchmarks/near_duplicates.py WORK", last_commit(REPOSITORY))
    for data, images in SETS:
        if images > arguments.largest or (data, images) in done:
            continue
        for number in range(-(-images // BLOCK)):
            make(arguments.work, data, number)
        row = measure(arguments.work, data, images, data == "mixed" and images <= arguments.exhaustive)
        append(arguments.output, [row], head)
        print(row, flush=True)


def make(work: Path, data: str, number: int) -> None:
    """One file of pictures' hashes and thumbnails."""
    file = work / f"{data}-{number}.npz"
    if file.exists():
        return
    hashes, thumbnails = [], []
    for pixels in pictures(data, number):
        image = Image.fromarray(pixels)
        hashes.append(perceptual_hash(image))
        thumbnails.append(np.frombuffer(thumbnail(image), dtype=np.uint8))
    with atomic_path(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, hashes=hashes, thumbnails=thumbnails)


def pictures(data: str, number: int) -> Iterator[np.ndarray]:
    """The pictures of one file, 64 x 64 grey values of 8 bits."""
    rng = np.random.default_rng((number, 1))
    kinds = fields(np.random.default_rng(0), KINDS, slope=2.0)
    former: list[np.ndarray] = []
    for index in range(BLOCK):
        if data == "equal":
            picture = kinds[0]
        elif data == "alike":
            picture = kinds[0] + 0.05 * fields(rng, 1, slope=0.5)[0]
        elif index % 10 == 9:
            moved = np.roll(former[rng.integers(len(former))], rng.integers(0, 2, 2), axis=(0, 1))
            picture = moved * rng.uniform(0.5, 1.2) + rng.exponential(0.1) * fields(rng, 1, slope=0.5)[0]
        else:
            picture = kinds[rng.integers(KINDS)] + fields(rng, 1, slope=1.3)[0]
            former.append(picture)
        yield (128 + 40 * picture).clip(0, 255).astype(np.uint8)


def fields(rng: np.random.Generator, count: int, slope: float) -> np.ndarray:
    """Random pictures of mean 0 and variance 1 whose amplitudes fall with the frequency to the power of `slope`."""
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE))
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((count, SIDE, SIDE))) * frequency**-slope
    values = np.fft.irfft2(spectrum, s=(SIDE, SIDE))
    return values / values.std(axis=(1, 2), keepdims=True)


def measure(work: Path, data: str, images: int, exhaustive: bool) -> dict[str, Any]:
    """The row of one set."""
    ours = in_a_process(search, work, data, images)
    row = {"data": data, "images": images} | ours
    row["pairs"] = len(np.load(work / "search.npy"))
    row |= {"exhaustive_cpu_seconds": "", "missed": "", "added": "", "same_pairs": ""}
    if exhaustive:
        row |= in_a_process(search_all, work, data, images)
        found, expected = (set(map(tuple, np.load(work / f"{name}.npy").tolist())) for name in ("search", "exhaustive"))
        row["missed"], row["added"] = len(expected - found), len(found - expected)
        row["same_pairs"] = found == expected
    return row


def in_a_process(function: Any, *arguments: Any) -> dict[str, Any]:
    """What a function returns in a new process, so that peaks of memory are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def search(work: Path, data: str, images: int) -> dict[str, Any]:
    """Seconds on the processor, memory and plan of our search; its pairs go to a file."""
    words, thumbnails, settings = hashes(work, data, images), ThumbnailFile(work), thresholds()
    for block in thumbnail_blocks(work, data, images):
        thumbnails.add([one.tobytes() for one in block])
    held = peak_memory()
    begun = time.process_time()
    pairs = find(words, thumbnails.__getitem__, settings)
    seconds = time.process_time() - begun
    peak = peak_memory()
    np.save(work / "search.npy", pairs[["left", "right", "distance"]].to_numpy(dtype=np.int64))
    listed = np.bincount(np.concatenate([pairs["left"], pairs["right"]]), minlength=images)
    plan = choose_plan(words, settings.max_distance)
    pieces = sampled(words)
    share = np.bincount(pieces.sum(axis=1, dtype=np.int64)) / SAMPLED
    return {
        "bits": plan.bits,
        "tables": plan.tables,
        "cpu_seconds": round(seconds, 2),
        "table_memory_mb": round(held),
        "peak_memory_mb": round(peak),
        "at_limit": int((listed >= LISTED).sum()),
        # How often a pair is looked at: in the tables, again wherever it shares a bucket.
        "compared": round(plan.tables * sum(agreement(at, plan.bits) * of for at, of in enumerate(share.tolist())), 5),
        "multi_index_compared": round(float(np.mean((pieces <= 2).any(axis=1) | (pieces[:, 0] <= 3))), 5),
    }


def search_all(work: Path, data: str, images: int) -> dict[str, Any]:
    """Seconds on the processor of a search that compares every two hashes; its pairs go to a file."""
    words, settings = hashes(work, data, images), thresholds()
    thumbnails = np.concatenate(list(thumbnail_blocks(work, data, images)))
    begun = time.process_time()
    found = []
    for start in range(0, images, 64):
        for column in range(start, images, 8192):
            one, other = words[start : start + 64], words[column : column + 8192]
            distance = np.zeros((len(one), len(other)), dtype=np.uint16)
            for word in range(4):
                distance += np.bitwise_count(one[:, word, None] ^ other[None, :, word])
            left, right = np.nonzero(distance <= settings.max_distance)
            bits = distance[left, right]
            left, right = left + start, right + column
            same = left < right
            same[same] = pearson(thumbnails[left[same]], thumbnails[right[same]]) >= settings.min_correlation
            found.append(np.stack([left[same], right[same], bits[same]], axis=1).astype(np.int64))
    seconds = time.process_time() - begun
    np.save(work / "exhaustive.npy", np.concatenate(found))
    return {"exhaustive_cpu_seconds": round(seconds, 2)}


def hashes(work: Path, data: str, images: int) -> np.ndarray:
    """Perceptual hashes, images x 4 words of 64 bits."""
    return hash_words([one for block in blocks(work, data, images, "hashes") for one in block.tolist()])


def thumbnail_blocks(work: Path, data: str, images: int) -> Iterator[np.ndarray]:
    """Thumbnails, some images x pixels at a time."""
    return blocks(work, data, images, "thumbnails")


def blocks(work: Path, data: str, images: int, name: str) -> Iterator[np.ndarray]:
    for start in range(0, images, BLOCK):
        with np.load(work / f"{data}-{start // BLOCK}.npz") as file:
            yield file[name][: images - start]


def sampled(words: np.ndarray) -> np.ndarray:
    """Of some pairs of hashes, the differing bits of each of 16 pieces of 16 bits (n x 16)."""
    left, right = np.random.default_rng(1).integers(0, len(words), (2, SAMPLED))
    return np.bitwise_count((words[left] ^ words[right]).view(np.uint16))


def thresholds() -> NearDuplicates:
    """Those of params.yaml."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    return NearDuplicates(**params["split"]["near_duplicates"])


def peak_memory() -> float:
    """The largest resident set of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()

"""What the task `retrieval` takes as its pool grows: 12,500, 25,000 and 50,000 images with a text each.

Builds  nothing: vectors of length 1 in memory, from the number of items; a text's vector lies near its image's
Writes  benchmarks/results/retrieval_memory.csv: a row a pool as it ends; pools that have a row are not measured again
Run     PYTHONPATH=. python benchmarks/retrieval_memory.py [--items 12500 25000 50000], with nothing else running

The whole task runs, in a process of its own for each pool: recall among all texts and among the different ones,
precision over labels without the own text, each in both directions, all intervals, and the rows of items. Nine of ten
texts are different, and the labels are five exclusive classes. Only the method and the shards are left out: their
embeddings are there already (`held_memory_mb` has them, Python and its libraries). Seconds should grow with the square
of the items, memory with the items.
"""

import argparse
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from header import header, last_commit
from runs import REPOSITORY, RESULTS, append, read

from models.memory import peak_memory_mb
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.tasks.retrieval import Retrieval, RetrievalConfig

OUTPUT = RESULTS / "retrieval_memory.csv"
COMMAND = "PYTHONPATH=. python benchmarks/retrieval_memory.py"
ITEMS = (12_500, 25_000, 50_000)
DIMENSIONS, CLASSES = 512, 5
KS = [1, 5, 10]
BOOTSTRAP = Bootstrap(samples=1000, seed=0)
GIB = 2**30


class VectorSet:
    """What the task asks of an `EvaluationSet`: images without pixels, and vectors of length 1.

    Args:
        items: Number of images.

    Attributes:
        images: Each with a text and a label.
        image_embeddings: (items, 512) float32.
        scores_only: As in an evaluation on validation: without a plot.
    """

    scores_only = True

    def __init__(self, items: int) -> None:
        random = np.random.default_rng(items)
        different = items - items // 10
        self.images = [
            EvaluationImage(
                f"{number:016x}",
                "synthetic",
                (f"class {number % CLASSES}",),
                "ok",
                f"Text {number % different}.",
                False,
            )
            for number in range(items)
        ]
        centres = _unit(random.standard_normal((CLASSES, DIMENSIONS), dtype=np.float32))
        self.image_embeddings = _unit(
            random.standard_normal((items, DIMENSIONS), dtype=np.float32)
            + 10 * np.take(centres, np.arange(items) % CLASSES, axis=0)
        )
        noise = random.standard_normal((different, DIMENSIONS), dtype=np.float32)
        self._texts = _unit(self.image_embeddings[:different] + 0.1 * noise)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        return self._texts[[int(text.removeprefix("Text ").removesuffix(".")) for text in texts]]


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    done = {int(row["items"]) for row in read(arguments.output)}
    for items in arguments.items:
        if items in done:
            continue
        # A new process, so that its peak of memory is its own.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            row = pool.submit(measure, items).result()
        append(arguments.output, [row], header(COMMAND, last_commit(REPOSITORY)))
        print(row, flush=True)


def measure(items: int) -> dict[str, Any]:
    """The row of one pool."""
    test = VectorSet(items)
    held = peak_memory_mb()
    task = Retrieval(RetrievalConfig(ks=KS, precision_ks=KS, exclude_own=True, deduplicate=True))
    began, began_cpu = time.perf_counter(), time.process_time()
    result = task.run(test, BOOTSTRAP)  # type: ignore[arg-type]  # what the task asks of it is there
    rows = sum(1 for _ in result.items)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    peak = peak_memory_mb()
    values = {name: result.scores.metrics[name].value for name in ("i2t_recall@10", "i2t_precision@10")}
    return {
        "items": items,
        "dimensions": DIMENSIONS,
        "different_texts": len({image.report for image in test.images}),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds, 1),
        "cpu_seconds_per_million_pairs": round(cpu_seconds / items**2 * 1e6, 3),
        "held_memory_mb": round(held),
        "peak_memory_mb": round(peak),
        "peak_kb_per_item": round((peak - held) * 1024 / items, 1),
        "within_2_gib": peak * 2**20 <= 2 * GIB,
        "rows_of_items": rows,
        **values,
    }


if __name__ == "__main__":
    main()

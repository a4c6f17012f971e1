"""How well a segmenter fills boxes that are nearly right: annotated boxes whose edges are moved by up to 5 %.

Reads   STUDY, a workspace of params/weights.yaml after `make weights run`: the annotated test regions of its shards
Writes  benchmarks/results/segmenters.csv, a row a (source, segmenter) as it ends; rows that are there are kept
Run     python benchmarks/segmenters.py STUDY, with nothing else running on the host

`box` is no segmenter: the mask is the whole box. The Dice coefficient is the mean over an image's regions, and then
over the images, with a 95 % interval from resampled images.
"""

import os
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import runs
from header import header, last_commit
from PIL import Image
from runs import REPOSITORY, RESULTS

from models.data.shards import Sample, ShardSet
from models.geometry import Box, Mask
from pipelines.config import load_section
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.bootstrap import mean_score
from pipelines.registry import plugin
from pipelines.stage import command

SOURCES = ("kvasir_seg", "qata_cov19")
SEGMENTERS = ("box", "threshold", "lite_medsam")
IMAGES = 40
JITTER = 0.05


def main(study: str) -> None:
    # The params name the weights' folder from there.
    os.chdir(study)
    options = load_section("proposals").get("options", {})
    file = RESULTS / "segmenters.csv"
    done = {(row["source"], row["segmenter"]) for row in runs.read(file)}
    shards = Path("data/shards")
    for source in SOURCES:
        samples = [
            sample
            for sample in ShardSet(shards / "images", shards / "captions", "test").samples()
            if sample.meta.source == source
        ]
        chosen = [sample for sample in samples if masks_of(sample)][:IMAGES]
        for name in SEGMENTERS:
            if (source, name) not in done:
                commit = last_commit(REPOSITORY, "models", "pipelines", "params")
                runs.append(
                    file,
                    [measure(source, name, chosen, options)],
                    header("python benchmarks/segmenters.py STUDY", commit),
                )


def measure(source: str, name: str, samples: list[Sample], options: dict[str, Any]) -> dict[str, Any]:
    """Mean Dice of one segmenter on one source, and the seconds that an image takes."""
    segmenter = None if name == "box" else plugin("segmenters", name)(options.get(name, {}))
    values, seconds = [], 0.0
    for number, sample in enumerate(samples):
        truths = masks_of(sample)
        boxes = [jittered(mask, f"{sample.key} {n}") for n, mask in enumerate(truths)]
        began = time.perf_counter()
        if segmenter is None:
            found = [filled(box, mask.shape) for box, mask in zip(boxes, truths, strict=True)]
        else:
            (segments,) = segmenter.segment([Image.fromarray(sample.image)], [boxes])
            found = [segment.mask for segment in segments]
        # The first image waits for the weights.
        seconds += (time.perf_counter() - began) if number else 0.0
        values.append(np.mean([dice(one, mask) for one, mask in zip(found, truths, strict=True)]))
    score = mean_score(np.array(values), 0.0, Bootstrap(samples=1000, seed=0))
    return {
        "source": source,
        "segmenter": name,
        "images": len(samples),
        "regions": sum(len(masks_of(sample)) for sample in samples),
        "dice": score.value,
        "low": score.low,
        "high": score.high,
        "seconds_an_image": round(seconds / (len(samples) - 1), 3),
    }


def masks_of(sample: Sample) -> list[Mask]:
    """The masks of its annotated regions."""
    found = [sample.mask(number) for number, region in enumerate(sample.meta.regions) if region.role == "truth"]
    return [mask for mask in found if mask is not None and mask.any()]


def jittered(mask: Mask, key: str) -> Box:
    """The box of a mask, each edge moved by up to `JITTER` of its side; the same for the same key."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=float)
    sides = np.tile(edges[2:] - edges[:2], 2)
    moved = edges + np.random.default_rng(zlib.crc32(key.encode())).uniform(-JITTER, JITTER, 4) * sides
    height, width = mask.shape
    left, top, right, bottom = np.clip(moved, 0, [width, height, width, height]).tolist()
    return left, top, right, bottom


def filled(box: Box, shape: tuple[int, ...]) -> Mask:
    mask = np.zeros(shape, dtype=bool)
    left, top, right, bottom = (round(edge) for edge in box)
    mask[top:bottom, left:right] = True
    return mask


def dice(one: Mask, other: Mask) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


if __name__ == "__main__":
    command(main)

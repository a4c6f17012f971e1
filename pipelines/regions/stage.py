"""The stage `regions`: boxes and masks of every image.

Reads data/split/{images,regions}.parquet, the pixels and masks of the sources (`ingest.sources.<name>.root`) and the
params sections `regions` and `ingest`. Writes data/regions/regions.parquet (`REGIONS`).

Alone: python -m pipelines.regions

Training images take their `input` regions from the source's annotations where there are any, all other images from a
proposer that never sees them; validation and test images have their annotations beside them with the role `truth`. An
image's regions are numbered from 0: inputs by falling score, then truth in the source's order.

An image is ok, or failed with a reason code; a region is accepted, or rejected with a reason code, and stands in the
table either way.
"""

import multiprocessing
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.config import load
from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig
from pipelines.records import GIVEN_REGIONS, REGIONS, SPLIT_IMAGES, rows_of
from pipelines.regions.config import RegionsConfig
from pipelines.regions.image import Annotator, Outcome
from pipelines.registry import names, plugin
from pipelines.stage import SUMMARIES, Summary, progress

_WINDOW = 512

_annotator: Annotator | None = None


def main() -> None:
    roots = load(IngestConfig, "ingest").roots()
    run(load(RegionsConfig, "regions"), roots, Path("data/split"), Path("data/regions/regions.parquet"))


def run(
    config: RegionsConfig, roots: dict[str, Path], split: Path, output: Path, summaries: Path = SUMMARIES
) -> dict[str, Any]:
    """Find the regions of all images and write them.

    Args:
        config: Settings of the stage.
        roots: Folder or archive of each source.
        split: Folder of the split stage's tables.
        output: The Parquet file to write.
        summaries: Folder of summary.json files.

    Returns:
        The summary; beside the images' outcomes it counts `regions` per source and role, `no_input_region` per source,
        and `masks_below_quality`.

    Raises:
        UserError: A plug-in is unknown or may not do what params ask of it, a source has no root, or too many images
            failed.
    """
    check_plugins(config)
    images = rows_of(SPLIT_IMAGES.read(split / "images.parquet"))
    given = defaultdict(list)
    for row in rows_of(GIVEN_REGIONS.read(split / "regions.parquet").sort_values(["image_id", "n"])):
        given[row["image_id"]].append(row)
    if unknown := sorted({image["source"] for image in images} - roots.keys()):
        raise UserError(
            f"params.yaml: ingest.sources lacks {', '.join(unknown)}, which data/split names: add it or run dvc repro"
        )

    summary = Summary("regions")
    rows: list[dict[str, Any]] = []
    without_region: dict[str, int] = defaultdict(int)
    dropped = 0
    tasks = [(image, given[image["image_id"]]) for image in images]
    outcomes = _annotate(tasks, config, roots)
    for image, outcome in zip(images, progress(outcomes, "regions", len(images)), strict=True):
        if outcome.failed:
            summary.failed(outcome.failed)
            continue
        summary.ok()
        rows += outcome.rows
        dropped += outcome.masks_dropped
        if not any(row["role"] == "input" and row["status"] == "accepted" for row in outcome.rows):
            without_region[image["source"]] += 1
    summary.limit_failures(config.max_failed_share)
    REGIONS.write(REGIONS.frame(rows), output)
    summary.extra = {
        "regions": count_regions(rows),
        "no_input_region": dict(sorted(without_region.items())),
        "masks_below_quality": dropped,
    }
    return summary.write(len(images), summaries)


def check_plugins(config: RegionsConfig) -> None:
    """Refuse proposers that may not do what params ask of them, and options of plug-ins that do not exist.

    Raises:
        UserError: A name is unknown, or a proposer that sees annotations is to propose on validation and test images.
    """
    plugin("segmenters", config.segmenter)
    plugin("proposers", config.train)
    if plugin("proposers", config.evaluation).sees_annotations:
        raise UserError(
            f"regions.evaluation is '{config.evaluation}', which reads the annotations that results are judged by: "
            "choose a proposer that never sees them, such as saliency"
        )
    known = names("proposers").keys() | names("segmenters").keys()
    if unknown := sorted(config.options.keys() - known):
        raise UserError(f"regions.options names no plug-in with {unknown}: choose from {', '.join(sorted(known))}")


def count_regions(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Regions per source and role: {source: {role: {proposed, accepted, rejected, reasons}}}."""
    counts: dict[str, Any] = {}
    for row in rows:
        of_source = counts.setdefault(row["source"], {})
        count = of_source.setdefault(row["role"], {"proposed": 0, "accepted": 0, "rejected": 0, "reasons": {}})
        count["proposed"] += 1
        count[row["status"]] += 1
        if row["reason"]:
            count["reasons"][row["reason"]] = count["reasons"].get(row["reason"], 0) + 1
    return counts


Task = tuple[dict[str, Any], list[dict[str, Any]]]


def _annotate(tasks: list[Task], config: RegionsConfig, roots: dict[str, Path]) -> Iterator[Outcome]:
    """Outcomes in the order of the tasks, whatever the number of processes."""
    if config.workers == 1:
        annotator = Annotator(config, roots)
        yield from (annotator(*task) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(config.workers, context, _start_worker, (config, roots)) as pool:
        for start in range(0, len(tasks), _WINDOW):
            yield from pool.map(_annotate_one, tasks[start : start + _WINDOW], chunksize=8)


def _start_worker(config: RegionsConfig, roots: dict[str, Path]) -> None:
    global _annotator
    _annotator = Annotator(config, roots)


def _annotate_one(task: Task) -> Outcome:
    assert _annotator is not None
    return _annotator(*task)

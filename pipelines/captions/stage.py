"""The stage `captions`: the texts of every image and of every accepted region.

Reads data/split/images.parquet, data/regions/regions.parquet, the prompt files (`captions.prompts`), the params
section `captions` and, for captioners that see the pixels, the roots of the sources. Writes
data/captions/captions.parquet (`CAPTIONS`): an image's own row, then those of its accepted regions by their number,
images in the order of the split's table. Answers that cost something are kept in data/cache/results.sqlite.

Alone: python -m pipelines.captions

What may be said of an item, and when nothing may, is decided in `evidence.py`; the captioner decides the wording; texts
that contradict the measured geometry are marked (`geometry_check.py`). An item ends ok (the table tells ok, no_finding
and unannotated apart by their status), rejected or failed, with a reason code. Where the budget (`captions.budget`) is
spent before every item has its answer, the run ends with one line and without a table; `estimate.py` says beforehand
what a run will ask.

A captioner that sends requests works on several items at a time, in this process. Any other describes images in
workers, and this process reads both tables side by side, counts the rows and writes them as they come.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.cache import RESULT_CACHE
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.counts import CaptionCounts
from pipelines.captions.describe import Describer
from pipelines.captions.plan import ImageAndRegions, count, images_and_regions
from pipelines.captions.protocols import Item, KeepsAnswers, SendsRequests
from pipelines.config import load
from pipelines.files import atomic_folder
from pipelines.records import CAPTIONS, CaptionRow
from pipelines.sources import Sources, load_sources
from pipelines.stage import SUMMARIES, Summary, progress
from pipelines.workers.config import THIS_PROCESS, WorkersConfig, load_workers
from pipelines.workers.crew import WORKER_DIED, Lost
from pipelines.workers.engine import in_batches, in_workers

BATCH = 64  # images
# Images that are worth a worker (`pipelines.workers.engine`): `findings` describes one with its regions in 0.5 ms.
WORTH = 2000


def main() -> None:
    tables = (Path("data/split/images.parquet"), Path("data/regions/regions.parquet"))
    with atomic_folder(Path("data/captions")) as folder:
        output = folder / "captions.parquet"
        run(load(CaptionsConfig, "captions"), load_sources(), *tables, output, workers=load_workers())


def run(
    config: CaptionsConfig,
    sources: Sources,
    images: Path,
    regions: Path,
    output: Path,
    summaries: Path = SUMMARIES,
    cache: Path = RESULT_CACHE,
    workers: WorkersConfig = THIS_PROCESS,
) -> dict[str, Any]:
    """Describe all images and accepted regions, and write the texts.

    Args:
        config: Settings of the stage.
        sources: Where the images are, and how large one may be.
        images: Table of `SPLIT_IMAGES`.
        regions: Table of `REGIONS`.
        output: The Parquet file to write.
        summaries: Folder of summary.json files.
        cache: File of the result cache.
        workers: How many processes describe, where the captioner sends no requests.

    Returns:
        The summary; beside the outcomes it has what `CaptionCounts` and the captioner count.

    Raises:
        UserError: The captioner, its options or a prompt file is missing or wrong, the tables do not belong together,
            too many items failed, or the budget is spent.
    """
    summary, counts = Summary("captions"), CaptionCounts()
    describer = Describer(config, sources, cache)
    inputs = count(images, regions)
    pairs = images_and_regions(images, regions)
    if isinstance(describer.captioner, SendsRequests):
        described = describer.rows(pairs)
    else:
        make = partial(Describer, config, sources, cache)
        described = _in_workers(pairs, make, describer, workers, inputs[0])
    with closing(described):
        rows = progress(described, "captions", sum(inputs))
        CAPTIONS.write(output, _counted(rows, counts, summary, config.max_failed_fraction, sum(inputs)))
    summary.extra = counts.as_summary() | describer.captioner.counts()
    return summary.write(sum(inputs), summaries)


def _in_workers(
    pairs: Iterable[ImageAndRegions],
    make: "partial[Describer]",
    describer: Describer,
    workers: WorkersConfig,
    images: int,
) -> Generator[CaptionRow, None, None]:
    """The rows of all images; workers describe, and this process reads and writes the tables."""
    found = in_workers(make, in_batches(pairs, BATCH), workers, items=images, worth=WORTH)
    with closing(found):
        for pair, rows in found:
            yield from describer.lost(pair, rows) if isinstance(rows, Lost) else rows


def _counted(
    rows: Iterable[CaptionRow], counts: CaptionCounts, summary: Summary, max_failed_fraction: float, inputs: int
) -> Iterator[CaptionRow]:
    """The rows on their way to the table; where too many failed, what comes after the last one is an error."""
    for row in rows:
        if row.status in ("rejected", "failed"):
            assert row.reason is not None
            getattr(summary, row.status)(row.reason)
        else:
            summary.ok()
        counts.add(row)
        yield row
        # Each costs the start of three workers: not to be counted to the end.
        if row.reason == WORKER_DIED and summary.counts["failed"] > max_failed_fraction * inputs:
            break
    summary.limit_failures(max_failed_fraction)


def answer_keys(config: CaptionsConfig, sources: Sources, images: Path, regions: Path) -> list[tuple[str, str]]:
    """Key and kind in the result cache of each answer that the captions of these tables need, sorted; nothing is sent.

    Args:
        config: Settings of the stage.
        sources: Where the images are, and how large one may be.
        images: Table of `SPLIT_IMAGES`.
        regions: Table of `REGIONS`.
    """
    describer = Describer(config, sources, RESULT_CACHE)
    if not isinstance(describer.captioner, KeepsAnswers):
        return []
    planned = describer.planned(images_and_regions(images, regions))
    items: Iterator[Item] = (entry for entry in planned if not isinstance(entry, CaptionRow))
    return sorted(set(describer.captioner.keys(items)))

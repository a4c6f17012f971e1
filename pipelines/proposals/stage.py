"""The stage `proposals`: every proposer's candidates for regions, with masks and all that a joint score needs.

Reads data/split/{images,annotations}.parquet, the pixels of the sources (`ingest.sources.<name>.root`), models, and the
params sections `proposals` and `ingest`. Writes data/proposals/proposals.parquet (`PROPOSALS`).

Alone: python -m pipelines.proposals

The proposers of params never see the annotations; these stand beside the candidates as those of the proposer
`annotations`. An image is ok, or failed with a reason; a candidate that can never be used stands in the table with a
reason code. Answers are kept in the result cache (data/cache/results.sqlite): a run that is started again asks only
about what is missing. The table does not depend on what the cache had.

Images and what was found on them wait on the disk, in the folder of the table, and memory holds some numbers an image.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cache import RESULT_CACHE, ResultCache
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.files import atomic_folder, scratch_folder
from pipelines.proposals.candidates import MeasuredProposal
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.plan import Keys, WorkPlan, check_plugins, plan
from pipelines.proposals.runner import Outcome, ProposalRunner, WorkItem
from pipelines.records import ANNOTATIONS, PROPOSALS, SPLIT_IMAGES, AnnotationRow, ProposalRow, SplitImageRow
from pipelines.sources import Sources, load_sources
from pipelines.spill import Spill
from pipelines.stage import SUMMARIES, Summary, progress
from pipelines.tables import beside
from pipelines.workers.config import THIS_PROCESS, WorkersConfig, load_workers
from pipelines.workers.crew import Lost
from pipelines.workers.engine import in_batches, in_workers

# Images that are worth a worker (`pipelines.workers.engine`).
WORTH = 20


def main() -> None:
    config = load(ProposalsConfig, "proposals")
    with atomic_folder(Path("data/proposals")) as folder:
        run(config, load_sources(), Path("data/split"), folder / "proposals.parquet", workers=load_workers())


def run(
    config: ProposalsConfig,
    sources: Sources,
    split: Path,
    output: Path,
    cache: Path = RESULT_CACHE,
    summaries: Path = SUMMARIES,
    workers: WorkersConfig = THIS_PROCESS,
) -> dict[str, Any]:
    """Run every proposer on every image that it should see, and write the candidates.

    Args:
        config: Settings of the stage.
        sources: Where the images are, and how large one may be.
        split: Folder of the split stage's tables.
        output: The Parquet file to write.
        cache: File of the result cache.
        summaries: Folder of summary.json files.
        workers: How many processes run the plug-ins, each with the models in its memory.

    Returns:
        The summary; beside the images' outcomes it counts `proposals` per source, proposer and reason, and the images
        that a proposer `answered`, or for which its cached answer was `reused`.

    Raises:
        UserError: A plug-in is unknown or may not do what params ask of it, a source has no root, or too many images
            failed.
    """
    check_plugins(config)
    output.parent.mkdir(parents=True, exist_ok=True)
    items = plan(_images(split), config, output.parent)
    if unknown := sorted(items.sources - sources.roots.keys()):
        raise UserError(
            f"params.yaml: ingest.sources lacks {', '.join(unknown)}, which data/split names: add it or run dvc repro"
        )

    summary = Summary("proposals")
    found: Spill[list[ProposalRow]] = Spill(output.parent)
    places = np.full(len(items), -1, dtype=np.int64)  # of each image's rows in `found`
    counted: Counter[tuple[str, str, bool, str | None]] = Counter()
    answered: Counter[str] = Counter()
    reused: Counter[str] = Counter()
    results = ResultCache(cache)
    with closing(progress(_outcomes(items, config, sources, results, workers), "proposals", len(items))) as pairs:
        for index, (item, outcome) in zip(items.order, pairs, strict=True):
            if outcome.failed:
                summary.failed(outcome.failed)
                if summary.counts["failed"] > config.max_failed_fraction * len(items):
                    summary.limit_failures(config.max_failed_fraction)
                continue
            summary.ok()
            answered.update(outcome.answers.keys())
            reused.update(item.cached.keys())
            counted.update((row.source, row.proposer, row.mask is not None, row.reason) for row in outcome.rows)
            places[index] = found.add(outcome.rows)
    PROPOSALS.write(output, (row for place in places if place >= 0 for row in found[int(place)]))
    summary.extra = {
        "proposals": count_proposals(counted),
        "answered": dict(answered),
        "reused": dict(reused),
        **results.counts(),
    }
    return summary.write(len(items), summaries)


def answer_keys(config: ProposalsConfig, sources: Sources, split: Path) -> list[tuple[str, str]]:
    """Key and kind in the result cache of each answer that the proposals of these tables may need, sorted.

    Args:
        config: Settings of the stage.
        sources: Where the images are, and how large one may be.
        split: Folder of the split stage's tables.
    """
    check_plugins(config)
    keys = Keys(ProposalRunner(config, sources))
    items = plan(_images(split), config, scratch_folder(split))
    return sorted({(key, cache_kind(name)) for item in items for name, key in keys.of(item).items()})


def cache_kind(proposer: str) -> str:
    """What the result cache calls an answer of a proposer."""
    return f"proposals/{proposer}"


def _images(split: Path) -> Iterator[tuple[SplitImageRow, list[AnnotationRow]]]:
    """Each image with its annotations."""
    images, annotations = split / "images.parquet", split / "annotations.parquet"
    where = f"{annotations} has images that {images} lacks: run dvc repro split"
    return beside(SPLIT_IMAGES.rows(images), ANNOTATIONS.groups(annotations), where)


def count_proposals(counted: Counter[tuple[str, str, bool, str | None]]) -> dict[str, Any]:
    """Proposals per source and proposer: {source: {proposer: {proposed, masks, reasons}}}.

    Args:
        counted: How many there are of each source, proposer, whether they have a mask, and reason.
    """
    counts: dict[str, Any] = {}
    for (source, proposer, has_mask, reason), number in counted.items():
        of_source = counts.setdefault(source, {})
        count = of_source.setdefault(proposer, {"proposed": 0, "masks": 0, "reasons": {}})
        count["proposed"] += number
        count["masks"] += number * has_mask
        if reason:
            count["reasons"][reason] = count["reasons"].get(reason, 0) + number
    return counts


def _outcomes(
    items: WorkPlan, config: ProposalsConfig, sources: Sources, cache: ResultCache, workers: WorkersConfig
) -> Iterator[tuple[WorkItem, Outcome]]:
    """Each item with its cached answers, and its outcome, which is cached before the next batch is waited for."""
    make_runner = partial(ProposalRunner, config, sources)
    keys = Keys(make_runner())
    batches = in_batches((_with_cached(item, keys, cache) for item in items), config.batch_size)
    try:
        for item, outcome in in_workers(
            make_runner, batches, workers, items=len(items), worth=WORTH, gpus_each=config.gpus_per_worker
        ):
            if isinstance(outcome, Lost):
                yield item, Outcome(failed=outcome.reason)
                continue
            for name, candidates in outcome.answers.items():
                answer = [candidate.to_json() for candidate in candidates]
                cache.put(keys.of(item)[name], cache_kind(name), answer)
            yield item, outcome
    finally:
        cache.close()


def _with_cached(item: WorkItem, keys: Keys, cache: ResultCache) -> WorkItem:
    answers = {name: cache.get(key) for name, key in keys.of(item).items()}
    cached = {
        name: [MeasuredProposal.from_json(values) for values in answer]
        for name, answer in answers.items()
        if answer is not None
    }
    return dataclasses.replace(item, cached=cached)

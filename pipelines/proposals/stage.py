"""The stage `proposals`: every proposer's candidates for regions, with masks and all that a joint score needs.

Reads data/split/{images,regions}.parquet, the pixels and masks of the sources (`ingest.sources.<name>.root`), models,
and the params sections `proposals` and `ingest`. Writes data/proposals/proposals.parquet (`PROPOSALS`).

Alone: python -m pipelines.proposals

The proposers of params never see the annotations; what the source drew stands beside their candidates as those of
`annotations`. An image is ok, or failed with a reason; a candidate that can never be used stands in the table with a
reason code. Answers are kept in the result cache (data/cache/results.sqlite): a run that is started again asks only
about what is missing. The table does not depend on what the store had.
"""

import dataclasses
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.cache import RESULT_CACHE, ResultCache
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig
from pipelines.proposals.annotator import Annotator, Outcome, Task
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.plan import Keys, check_plugins, plan
from pipelines.proposals.workers import in_ray
from pipelines.records import GIVEN_REGIONS, PROPOSALS, SPLIT_IMAGES, rows_of
from pipelines.stage import SUMMARIES, Summary, progress


def main() -> None:
    config = load(ProposalsConfig, "proposals")
    roots = load(IngestConfig, "ingest").roots()
    run(config, roots, Path("data/split"), Path("data/proposals/proposals.parquet"))


def run(
    config: ProposalsConfig,
    roots: dict[str, Path],
    split: Path,
    output: Path,
    store: Path = RESULT_CACHE,
    summaries: Path = SUMMARIES,
) -> dict[str, Any]:
    """Ask every proposer about every image that it should see, and write what they answered.

    Args:
        config: Settings of the stage.
        roots: Folder or archive of each source.
        split: Folder of the split stage's tables.
        output: The Parquet file to write.
        store: File of the result cache.
        summaries: Folder of summary.json files.

    Returns:
        The summary; beside the images' outcomes it counts `proposals` per source, proposer and reason, and the images
        for which a proposer was `asked`, or its stored answer `reused`.

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

    summary = Summary("proposals")
    rows: dict[str, list[dict[str, Any]]] = {}
    asked: Counter[str] = Counter()
    reused: Counter[str] = Counter()
    tasks = plan(images, given, config)
    for task, outcome in progress(_work(tasks, config, roots, store), "proposals", len(tasks)):
        if outcome.failed:
            summary.failed(outcome.failed)
            if summary.counts["failed"] > config.max_failed_fraction * len(tasks):
                summary.limit_failures(config.max_failed_fraction)
            continue
        summary.ok()
        asked.update(outcome.fresh.keys())
        reused.update(task.stored.keys())
        rows[task.image["image_id"]] = outcome.rows
    ordered = [row for image in images for row in rows.get(image["image_id"], [])]
    PROPOSALS.write(PROPOSALS.frame(ordered), output)
    summary.extra = {"proposals": count_proposals(ordered), "asked": dict(asked), "reused": dict(reused)}
    return summary.write(len(images), summaries)


def count_proposals(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of `PROPOSALS` per source and proposer: {source: {proposer: {proposed, masks, reasons}}}."""
    counts: dict[str, Any] = {}
    for row in rows:
        of_source = counts.setdefault(row["source"], {})
        count = of_source.setdefault(row["proposer"], {"proposed": 0, "masks": 0, "reasons": {}})
        count["proposed"] += 1
        count["masks"] += row["mask"] is not None
        if row["reason"]:
            count["reasons"][row["reason"]] = count["reasons"].get(row["reason"], 0) + 1
    return counts


def _work(
    tasks: list[Task], config: ProposalsConfig, roots: dict[str, Path], path: Path
) -> Iterator[tuple[Task, Outcome]]:
    """Each task with what the store had for it, and its outcome, stored before the next batch is waited for."""
    annotator = Annotator(config, roots)
    keys = Keys(annotator)
    store = ResultCache(path)
    handed_out: deque[list[Task]] = deque()

    def batches() -> Iterator[list[Task]]:
        for start in range(0, len(tasks), config.batch_size):
            batch = [_with_stored(task, keys, store) for task in tasks[start : start + config.batch_size]]
            handed_out.append(batch)
            yield batch

    try:
        answers = in_ray(batches(), config, roots) if config.workers else map(annotator, batches())
        for outcomes in answers:
            for task, outcome in zip(handed_out.popleft(), outcomes, strict=True):
                for name, answer in outcome.fresh.items():
                    store.put(keys.of(task)[name], f"proposals/{name}", answer)
                yield task, outcome
    finally:
        store.close()


def _with_stored(task: Task, keys: Keys, store: ResultCache) -> Task:
    found = {name: store.get(key) for name, key in keys.of(task).items()}
    return dataclasses.replace(task, stored={name: answer for name, answer in found.items() if answer is not None})

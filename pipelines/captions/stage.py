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
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipelines.cache import RESULT_CACHE
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.evidence import image_item, is_no_finding, region_items
from pipelines.captions.protocols import Captioner, Item, KeepsAnswers, NotAsked, SendsRequests, Settings
from pipelines.captions.report_sides import report_sides
from pipelines.captions.rows import RowBuilder
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.files import atomic_folder
from pipelines.records import CAPTIONS, REGIONS, SPLIT_IMAGES, CaptionRow, RegionRow, SplitImageRow
from pipelines.registry import names, plugin
from pipelines.sources import Sources, load_sources
from pipelines.stage import SUMMARIES, Summary, progress


def main() -> None:
    tables = (Path("data/split/images.parquet"), Path("data/regions/regions.parquet"))
    with atomic_folder(Path("data/captions")) as folder:
        run(load(CaptionsConfig, "captions"), load_sources(), *tables, folder / "captions.parquet")


def run(
    config: CaptionsConfig,
    sources: Sources,
    images: Path,
    regions: Path,
    output: Path,
    summaries: Path = SUMMARIES,
    cache: Path = RESULT_CACHE,
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

    Returns:
        The summary; beside the outcomes it counts `statuses` by source and kind, images `without_summary` by source,
        `oracle` rows, `warnings`, `contradictions` by captioner, kind and prompt, `report_sides` of region captions by
        source and basis, and what the captioner counts.

    Raises:
        UserError: The captioner, its options or a prompt file is missing or wrong, too many items failed, or the
            budget is spent.
    """
    summary = Summary("captions")
    captioner = captioner_of(config, sources, cache)
    image_rows = SPLIT_IMAGES.read(images)
    accepted = _accepted_regions(regions)
    if unknown_images := accepted.keys() - {image.image_id for image in image_rows}:
        raise UserError(
            f"{regions} has regions of {len(unknown_images)} images that {images} lacks: run dvc repro regions"
        )

    inputs = len(image_rows) + sum(map(len, accepted.values()))
    builder = RowBuilder(config.captioner, captioner, config.sizes)
    entries = _planned(image_rows, accepted, captioner, config, builder)
    rows = list(progress(_caption(entries, captioner, config, builder), "captions", inputs))
    for row in rows:
        if row.status in ("rejected", "failed"):
            assert row.reason is not None
            getattr(summary, row.status)(row.reason)
        else:
            summary.ok()
    summary.limit_failures(config.max_failed_fraction)
    CAPTIONS.write(output, rows)
    summary.extra = _count(rows) | captioner.counts()
    return summary.write(inputs, summaries)


def answer_keys(config: CaptionsConfig, sources: Sources, images: Path, regions: Path) -> list[tuple[str, str]]:
    """Key and kind in the result cache of each answer that the captions of these tables need, sorted; nothing is sent.

    Args:
        config: Settings of the stage.
        sources: Where the images are, and how large one may be.
        images: Table of `SPLIT_IMAGES`.
        regions: Table of `REGIONS`.
    """
    captioner = captioner_of(config, sources, RESULT_CACHE)
    if not isinstance(captioner, KeepsAnswers):
        return []
    items = (entry for entry in planned(config, captioner, images, regions) if not isinstance(entry, CaptionRow))
    return sorted(set(captioner.keys(items)))


def planned(config: CaptionsConfig, captioner: Captioner, images: Path, regions: Path) -> Iterator[CaptionRow | Item]:
    """For each row of the captions: the item that the captioner describes, or the row itself where it needs no answer.

    Args:
        config: Settings of the stage.
        captioner: Of these settings.
        images: Table of `SPLIT_IMAGES`.
        regions: Table of `REGIONS`.
    """
    rows = (image for batch in SPLIT_IMAGES.batches(images) for image in batch)
    builder = RowBuilder(config.captioner, captioner, config.sizes)
    return _planned(rows, _accepted_regions(regions), captioner, config, builder)


def captioner_of(config: CaptionsConfig, sources: Sources, cache: Path) -> Captioner:
    """The captioner that the settings name.

    Raises:
        UserError: It is unknown, its options or prompts are wrong, or there is a budget that it does not keep.
    """
    if unknown := config.options.keys() - names("captioners").keys():
        raise UserError(
            f"captions.options: {sorted(unknown)} is no captioner: choose from {', '.join(names('captioners'))}"
        )
    settings = Settings(
        prompts=config.prompts,
        seed=config.seed,
        options=config.options.get(config.captioner, {}),
        sizes=config.sizes,
        roots=sources.roots,
        max_pixels=sources.max_pixels,
        cache=cache,
        budget=config.budget,
    )
    captioner: Captioner = plugin("captioners", config.captioner)(settings)
    if str(config.budget) and not isinstance(captioner, SendsRequests):
        raise UserError(
            f"captions.budget ({config.budget}): the captioner '{config.captioner}' keeps none: set its keys to null, "
            "or choose a captioner that sends requests"
        )
    return captioner


def _accepted_regions(path: Path) -> dict[str, list[RegionRow]]:
    """The accepted regions of each image, in the order of `n`."""
    accepted = defaultdict(list)
    for row in REGIONS.read(path):
        if row.status == "accepted":
            accepted[row.image_id].append(row)
    return {image_id: sorted(rows, key=lambda row: row.n) for image_id, rows in accepted.items()}


def _caption(
    entries: Iterable[CaptionRow | Item], captioner: Captioner, config: CaptionsConfig, builder: RowBuilder
) -> Iterator[CaptionRow]:
    """Rows of `CAPTIONS` in their final order.

    The captioner pulls the items from a generator, so that it may work on several at a time. Rows that need no answer
    wait in `pending` beside the items, so that every row comes out in its place.

    Raises:
        UserError: The budget was spent before every item had its answer; after the last row, so that whoever writes
            them has no whole table.
    """
    pending: deque[CaptionRow | Item] = deque()

    def items() -> Iterator[Item]:
        for entry in entries:
            pending.append(entry)
            if not isinstance(entry, CaptionRow):
                yield entry

    given = left = failed = 0
    for answer in captioner.describe(items()):
        given += 1
        while isinstance(entry := pending.popleft(), CaptionRow):
            yield entry
        if isinstance(answer, NotAsked):
            left += 1
            continue
        row = builder.described(entry, answer)
        failed += row.status == "failed"
        yield row
    if left:
        again = f" (and {failed} failed, which are asked again)" if failed else ""
        raise UserError(
            f"captions: the budget of this run ({config.budget}) is spent and {left} of {given} items are left{again}, "
            "so no table is written; all answers are in the result cache. Run `dvc repro captions` again, which asks "
            "for the rest with the budget anew, or change captions.budget first"
        )
    for entry in pending:
        assert isinstance(entry, CaptionRow), f"captioner {config.captioner} gave no answer for {entry.item_id}"
        yield entry


def _planned(
    images: Iterable[SplitImageRow],
    accepted: Mapping[str, list[RegionRow]],
    captioner: Captioner,
    config: CaptionsConfig,
    builder: RowBuilder,
) -> Iterator[CaptionRow | Item]:
    """For each image, then for each of its regions: the item that is described, or the row that needs no answer."""
    for image in images:
        items = region_items(image, accepted.get(image.image_id, []), config)
        yield image_item(image, items, config, captioner.sees_pixels) or builder.unannotated(image)
        for item in items:
            unnamed_in_normal_image = is_no_finding(image) and item.label is None
            yield builder.without_text(item, "no_finding") if unnamed_in_normal_image else item


def _count(rows: list[CaptionRow]) -> dict[str, Any]:
    statuses: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    without_summary: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for row in rows:
        statuses[row.source][row.kind][row.status] += 1
        warnings.update(row.warnings or ())
        if row.kind == "image" and row.status == "ok" and row.summary is None:
            without_summary[row.source] += 1
    return {
        "statuses": statuses,
        "without_summary": without_summary,
        "oracle": sum(row.oracle for row in rows),
        "warnings": warnings,
        "contradictions": _contradictions(rows),
        "report_sides": {
            f"{source}, {basis}": asdict(counts) | {"agreement": counts.agreement}
            for (source, basis), counts in report_sides(rows).items()
        },
    }


def _contradictions(rows: list[CaptionRow]) -> list[dict[str, Any]]:
    """How many of the accepted texts of each captioner and prompt contradict the measured geometry, by code."""
    texts: Counter[tuple[str, str, str]] = Counter()
    codes: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        # A region without a finding has no text.
        if row.status == "ok" or (row.status == "no_finding" and row.kind == "image"):
            version = (row.captioner, row.kind, row.prompt_sha256)
            texts[version] += 1
            if row.contradiction is not None:
                codes[version][row.contradiction] += 1
    return [
        {
            "captioner": captioner,
            "kind": kind,
            "prompt_sha256": prompt,
            "texts": count,
            "codes": codes[captioner, kind, prompt],
            "fraction": round(codes[captioner, kind, prompt].total() / count, 4),
        }
        for (captioner, kind, prompt), count in sorted(texts.items())
    ]

"""The stage `captions`: the texts of every image and of every accepted region.

Reads data/split/images.parquet, data/regions/regions.parquet, the prompt files (`captions.prompts`), the params
sections `captions` and, for captioners that see the pixels, `ingest` with its roots. Writes
data/captions/captions.parquet (`CAPTIONS`): an image's own row, then those of its accepted regions by their number,
images in the order of the split's table. Answers that cost something are kept in data/cache/results.sqlite.

Alone: python -m pipelines.captions

What may be said of an item, and when nothing may, is decided in `evidence.py`; the wording is the captioner's; what
contradicts the measured geometry is marked (`geometry_check.py`). An item is ok (the table's status tells ok,
no_finding and unannotated apart), rejected or failed, with a reason code.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.cache import RESULT_CACHE
from pipelines.captions.answer import ImageAnswer, RegionAnswer, parse_triple, summary_warnings
from pipelines.captions.config import CaptionsConfig
from pipelines.captions.evidence import image_item, is_no_finding, region_items
from pipelines.captions.geometry_check import region_contradiction, summary_contradiction
from pipelines.captions.protocols import Answer, Asked, Captioner, ImageItem, Item, Refusal, RegionItem, Settings
from pipelines.config import load
from pipelines.errors import UserError
from pipelines.ingest.config import IngestConfig
from pipelines.records import CAPTIONS, NO_FINDING, REGIONS, SPLIT_IMAGES, rows_of
from pipelines.registry import names, plugin
from pipelines.stage import SUMMARIES, Summary, progress


def main() -> None:
    tables = (Path("data/split/images.parquet"), Path("data/regions/regions.parquet"))
    ingest = load(IngestConfig, "ingest")
    run(load(CaptionsConfig, "captions"), ingest, *tables, Path("data/captions/captions.parquet"))


def run(
    config: CaptionsConfig,
    ingest: IngestConfig,
    images: Path,
    regions: Path,
    output: Path,
    summaries: Path = SUMMARIES,
    store: Path = RESULT_CACHE,
) -> dict[str, Any]:
    """Describe all images and accepted regions, and write the texts.

    Args:
        config: Settings of the stage.
        ingest: The sources' roots, and how large a picture may be.
        images: Table of `SPLIT_IMAGES`.
        regions: Table of `REGIONS`.
        output: The Parquet file to write.
        summaries: Folder of summary.json files.
        store: File of the result cache.

    Returns:
        The summary; beside the outcomes it counts `statuses` per source and kind, images `without_summary` per source,
        `oracle` rows, `warnings`, `contradictions` by captioner, kind and prompt, and what the captioner counts.

    Raises:
        UserError: The captioner, its options or a prompt file is missing or wrong, or too many items failed.
    """
    summary = Summary("captions")
    if unknown := config.options.keys() - names("captioners").keys():
        raise UserError(
            f"captions.options: {sorted(unknown)} is no captioner: choose from {', '.join(names('captioners'))}"
        )
    settings = Settings(
        prompts=config.prompts,
        seed=config.seed,
        options=config.options.get(config.captioner, {}),
        sizes=config.sizes,
        roots=ingest.roots(),
        max_pixels=ingest.max_pixels,
        store=store,
    )
    captioner: Captioner = plugin("captioners", config.captioner)(settings)
    image_rows = rows_of(SPLIT_IMAGES.read(images))
    accepted = defaultdict(list)
    frame = REGIONS.read(regions)
    for row in rows_of(frame[frame["status"] == "accepted"].sort_values(["image_id", "n"])):
        accepted[row["image_id"]].append(row)
    if strangers := accepted.keys() - {row["image_id"] for row in image_rows}:
        raise UserError(f"{regions} has regions of {len(strangers)} images that {images} lacks: run dvc repro regions")

    inputs = len(image_rows) + sum(len(rows) for rows in accepted.values())
    rows = list(progress(_caption(image_rows, accepted, captioner, config), "captions", inputs))
    for row in rows:
        if row["status"] in ("rejected", "failed"):
            getattr(summary, row["status"])(row["reason"])
        else:
            summary.ok()
    summary.limit_failures(config.max_failed_fraction)
    CAPTIONS.write(CAPTIONS.frame(rows), output)
    summary.extra = _count(rows) | captioner.counts()
    return summary.write(inputs, summaries)


def _caption(
    images: list[dict[str, Any]],
    accepted: dict[str, list[dict[str, Any]]],
    captioner: Captioner,
    config: CaptionsConfig,
) -> Iterator[dict[str, Any]]:
    """Rows of `CAPTIONS` in their final order. The captioner draws the items, so it may work on several at a time."""
    digests = {kind: captioner.prompt_sha256(kind) for kind in ("image", "region")}
    waiting: deque[tuple[dict[str, Any], Item | None]] = deque()

    def ask() -> Iterator[Item]:
        for image in images:
            for row, item in _plan(image, accepted.get(image["image_id"], []), captioner, config):
                row |= {"captioner": config.captioner, "prompt_sha256": digests[row["kind"]]}
                waiting.append((row, item))
                if item is not None:
                    yield item

    for answer in captioner.describe(ask()):
        while waiting[0][1] is None:
            yield waiting.popleft()[0]
        row, item = waiting.popleft()
        assert item is not None
        yield row | _texts(item, answer, config)
    for row, item in waiting:
        assert item is None, f"captioner {config.captioner} gave no answer for {row['item_id']}"
        yield row


def _plan(
    image: dict[str, Any], regions: list[dict[str, Any]], captioner: Captioner, config: CaptionsConfig
) -> Iterator[tuple[dict[str, Any], Item | None]]:
    """The image's row and its regions' rows, each with the item to ask about, or None where the row is complete."""
    where = {"image_id": image["image_id"], "source": image["source"]}
    items = region_items(image, regions, config)
    item = image_item(image, items, config, captioner.sees_pixels)
    row = {"item_id": image["image_id"], **where, "kind": "image", "oracle": item is not None and item.oracle}
    yield (row | {"basis": item.basis}, item) if item else (row | {"status": "unannotated"}, None)
    for region in items:
        row = {"item_id": region.region_id, **where, "kind": "region", "basis": region.basis, "oracle": region.oracle}
        if is_no_finding(image) and region.label is None:
            yield row | {"status": "no_finding"}, None
        else:
            yield row, region


def _texts(item: Item, answer: Answer, config: CaptionsConfig) -> dict[str, Any]:
    """The columns that an answer decides."""
    if isinstance(answer, Asked):
        return _texts(item, answer.answer, config) | {"attempts": answer.attempts}
    if isinstance(answer, Refusal):
        return {"status": answer.status, "reason": answer.reason, "raw_answer": answer.raw_answer}
    if isinstance(item, ImageItem) and isinstance(answer, ImageAnswer):
        texts = {
            "status": "ok",
            "summary": answer.summary_caption,
            "report": answer.detailed_report,
            "contradiction": summary_contradiction(item, answer),
            "warnings": summary_warnings(answer.summary_caption) or None,
        }
        return texts | ({"status": "no_finding", "region_caption": NO_FINDING} if is_no_finding(item.image) else {})
    assert isinstance(item, RegionItem), f"{type(answer).__name__} for an image"
    assert isinstance(answer, RegionAnswer), f"{type(answer).__name__} for a region"
    if answer.region_extraction == NO_FINDING:
        return {"status": "no_finding"}
    caption = parse_triple(answer.region_extraction)
    return {
        "status": "ok",
        "region_caption": str(caption),
        **caption._asdict(),
        "size": item.geometry.size,
        "negatives": [str(parse_triple(negative)) for negative in answer.negative_variations],
        "contradiction": region_contradiction(item, answer, config.sizes),
    }


def _count(rows: list[dict[str, Any]]) -> dict[str, Any]:
    statuses: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    without_summary: Counter[str] = Counter()
    warnings: Counter[str] = Counter()
    for row in rows:
        statuses[row["source"]][row["kind"]][row["status"]] += 1
        warnings.update(row.get("warnings") or ())
        if row["kind"] == "image" and row["status"] == "ok" and row["summary"] is None:
            without_summary[row["source"]] += 1
    return {
        "statuses": statuses,
        "without_summary": without_summary,
        "oracle": sum(row["oracle"] for row in rows),
        "warnings": warnings,
        "contradictions": _contradictions(rows),
    }


def _contradictions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many of the accepted texts of each captioner and prompt contradict the measured geometry, by code."""
    texts: Counter[tuple[str, str, str]] = Counter()
    codes: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row["status"] in ("ok", "no_finding") and "contradiction" in row:
            version = (row["captioner"], row["kind"], row["prompt_sha256"])
            texts[version] += 1
            if row["contradiction"] is not None:
                codes[version][row["contradiction"]] += 1
    return [
        {
            "captioner": captioner,
            "kind": kind,
            "prompt_sha256": prompt,
            "texts": count,
            "codes": codes[captioner, kind, prompt],
            "share": round(codes[captioner, kind, prompt].total() / count, 4),
        }
        for (captioner, kind, prompt), count in sorted(texts.items())
    ]

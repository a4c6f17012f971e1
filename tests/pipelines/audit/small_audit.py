"""Rows of a study as small as an audit's tests need it."""

from pathlib import Path
from typing import Any

from pipelines.audit.answers import Answer
from pipelines.audit.config import AuditConfig
from pipelines.audit.sample import Item
from pipelines.records import CaptionRow, RegionRow, SplitImageRow

SETTINGS = AuditConfig(answers="data/audit.jsonl", seed=0, regions=10, captions=10, min_per_stratum=3, confidence=0.95)


def image(number: int, source: str = "alpha", modality: Any = "ct", **changes: Any) -> SplitImageRow:
    digest = f"{number:064x}"
    values: dict[str, Any] = {
        "image_id": f"{number:016x}",
        "source": source,
        "modality": modality,
        "path": f"secret/{number}.png",
        "sha256": digest,
        "pixel_sha256": digest,
        "perceptual_hash": digest,
        "width": 60,
        "height": 40,
        "split_conflict": False,
        "rows": 1,
        "group": f"g{number}",
        "split": "train",
        "leak": False,
    }
    return SplitImageRow(**values | changes)


def region(of: SplitImageRow, n: int = 0, **changes: Any) -> RegionRow:
    values: dict[str, Any] = {
        "region_id": f"{of.image_id}-{n}",
        "image_id": of.image_id,
        "source": of.source,
        "n": n,
        "role": "input",
        "status": "accepted",
        "proposer": "saliency",
        "label": "secret label",
        "x0": 10.0,
        "y0": 5.0,
        "x1": 30.0,
        "y1": 25.0,
        "area": 400,
        "area_fraction": 400 / 2400,
        "score": 0.5,
        "probability": 0.8125,
        "certified": False,
    }
    return RegionRow(**values | changes)


def caption(of: SplitImageRow | RegionRow, **changes: Any) -> CaptionRow:
    of_region = isinstance(of, RegionRow)
    text = {"region_caption": "round | nodule | left upper"} if of_region else {"summary": "A nodule on the left."}
    values: dict[str, Any] = {
        "item_id": of.region_id if isinstance(of, RegionRow) else of.image_id,
        "image_id": of.image_id,
        "source": of.source,
        "kind": "region" if of_region else "image",
        "status": "ok",
        "oracle": False,
        "captioner": "findings",
        "prompt_sha256": "c" * 64,
    }
    return CaptionRow(**values | text | changes)


def answer(item: Item, given: Any, reviewer: str = "AB", **changes: Any) -> Answer:
    values: dict[str, Any] = {
        "item": item.name,
        "shown": item.shown,
        "answer": given,
        "reviewer": reviewer,
        "date": "2026-11-28",
    }
    return Answer(**values | changes)


def empty(folder: Path) -> Path:
    """A file without answers."""
    file = folder / "audit.jsonl"
    file.touch()
    return file

"""Counts of the report and the dataset card: stages, sources, splits, leaks, regions, captions."""

from typing import Any

import pandas as pd

from pipelines.records import CAPTION_STATUS, REGION_STATUS, SPLITS
from pipelines.report.config import SourceTerms
from pipelines.report.inputs import Tables

OUTCOMES = ("ok", "rejected", "failed", "duplicates")
COMMON = {"stage", "inputs", *OUTCOMES, "reasons", "seconds", "items_per_second", "peak_memory_mb"}


def stage_rows(summaries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a stage: its counts, whether they add up, its reasons, and what else its summary says."""
    return [
        {
            **summary,
            "reasons": {
                f"{outcome}: {reason}": count
                for outcome, reasons in summary["reasons"].items()
                for reason, count in reasons.items()
            },
            "adds_up": summary["inputs"] == sum(summary[outcome] for outcome in OUTCOMES),
            "extra": {key: value for key, value in summary.items() if key not in COMMON},
        }
        for summary in summaries
    ]


def source_rows(tables: Tables, terms: dict[str, SourceTerms]) -> list[dict[str, Any]]:
    """One row a source: its images, regions, captions and questions, counted from the tables."""
    return [
        {"adapter": source.adapter, "licence": source.licence or "unknown", **_source_row(tables, name)}
        for name, source in terms.items()
    ]


def _source_row(tables: Tables, name: str) -> dict[str, Any]:
    images, regions, captions, questions, rejected = (
        table[table["source"] == name]
        for table in (tables.images, tables.regions, tables.captions, tables.questions, tables.rejected)
    )
    texts = captions[captions["kind"] == "image"]
    usable = regions[(regions["role"] == "input") & (regions["status"] == "accepted")]
    return {
        "name": name,
        "images": len(images),
        "splits": {split: int((images["split"] == split).sum()) for split in SPLITS},
        "groups": images["group"].nunique(),
        "leaks": int(images["leak"].sum()),
        "split_conflicts": int(images["split_conflict"].sum()),
        "modalities": _counts(images["modality"]),
        "rejected": _counts(rejected["reason"]),
        "regions": {role: _statuses(regions[regions["role"] == role], REGION_STATUS) for role in ("input", "truth")},
        "certified": int(usable["certified"].sum()),
        "reviewed": int(regions["review"].notna().sum()),
        "captions": _statuses(texts, CAPTION_STATUS),
        "oracle": int(texts["oracle"].sum()),
        "questions": len(questions),
    }


def leaks(tables: Tables) -> dict[str, Any]:
    """Groups that stand in two splits, and near-duplicates by pair of sources."""
    groups = tables.images.groupby("group")
    spread = groups["split"].nunique()
    unallowed = tables.images[~tables.images["leak"]].groupby("group")["split"].nunique()
    pairs = tables.near_duplicates
    names = [" and ".join(sorted(pair)) for pair in zip(pairs["source"], pairs["other_source"], strict=True)]
    return {
        "groups": len(spread),
        "groups_in_two_splits": int((spread > 1).sum()),
        "not_allowed": int((unallowed > 1).sum()),
        "images": int(tables.images["leak"].sum()),
        "pairs": _counts(pd.Series(names, dtype=object)),
        "across": int((pairs["source"] != pairs["other_source"]).sum()),
    }


def prompts(tables: Tables) -> list[dict[str, Any]]:
    """One row a captioner, kind of item and digest of the prompt files: what its captions became.

    Returns:
        Rows with `captions` in all, `described` (ok or no_finding), `statuses` of the others, `contradictions` of the
        region's measured geometry by code, their `contradiction_share` of what was described (0 to 1), and `warnings`
        by code.
    """
    rows = []
    for (captioner, kind, prompt), found in tables.captions.groupby(["captioner", "kind", "prompt_sha256"]):
        statuses = _statuses(found, CAPTION_STATUS)
        described = statuses.pop("ok") + statuses.pop("no_finding")
        contradictions = _counts(found["contradiction"].dropna())
        rows.append(
            {
                "captioner": captioner,
                "kind": kind,
                "prompt_sha256": prompt,
                "captions": len(found),
                "described": described,
                "statuses": {status: count for status, count in statuses.items() if count},
                "contradictions": contradictions,
                "contradiction_share": sum(contradictions.values()) / described if described else 0.0,
                "warnings": _counts(found["warnings"].explode().dropna()),
            }
        )
    return rows


def _statuses(table: pd.DataFrame, statuses: tuple[str, ...]) -> dict[str, int]:
    return {status: int((table["status"] == status).sum()) for status in statuses}


def _counts(values: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in values.value_counts().sort_index().items()}

"""What the summary of the stage says of its rows, counted one by one as they are written."""

from collections import Counter, defaultdict
from dataclasses import asdict
from typing import Any

from pipelines.captions.report_sides import ReportSides
from pipelines.records import CaptionRow

_Version = tuple[str, str, str]  # captioner, kind, digest of the prompts


class CaptionCounts:
    """Counts rows of `CAPTIONS`."""

    def __init__(self) -> None:
        self._statuses: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._without_summary: Counter[str] = Counter()
        self._oracle = 0
        self._warnings: Counter[str] = Counter()
        self._texts: Counter[_Version] = Counter()
        self._codes: dict[_Version, Counter[str]] = defaultdict(Counter)
        self._sides = ReportSides()

    def add(self, row: CaptionRow) -> None:
        self._statuses[row.source][row.kind][row.status] += 1
        self._oracle += row.oracle
        if row.warnings:
            self._warnings.update(row.warnings)
        if row.kind == "image" and row.status == "ok" and row.summary is None:
            self._without_summary[row.source] += 1
        # A region without a finding has no text.
        if row.status == "ok" or (row.status == "no_finding" and row.kind == "image"):
            version = (row.captioner, row.kind, row.prompt_sha256)
            self._texts[version] += 1
            if row.contradiction is not None:
                self._codes[version][row.contradiction] += 1
        self._sides.add(row)

    def as_summary(self) -> dict[str, Any]:
        """`statuses` by source and kind, images `without_summary` by source, `oracle` rows, `warnings`, how many of the
        accepted texts of each captioner and prompt are `contradictions` of the measured geometry, by code, and
        `report_sides` of region captions by source and basis.
        """
        return {
            "statuses": self._statuses,
            "without_summary": self._without_summary,
            "oracle": self._oracle,
            "warnings": self._warnings,
            "contradictions": [self._contradictions(version) for version in sorted(self._texts)],
            "report_sides": {
                f"{source}, {basis}": asdict(counts) | {"agreement": counts.agreement}
                for (source, basis), counts in self._sides.counts().items()
            },
        }

    def _contradictions(self, version: _Version) -> dict[str, Any]:
        captioner, kind, prompt = version
        texts, codes = self._texts[version], self._codes[version]
        return {
            "captioner": captioner,
            "kind": kind,
            "prompt_sha256": prompt,
            "texts": texts,
            "codes": codes,
            "fraction": round(codes.total() / texts, 4),
        }

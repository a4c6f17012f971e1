"""The parts of a radiology report that say what the image shows: findings and impression.

A section begins at a line with a header in capital letters and a colon (`FINDINGS:`, `HISTORY:`), as in the reports of
MIMIC-CXR. Headers that name no section, such as `PA AND LATERAL CHEST:` or `LUNGS:`, stay in the text of findings and
impression, which go on behind them.
"""

import re
from collections.abc import Iterator
from typing import Literal

from pipelines.ingest.cells import is_null

_Kind = Literal["findings", "impression", "about", "other"]

_HEADER = re.compile(r"^[ \t]*(?:([A-Z][A-Z ,/()&-]*[A-Z)]):|FINAL (?:REPORT|ADDENDUM)[ \t]*$)", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*_{5,}[ \t]*$", re.MULTILINE)  # between a first reading and the final report
_BLANK_LINES = re.compile(r"\n[ \t]*\n")

# What the image shows; why and how it was made, and who was told; a first reading.
_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("FINDING", "FINDINGS"), "findings"),
    **dict.fromkeys(("IMPRESSION", "IMPRESSIONS", "CONCLUSION", "CONCLUSIONS"), "impression"),
    **dict.fromkeys(("EXAM", "EXAMINATION", "STUDY", "PROCEDURE", "TECHNIQUE", "DATE", "CONTRAST", "DOSE"), "about"),
    **dict.fromkeys(("INDICATION", "INDICATIONS", "HISTORY", "REASON", "CLINICAL", "COMPARISON"), "about"),
    **dict.fromkeys(("COMPARISONS", "REFERENCE", "NOTIFICATION", "NOTIFICATIONS", "RECOMMENDATION"), "about"),
    **dict.fromkeys(("RECOMMENDATIONS",), "about"),
    **dict.fromkeys(("WET", "PROVISIONAL", "PRELIMINARY"), "other"),
}


def findings_and_impression(report: str) -> str | None:
    """What a report says of the image, with single spaces: its findings, then its impression.

    Where neither says anything, the last paragraph that belongs to no other section; None where there is none. Marks of
    de-identification (`___`) stay: what stood there is unknown, and a text without them would say something else.
    """
    found: dict[str, list[str]] = {"findings": [], "impression": [], "other": []}
    for kind, text in _sections(report):
        paragraphs = [" ".join(paragraph.split()) for paragraph in _BLANK_LINES.split(text)]
        paragraphs = [paragraph for paragraph in paragraphs if paragraph]
        if kind == "about":
            kind, paragraphs = "other", paragraphs[1:]  # a header's own text ends at a blank line
        found[kind] += [paragraph for paragraph in paragraphs if not is_null(paragraph)]
    return " ".join(found["findings"] + found["impression"] or found["other"][-1:]) or None


def _sections(report: str) -> Iterator[tuple[_Kind, str]]:
    """The sections with their kinds, in the order of the report."""
    report = _RULE.sub("", report.replace("\r\n", "\n"))
    kind: _Kind = "other"
    start = 0
    for header in _HEADER.finditer(report):
        new = _kind(header.group(1))
        if new is None and kind in ("findings", "impression"):
            continue
        yield kind, report[start : header.start()]
        kind, start = new or "other", header.end()
    yield kind, report[start:]


def _kind(header: str | None) -> _Kind | None:
    """What a header's section is; None where its words name none."""
    if header is None:  # the line FINAL REPORT
        return "other"
    return next((_KINDS[word] for word in re.findall(r"[A-Z]+", header) if word in _KINDS), None)

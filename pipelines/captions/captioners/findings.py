"""The captioner `findings`: the paper's JSON from labels, report text and measured geometry, worded by templates.

It knows no disease: a term is the source's label or `region`. Prompt files, all jinja2 templates but the last:

- summary.txt: candidates for the summary, one on each line; the first that keeps the rules is used.
- report.txt: the detailed report of an image without one of its own; a source's own report is passed on as it is.
- region.txt: the region caption, `adjective | term | position`; also makes the negatives, with other adjectives.
- adjectives.txt: the adjectives for negatives, one on each line.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.captions.answer import (
    NEGATIVES,
    ImageAnswer,
    RegionAnswer,
    parse_answer,
    plain_text,
    summary_fault,
    summary_warnings,
)
from pipelines.captions.evidence import has_report, is_no_finding
from pipelines.captions.protocols import Answer, ImageItem, Item, NoAnswer, RegionItem, Settings
from pipelines.captions.templates import Templates, require
from pipelines.config import parse
from pipelines.errors import Rejected, UserError
from pipelines.files import sha256_files
from pipelines.records import CaptionKind

_FILES: dict[CaptionKind, tuple[str, ...]] = {
    "image": ("summary.txt", "report.txt"),
    "region": ("region.txt", "adjectives.txt"),
}

# What the template of a region may use.
_REGION_VALUES = ("adjective", "term", "position", "size", "percent", "side")
# Texts of this template that are kept: one for each adjective, term and position that a study has many of.
_CAPTIONS = 16_384


@dataclass(frozen=True)
class Options:
    """Section `captions.options.findings`: there are none."""


class Findings:
    """Describes without a model.

    Args:
        settings: The seed decides which adjectives the negatives take.

    Raises:
        UserError: A prompt file is missing, is no template, or names fewer than six adjectives.
    """

    sees_pixels = False

    def __init__(self, settings: Settings) -> None:
        parse(Options, settings.options, "captions.options.findings")
        self.prompts = prompts = settings.prompts
        self.seed = settings.seed
        require(prompts, (name for files in _FILES.values() for name in files), "findings")
        self._templates = Templates(prompts, ("summary.txt", "report.txt", "region.txt"))
        self.adjectives = _read_adjectives(prompts / "adjectives.txt")
        self._caption = lru_cache(maxsize=_CAPTIONS)(self._rendered_caption)
        # A text is kept under the values that its template names, beside the adjective.
        self._used = self._templates.values_used("region.txt", _REGION_VALUES) - {"adjective"}

    def describe(self, items: Iterable[Item]) -> Iterator[Answer]:
        for item in items:
            try:
                yield self._describe_image(item) if isinstance(item, ImageItem) else self._describe_region(item)
            except Rejected as error:
                yield NoAnswer(status="rejected", reason=error.reason)

    def prompt_sha256(self, kind: CaptionKind) -> str:
        return sha256_files(self.prompts, [self.prompts / name for name in _FILES[kind]])

    def counts(self) -> dict[str, Any]:
        return {}

    def _describe_image(self, item: ImageItem) -> ImageAnswer:
        values = _image_values(item)
        if has_report(item.image):
            report = item.image.report
        else:
            report = _join_lines(self._templates.render("report.txt", values), " ")
        summary = self._summarise(item, values)
        return parse_answer(ImageAnswer, {"summary_caption": summary, "detailed_report": report})

    def _summarise(self, item: ImageItem, values: dict[str, Any]) -> str | None:
        """From labels or named regions; where there are no labels, the first sentence of the report that may be one."""
        if item.image.labels is None and item.image.report and has_report(item.image):
            sentences = re.split(r"(?<=[.!?])\s+", " ".join(item.image.report.split()))
            if summary := next((sentence for sentence in sentences if _is_full(sentence)), None):
                return summary
            if not item.regions:
                return None
        candidates = _join_lines(self._templates.render("summary.txt", values), "\n").split("\n")
        return next((line for line in candidates if _is_full(line)), candidates[-1])

    def _describe_region(self, item: RegionItem) -> RegionAnswer:
        values = _region_values(item)
        adjectives = (values["adjective"], *self.negative_adjectives(values["adjective"], item.region_id))
        others = tuple((name, values[name]) for name in self._used)
        captions = [self._caption(adjective, others) for adjective in adjectives]
        return parse_answer(RegionAnswer, {"region_extraction": captions[0], "negative_variations": captions[1:]})

    def _rendered_caption(self, adjective: str, others: tuple[tuple[str, Any], ...]) -> str:
        return self._templates.render("region.txt", {**dict(others), "adjective": adjective}).strip()

    def negative_adjectives(self, adjective: str, region_id: str) -> list[str]:
        """Five adjectives of the vocabulary other than `adjective`, always the same for one region and seed."""
        others = [other for other in self.adjectives if other.casefold() != adjective.casefold()]
        digest = hashlib.sha256(f"{self.seed} {region_id}".encode()).digest()
        chosen = np.random.default_rng(int.from_bytes(digest)).choice(len(others), NEGATIVES, replace=False)
        return [others[index] for index in chosen]


def _is_full(summary: str) -> bool:
    """10 to 15 words, and no rule broken."""
    return summary_fault(summary) is None and not summary_warnings(summary)


def _image_values(item: ImageItem) -> dict[str, Any]:
    """What the templates of an image may use."""
    labels = None if item.image.labels is None else [plain_text(label) for label in item.image.labels]
    regions = [_region_values(region) for region in item.regions]
    if labels is None:
        named = [values for values, region in zip(regions, item.regions, strict=True) if region.label is not None]
        principal = next(iter(named or regions), None)
    else:
        principal = next((values for values in regions if values["term"] in labels), None)
    return {
        "name": item.modality.name[:1].upper() + item.modality.name[1:],
        "side": "patient" if item.patient_side else "image",
        "view": item.image.view,
        "no_finding": is_no_finding(item.image),
        "labels": labels,
        "regions": regions,
        "principal": principal,
    }


def _region_values(item: RegionItem) -> dict[str, Any]:
    """`_REGION_VALUES` of a region."""
    return {
        "adjective": plain_text(item.adjective or "").lower() or item.geometry.shape,
        "term": plain_text(item.label or "") or "region",
        "position": item.geometry.position,
        "size": item.geometry.size,
        "percent": round(100 * item.geometry.area_fraction, 1),
        "side": "patient" if item.patient_side else "image",
    }


def _join_lines(text: str, separator: str) -> str:
    return separator.join(line for line in (" ".join(line.split()) for line in text.splitlines()) if line)


def _read_adjectives(path: Path) -> list[str]:
    adjectives = {
        plain_text(line).casefold() for line in path.read_text(encoding="utf-8").splitlines() if plain_text(line)
    }
    if len(adjectives) <= NEGATIVES:
        raise UserError(f"{path} names {len(adjectives)} different adjectives: negatives need at least {NEGATIVES + 1}")
    return sorted(adjectives)

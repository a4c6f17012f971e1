"""Counts of the report and the dataset card: stages, sources, splits, leaks, regions, captions."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pipelines.records import CAPTION_STATUS, REGION_STATUS, SPLITS, CaptionRow, SplitImageRow
from pipelines.report.config import SourceTerms
from pipelines.report.evidence import evidence
from pipelines.report.inputs import Tables

OUTCOMES = ("ok", "rejected", "failed", "duplicates")
COMMON = {"stage", "inputs", *OUTCOMES, "reasons", "seconds", "items_per_second", "peak_memory_mb"}


@dataclass(frozen=True, kw_only=True)
class SourceCounts:
    """What the tables hold of one source.

    Attributes:
        name: The source.
        adapter: The plug-in that reads it.
        licence: Its licence, `unknown` where params.yaml says nothing.
        images: Images.
        splits: Images of each split.
        groups: Groups of images of one patient or scene.
        leaks: Images marked as leaks of a published split.
        split_conflicts: Images that the source lists in more than one split.
        without_group_information: Images without patient, study and another slice of their file: nothing but pixels
            says which images belong together.
        with_report: Images with a report.
        several_reports: Images with more than one report.
        with_attributes: Images of which the source says more than findings.
        look_alikes: What looks like a finding in the images and is none, as the source says.
        phrases: Accepted regions about which the source has a sentence of its own.
        labelled: Images whose source says whether there is a finding.
        kinds_of_labels: Different sets of labels among them.
        findings: Images of each label.
        modalities: Images of each modality.
        burned_in_policy: What becomes of images with text in their pixels; None: nobody looks.
        burned_in: Images of each value of the column `burned_in`.
        rejected: Rejected rows of each reason code.
        regions: Role -> status -> regions.
        certified: Certified regions among the accepted ones that a method may see.
        given: Those of them that the source annotated, or that a reviewer drew or accepted, and that are not certified.
        reviewed: Regions with a reviewer's decision.
        captions: Captions of images by status.
        texts: Images whose caption has a report.
        different_texts: Different ones among these reports.
        oracle: Captions of images made from annotations of validation or test images.
        questions: Questions.
    """

    name: str
    adapter: str
    licence: str
    images: int
    splits: dict[str, int]
    groups: int
    leaks: int
    split_conflicts: int
    without_group_information: int
    with_report: int
    several_reports: int
    with_attributes: int
    look_alikes: int
    phrases: int
    labelled: int
    kinds_of_labels: int
    findings: dict[str, int]
    modalities: dict[str, int]
    burned_in_policy: str | None
    burned_in: dict[str, int]
    rejected: dict[str, int]
    regions: dict[str, dict[str, int]]
    certified: int
    given: int
    reviewed: int
    captions: dict[str, int]
    texts: int
    different_texts: int
    oracle: int
    questions: int

    @property
    def text_in_pixels(self) -> str:
        """The source's policy for text in pixels, and what came of it, in a sentence."""
        images, rejected = Counter(self.burned_in), Counter(self.rejected)
        said = {
            None: "nobody looked.",
            "flag": f"looked for and kept; found in {images['found']} images.",
            "mask": f"looked for and painted black in {images['hidden']} images; "
            f"{rejected['burned_in_text_remains']} rows, whose images still had text, were rejected.",
            "reject": f"looked for; {rejected['burned_in_text']} rows, whose images had text, were rejected.",
        }
        stated = images["stated"]
        return said[self.burned_in_policy] + (f" Of {stated} images the DICOM header states it." if stated else "")


@dataclass(frozen=True, kw_only=True)
class LeakCounts:
    """Groups that stand in more than one split, and near-duplicates.

    Attributes:
        groups: All groups.
        groups_in_two_splits: Those that stand in more than one split.
        not_allowed: Those of them that params.yaml does not allow.
        images: Images marked as leaks of a published split.
        pairs: Near-duplicate pairs of each pair of sources.
        cross_source: Near-duplicate pairs across two sources.
        near_training: Test images of which a near-duplicate is a training image.
    """

    groups: int
    groups_in_two_splits: int
    not_allowed: int
    images: int
    pairs: dict[str, int]
    cross_source: int
    near_training: int = 0


@dataclass(frozen=True, kw_only=True)
class PromptCounts:
    """The captions of one captioner, kind of item and digest of the prompt files.

    Attributes:
        captioner: The captioner.
        kind: image or region.
        prompt_sha256: Digest of the prompt files.
        captions: All captions.
        described: Those with the status ok or no_finding.
        statuses: The others by status.
        contradictions: Captions that contradict the region's measured geometry, by code.
        contradiction_fraction: Their fraction (0 to 1) of what was described.
        warnings: Warnings by code.
    """

    captioner: str
    kind: str
    prompt_sha256: str
    captions: int
    described: int
    statuses: dict[str, int]
    contradictions: dict[str, int]
    contradiction_fraction: float
    warnings: dict[str, int]


class _OfSource(Protocol):
    @property
    def source(self) -> str: ...


class _WithStatus(Protocol):
    @property
    def status(self) -> str: ...


RowT = TypeVar("RowT", bound=_OfSource)


def stage_rows(summaries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each stage: its counts, whether they add up, its reasons, and what else its summary holds."""
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


def source_counts(tables: Tables, terms: dict[str, SourceTerms]) -> list[SourceCounts]:
    """The counts of each source, from the tables."""
    return [_source_counts(tables, name, source) for name, source in terms.items()]


def _source_counts(tables: Tables, name: str, terms: SourceTerms) -> SourceCounts:
    images = _of_source(tables.images, name)
    regions = _of_source(tables.regions, name)
    usable = [row for row in regions if row.role == "input" and row.status == "accepted"]
    texts = [row for row in _of_source(tables.captions, name) if row.kind == "image"]
    splits = Counter(row.split for row in images)
    slices = Counter((row.path, row.member) for row in images)
    labels = [row.labels for row in images if row.labels is not None]
    return SourceCounts(
        name=name,
        adapter=terms.adapter,
        licence=terms.licence or "unknown",
        images=len(images),
        splits={split: splits[split] for split in SPLITS},
        groups=len({row.group for row in images}),
        leaks=sum(row.leak for row in images),
        split_conflicts=sum(row.split_conflict for row in images),
        without_group_information=sum(
            row.patient is None and row.study is None and slices[row.path, row.member] == 1 for row in images
        ),
        with_report=sum(bool(row.report) for row in images),
        several_reports=sum(bool(row.other_reports) for row in images),
        with_attributes=sum(bool(row.attributes) for row in images),
        look_alikes=sum(len(row.look_alikes) for row in images),
        phrases=sum(row.phrase is not None and row.status == "accepted" for row in regions),
        labelled=len(labels),
        kinds_of_labels=len({frozenset(of_image) for of_image in labels}),
        findings=_counts(label for of_image in labels for label in of_image),
        modalities=_counts(row.modality for row in images),
        burned_in_policy=terms.burned_in,
        burned_in=_counts(row.burned_in for row in images if row.burned_in),
        rejected=_counts(row.reason for row in _of_source(tables.rejected, name)),
        regions={
            role: _statuses([row for row in regions if row.role == role], REGION_STATUS) for role in ("input", "truth")
        },
        certified=sum(row.certified for row in usable),
        given=sum(evidence(row) == "given" for row in usable),
        reviewed=sum(row.review is not None for row in regions),
        captions=_statuses(texts, CAPTION_STATUS),
        texts=sum(row.report is not None for row in texts),
        different_texts=len({row.report for row in texts} - {None}),
        oracle=sum(row.oracle for row in texts),
        questions=len(_of_source(tables.questions, name)),
    )


def leak_counts(tables: Tables) -> LeakCounts:
    """Counts over the whole dataset."""
    pairs = tables.near_duplicates
    return LeakCounts(
        groups=len({row.group for row in tables.images}),
        groups_in_two_splits=_groups_in_two_splits(tables.images),
        not_allowed=_groups_in_two_splits(row for row in tables.images if not row.leak),
        images=sum(row.leak for row in tables.images),
        pairs=_counts(" and ".join(sorted((pair.source, pair.other_source))) for pair in pairs),
        cross_source=sum(pair.source != pair.other_source for pair in pairs),
        near_training=_near_training(tables),
    )


def _near_training(tables: Tables) -> int:
    split = {row.image_id: row.split for row in tables.images}
    ends = [(pair.image_id, pair.other_id) for pair in tables.near_duplicates]
    ends += [(other, image) for image, other in ends]
    return len({image for image, other in ends if (split.get(image), split.get(other)) == ("test", "train")})


def _groups_in_two_splits(images: Iterable[SplitImageRow]) -> int:
    splits = defaultdict(set)
    for row in images:
        splits[row.group].add(row.split)
    return sum(len(group) > 1 for group in splits.values())


def prompt_counts(tables: Tables) -> list[PromptCounts]:
    """The counts of each captioner, kind of item and digest of the prompt files."""
    groups: dict[tuple[str, str, str], list[CaptionRow]] = defaultdict(list)
    for row in tables.captions:
        groups[row.captioner, row.kind, row.prompt_sha256].append(row)
    return [_prompt_counts(*key, groups[key]) for key in sorted(groups)]


def _prompt_counts(captioner: str, kind: str, prompt_sha256: str, rows: list[CaptionRow]) -> PromptCounts:
    statuses = _statuses(rows, CAPTION_STATUS)
    described = statuses.pop("ok") + statuses.pop("no_finding")
    contradictions = _counts(row.contradiction for row in rows if row.contradiction is not None)
    return PromptCounts(
        captioner=captioner,
        kind=kind,
        prompt_sha256=prompt_sha256,
        captions=len(rows),
        described=described,
        statuses={status: count for status, count in statuses.items() if count},
        contradictions=contradictions,
        contradiction_fraction=sum(contradictions.values()) / described if described else 0.0,
        warnings=_counts(warning for row in rows for warning in row.warnings or ()),
    )


def _of_source(rows: Iterable[RowT], source: str) -> list[RowT]:
    return [row for row in rows if row.source == source]


def _statuses(rows: Iterable[_WithStatus], statuses: tuple[str, ...]) -> dict[str, int]:
    counts = Counter(row.status for row in rows)
    return {status: counts[status] for status in statuses}


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))

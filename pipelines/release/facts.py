"""What the card, the datasheet and Croissant say of a release, from its tables."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.verified import sha256_file
from pipelines.audit.config import AuditConfig
from pipelines.audit.result import agreements, audit_figures
from pipelines.config import load, load_params
from pipelines.files import read_summary
from pipelines.records import CAPTIONS, NEAR_DUPLICATES, REGIONS, REJECTED, SPLIT_IMAGES, SPLITS, RegionRow
from pipelines.release.config import ReleaseConfig
from pipelines.release.contents import Contents
from pipelines.report.counts import LeakCounts, PromptCounts, SourceCounts, leak_counts, prompt_counts, source_counts
from pipelines.report.inputs import Paths, Tables
from pipelines.report.provenance import git_state
from pipelines.tracking.paths import without_machine_paths
from pipelines.weights import weights_sha256


@dataclass(frozen=True, kw_only=True)
class Model:
    """A program or model that made regions or captions.

    Attributes:
        kind: proposer, segmenter or captioner.
        plugin: Its name in params.yaml.
        model: The weights it runs: a name without the folder it lies in; None: it has none.
        revision: Of weights on a hub.
        sha256: Of the files of weights in a folder; None: they lie elsewhere.
    """

    kind: str
    plugin: str
    model: str | None = None
    revision: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a release.

    Attributes:
        settings: Name, version and the use it is passed on for.
        contents: The tables.
        sources: Counts of each released source.
        leaks: Groups in two splits, and near-duplicates.
        findings: Finding -> images of each split that the source says have it.
        region_labels: Finding -> accepted regions of each role.
        prompts: Captions of each captioner, kind and digest of the prompt files.
        models: What made regions and captions.
        risk_control: The guarantee of the regions, as the stage `regions` wrote it; None: there is none.
        audit: `figures` of the audit by people, of released sources, its `agreements` and the intervals' `confidence`.
        confidential: Released sources whose patient ids are confidential.
        params_sha256: Of params.yaml.
        git: Commit, and whether files differ from it; None: no commit.
        tables: Table -> SHA-256.
    """

    settings: ReleaseConfig
    contents: Contents
    sources: list[SourceCounts]
    leaks: LeakCounts
    findings: dict[str, dict[str, int]]
    region_labels: dict[str, dict[str, int]]
    prompts: list[PromptCounts]
    models: list[Model]
    risk_control: dict[str, Any] | None
    audit: dict[str, Any]
    confidential: list[str]
    params_sha256: str
    git: dict[str, Any] | None
    tables: dict[str, str]

    @property
    def images(self) -> int:
        return len(self.contents.rows)

    @property
    def splits(self) -> dict[str, int]:
        return {split: len(self.contents.images.get(split, ())) for split in SPLITS}

    @property
    def modalities(self) -> dict[str, dict[str, int]]:
        """Modality -> images of each split."""
        return _by_split((row.modality, split) for split, rows in self.contents.images.items() for row in rows)

    @property
    def licences(self) -> list[str]:
        return sorted({self.contents.licence(source) for source in self.contents.terms})

    @property
    def left_out_images(self) -> int:
        return sum(one.images for one in self.contents.left_out)


def gather(settings: ReleaseConfig, contents: Contents, paths: Paths) -> Facts:
    """The facts of a release.

    Args:
        settings: Section `release`.
        contents: What is released.
        paths: Where the study lies.
    """
    params = load_params(paths.params)
    near = [
        pair
        for pair in NEAR_DUPLICATES.read(paths.tables["near_duplicates"])
        if {pair.source, pair.other_source} <= contents.terms.keys()
    ]
    tables = Tables(
        images=contents.rows,
        questions=[question for questions in contents.questions.values() for question in questions],
        near_duplicates=near,
        regions=[region for regions in contents.regions.values() for region in regions],
        captions=list(contents.captions.values()),
        rejected=[row for source in contents.terms for row in REJECTED.read(paths.rejected(source))],
    )
    return Facts(
        settings=settings,
        contents=contents,
        sources=source_counts(tables, contents.terms),
        leaks=leak_counts(tables),
        findings=_by_split(
            (label, split)
            for split, rows in contents.images.items()
            for row in rows
            for label in (("no finding",) if row.labels == () else row.labels or ())
        ),
        region_labels=_region_labels(tables.regions),
        prompts=prompt_counts(tables),
        models=_models(params),
        risk_control=read_summary(paths.data / "summaries/regions.json").get("risk_control"),
        audit=_audit(contents, paths),
        confidential=[name for name in contents.terms if _is_confidential(params, name)],
        params_sha256=sha256_file(paths.params),
        git=git_state(paths.params.resolve().parent),
        tables={name: sha256_file(path) for name, path in paths.tables.items()},
    )


def _audit(contents: Contents, paths: Paths) -> dict[str, Any]:
    """What people found; of a release without some sources the figures of its own strata alone."""
    settings, files = load(AuditConfig, "audit", paths.params), paths.tables
    known = (
        paths.params.parent / settings.answers,
        SPLIT_IMAGES.read(files["images"]),
        REGIONS.read(files["regions"]),
        CAPTIONS.read(files["captions"]),
        settings,
    )
    left_out = {one.source for one in contents.left_out} - contents.terms.keys()
    figures = [
        figure
        for figure in audit_figures(*known)
        if not left_out or figure.stratum.rpartition(", ")[0] in contents.terms
    ]
    return {
        "figures": figures,
        "agreements": [] if left_out else agreements(*known),
        "confidence": settings.confidence,
    }


def _by_split(pairs: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Name -> occurrences in each split, from pairs of both."""
    counts: dict[str, Counter[str]] = {}
    for name, split in pairs:
        counts.setdefault(name, Counter())[split] += 1
    return {name: {split: counts[name][split] for split in SPLITS} for name in sorted(counts)}


def _region_labels(regions: Iterable[RegionRow]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for region in regions:
        counts.setdefault(region.label or "(unnamed)", Counter())[region.role] += 1
    return {name: {role: counts[name][role] for role in ("input", "truth")} for name in sorted(counts)}


def _is_confidential(params: dict[str, Any], source: str) -> bool:
    return params["ingest"]["sources"][source].get("patient_ids") != "public"


def _models(params: dict[str, Any]) -> list[Model]:
    proposals, captions = params["proposals"], params["captions"]
    named = [
        *(("proposer", name, proposals) for name in proposals["proposers"]),
        ("segmenter", proposals["segmenter"], proposals),
        ("captioner", captions["captioner"], captions),
    ]
    return [_model(kind, name, (section.get("options") or {}).get(name) or {}) for kind, name, section in named]


def _model(kind: str, name: str, options: dict[str, Any]) -> Model:
    model = options.get("model")
    folder = Path(model) if isinstance(model, str) and Path(model).is_dir() else None
    return Model(
        kind=kind,
        plugin=name,
        model=without_machine_paths(model),
        revision=options.get("revision"),
        sha256=None if folder is None else weights_sha256(folder),
    )

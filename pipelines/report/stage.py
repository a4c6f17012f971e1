"""Stage `report`: what the pipeline did and what came of it, on one page, and the card that goes with the dataset.

Reads: params.yaml; data/split/, data/regions/, data/captions/ and data/ingest/<source>/rejected.parquet (tables);
    data/summaries/*.json, data/shards/<family>/manifest.json, data/checkpoints/<method>/curve.json,
    data/evaluation/<method>/ (metrics.json, items.parquet and plots), as far as they are there;
    the file that `audit.answers` names;
    the sources' image files, for the gallery.
Writes: data/report/index.html and rejected.html (open without a network), verdict.json, gallery.png, comparison.csv,
    dataset_card.md;
    data/plots/, the curves of all methods for `dvc plots`;
    data/summaries/report.json.
Run alone: `python -m pipelines.report`.

Texts of the data (reports, captions, labels) are data: jinja2 escapes every one of them. Raw files are not named.
"""

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from models.verified import read_bytes
from pipelines import config
from pipelines.audit.config import AuditConfig
from pipelines.audit.result import agreements, audit_figures
from pipelines.files import atomic_folder, read_output, write_text
from pipelines.records import SplitImageRow
from pipelines.report import comparison, counts, curves
from pipelines.report.card import card_head
from pipelines.report.config import ReportConfig, SourceTerms, load_terms
from pipelines.report.contact_sheet import write_contact_sheet
from pipelines.report.gallery import gallery
from pipelines.report.inputs import Paths, Tables, read_results, read_summaries, read_tables
from pipelines.report.page_images import ImageEntry, data_uri
from pipelines.report.pages import templates
from pipelines.report.pictures import pictures
from pipelines.report.plots import write_plots
from pipelines.report.provenance import provenance
from pipelines.report.rejected import rejected_groups
from pipelines.report.sides import sides_facts
from pipelines.report.statistics import source_statistics
from pipelines.report.verdict.finding import first_screen, write_verdict
from pipelines.report.verdict.study import study_verdict
from pipelines.sources import Sources, load_sources
from pipelines.stage import SUMMARIES, Summary
from pipelines.weights import used_weights

logger = logging.getLogger(__name__)

# Keys of curve.json that the plot and its caption show.
PLOTTED = ("method", "steps", "phases", "validation", "best_epoch", "stopped_early")


def main() -> None:
    paths = Paths()
    run(config.load(ReportConfig, "report"), load_sources(), load_terms(), paths, Path("data/report"))
    write_plots(paths, config.method_names(paths.params), Path("data/plots"))


def run(
    settings: ReportConfig,
    sources: Sources,
    terms: dict[str, SourceTerms],
    paths: Paths,
    output: Path,
    summaries: Path = SUMMARIES,
) -> dict[str, Any]:
    """Write the folder `output`.

    Args:
        settings: Section `report`.
        sources: Where the images are, and how large one may be.
        terms: Adapter and licence of each source.
        paths: Where the inputs lie.
        output: Replaced as a whole.
        summaries: Folder of the summaries, this stage's included.

    Returns:
        The summary; its inputs are the images of both pages.
    """
    summary = Summary("report")
    tables = read_tables(paths, list(sources.roots))
    stage_summaries = read_summaries(summaries)
    methods = sorted(config.method_names(paths.params))
    curve_files = read_results(paths.data / "checkpoints", "curve.json", methods)
    # Where training stopped (`make run`), an evaluation is of a checkpoint that is there no more.
    results = read_results(paths.data / "evaluation", "metrics.json", list(curve_files))
    manifests = [paths.data / "shards" / family / "manifest.json" for family in ("images", "captions")]
    facts: dict[str, Any] = {
        "stages": counts.stage_rows(stage_summaries),
        "sources": counts.source_counts(tables, terms),
        "leaks": counts.leak_counts(tables),
        "prompts": counts.prompt_counts(tables),
        "sides": sides_facts(tables, stage_summaries),
        "risk_control": next((values["risk_control"] for values in stage_summaries if "risk_control" in values), None),
        "pictures": pictures(source_statistics(tables, list(sources.roots))),
        "audit": _audit(tables, paths),
        "gallery": gallery(tables, sources, settings.gallery),
        "rejected": rejected_groups(tables, sources, settings.rejected),
        "curves": {method: _training(curve) for method, curve in curve_files.items()},
        "tasks": comparison.task_tables(results, _timings(stage_summaries)),
        "methods": {method: result["checkpoint_sha256"] for method, result in results.items()},
        "plots": _plots(paths.data / "evaluation", list(results)),
        "paper": comparison.PAPER_SETTING,
        "ours": _our_setting(tables.images, curve_files, manifests[0]),
        "weights": used_weights(config.load_params(paths.params), paths.params.parent),
        "provenance": provenance(paths.params, [paths.params, *paths.tables.values(), *manifests]),
    }
    environment = templates()
    facts["verdict"] = study_verdict(
        **{name: facts[name] for name in ("sources", "leaks", "prompts", "sides", "risk_control")},
        summaries=stage_summaries,
        audit=facts["audit"]["figures"],
        curves=curve_files,
        results=results,
    )
    facts["first_screen"] = first_screen(facts["verdict"])
    with atomic_folder(output) as folder:
        for page in ("index.html", "rejected.html"):
            write_text(folder / page, environment.get_template(f"{page}.j2").render(facts))
        head = yaml.safe_dump(card_head(facts["sources"]), sort_keys=False, allow_unicode=True)
        write_text(folder / "dataset_card.md", environment.get_template("dataset_card.md.j2").render(facts, head=head))
        write_verdict(folder / "verdict.json", facts["verdict"])
        write_contact_sheet(folder / "gallery.png", itertools.chain(*facts["gallery"].values()))
        comparison.write_csv(folder / "comparison.csv", comparison.score_rows(results))
    logger.info("report: %s", (output / "index.html").resolve().as_uri())
    return _count(facts, summary, summaries)


def _count(facts: dict[str, Any], summary: Summary, summaries: Path) -> dict[str, Any]:
    """Write the summary: an image that could not be opened is failed; its page shows the reason instead."""
    examples = [group.examples for group in facts["rejected"]]
    entries = [
        entry
        for entries in [*facts["gallery"].values(), *examples]
        for entry in entries
        if isinstance(entry, ImageEntry)
    ]
    for entry in entries:
        if entry.page_image.reason is None:
            summary.ok()
        else:
            summary.failed(entry.page_image.reason)
    return summary.write(len(entries), summaries)


def _audit(tables: Tables, paths: Paths) -> dict[str, Any]:
    """What people found in the audit: figures, and how far they agree."""
    settings = config.load(AuditConfig, "audit", paths.params)
    known = paths.params.parent / settings.answers, tables.images, tables.regions, tables.captions, settings
    return {"figures": audit_figures(*known), "agreements": agreements(*known), "confidence": settings.confidence}


def _training(curve: dict[str, Any]) -> dict[str, Any]:
    facts = {key: value for key, value in curve.items() if key not in PLOTTED and value != {}}
    if not curve["steps"]:
        return {"plot": None, "facts": facts}
    plot = data_uri(curves.loss_curve(curve), "image/svg+xml")
    shown = {key: curve.get(key) for key in ("steps", "validation", "best_epoch", "stopped_early")}
    return {"plot": plot, "facts": facts, **shown}


def _timings(summaries: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """Method -> task -> time by name, of the summaries of `evaluate`."""
    return {
        summary["stage"].removeprefix("evaluate-"): summary["timings"] for summary in summaries if "timings" in summary
    }


def _plots(folder: Path, methods: Sequence[str]) -> list[dict[str, str]]:
    return [
        {"method": method, "task": path.stem, "uri": data_uri(read_bytes(path), "image/svg+xml")}
        for method in methods
        for path in sorted((folder / method).glob("*.svg"))
    ]


def _our_setting(images: list[SplitImageRow], curve_files: dict[str, Any], manifest: Path) -> dict[str, str]:
    """The lines of `comparison.PAPER_SETTING` for this run."""
    method = curve_files.get(comparison.PAPER_METHOD, {})
    trained = method.get("samples", sum(image.split == "train" for image in images))
    size = f"{read_output(manifest)['image_size']} pixels" if manifest.is_file() else "unknown size"
    sources = ", ".join(method.get("sources") or dict.fromkeys(image.source for image in images))
    return {
        "data": f"{sources}; zero-shot: the labels of the same test images",
        "pool": "as printed in the table; captions made from annotations are left out",
        "weights": f"{method['parameters']:,} parameters, at {size}" if method else "not trained",
        "scale": f"{trained:,} training images" + (f", {len(method['steps']):,} logged steps" if method else ""),
    }

"""What went in, what was lost of it and why, and what each source does not say of its images."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipelines.ingest import warning_texts
from pipelines.report.counts import SourceCounts
from pipelines.report.verdict.finding import Finding, Level
from pipelines.report.verdict.words import counted, listed, percent

TOPIC = "data"
# From this fraction of a source's rows a loss is no accident.
MUCH_LOST = 0.1
# Adapters with the option `modality`.
WITH_MODALITY = ("table", "lvit", "image_mask_folders", "prompt_json", "class_folders", "coco")
# What tables of images say more exactly.
TOLD_BY_IMAGES = (warning_texts.NO_TEXT, warning_texts.NO_PATIENT)
# Counts of a summary of `ingest`, in words.
PASSING = {
    "labels_differ": "rows have other labels than the first row of their image",
    "no_finding_with_annotations": "images say that there is no finding and have annotated regions",
    "clipped_boxes": "boxes reached over an edge and were clipped",
    "patients_joined": "patients became one with another, for they share an image",
    "questions_repeated": "questions stand there twice",
}


def source_findings(sources: Iterable[SourceCounts], summaries: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Of each source: the rows, what its summary warns of, and what is unknown of its images.

    Args:
        sources: From the tables.
        summaries: Of all stages; those of `ingest` count.
    """
    by_stage = {summary["stage"]: summary for summary in summaries}
    for source in sources:
        summary = by_stage.get(f"ingest-{source.name}")
        if summary is not None:
            yield rows_of_source(source, summary)
            yield from warnings_of_source(source, summary.get("warnings", ()))
            yield from counted_in_passing(source.name, summary)
        yield from unknowns(source)


def rows_of_source(source: SourceCounts, summary: Mapping[str, Any]) -> Finding:
    """How many rows became images, and what became of the others."""
    inputs, lost = summary["inputs"], summary["rejected"] + summary["failed"]
    text = f"{source.name}: {summary['ok']:,} of {counted(inputs, 'row')} became images"
    if source.modalities.keys() - {"other"}:
        text += f" ({listed(source.modalities)})"
    for outcome in ("rejected", "failed"):
        if summary[outcome]:
            text += f"; {summary[outcome]:,} {outcome}: {listed(summary['reasons'].get(outcome, {}))}"
    if summary["duplicates"]:
        text += f"; {summary['duplicates']:,} show the pixels of an earlier row and were added to it"
    level: Level = "ok"
    if lost:
        level = "wrong" if summary["failed"] or lost >= MUCH_LOST * inputs else "warning"
        text += f" ({percent(lost, inputs)} of the rows are lost)"
    return Finding(level=level, topic=TOPIC, text=f"{text}.", action=_action_on_loss(source.name, summary))


def _action_on_loss(name: str, summary: Mapping[str, Any]) -> str | None:
    if summary["failed"]:
        return f"mend the cause, then run: dvc repro --force --single-item ingest@{name} && dvc repro"
    if not summary["rejected"]:
        return None
    reasons = summary["reasons"].get("rejected", {})
    look = f"python -m pipelines.ingest.inspect {name} shows rows of each reason"
    if reasons.get("missing_file", 0) == max(reasons.values(), default=None):
        return f"put the files under ingest.sources.{name}.root, or correct their names in the listing; {look}"
    return f"correct these rows; {look}"


def warnings_of_source(source: SourceCounts, sentences: Iterable[str]) -> Iterator[Finding]:
    """What `ingest` warned of; an unused column that resembles one of ours is wrong, for its content is lost."""
    options = f"ingest.sources.{source.name}.options"
    actions = {
        warning_texts.UNUSED_COLUMNS: f"name the columns in {options}.columns (ours: theirs), those of one finding "
        f"each in {options}.label_columns",
        warning_texts.UNUSED_WORDS: f"correct {options}.values",
        warning_texts.LABELS_IN_TWO_CASES: f"join them in {options}.values.labels",
        warning_texts.FOLDER_LABELS: f"say in {options}.classes what they mean; null: no finding",
        warning_texts.STATED_TEXT: f"ingest.sources.{source.name}.burned_in: flag, mask or reject",
        warning_texts.LINKED_FOLDERS: f"ingest.sources.{source.name}.root: put the folders themselves there",
        warning_texts.UNLISTED_IMAGES: "add rows for them, or take them away; "
        f"python -m pipelines.ingest.inspect {source.name} names some",
    }
    for sentence in sentences:
        if sentence in TOLD_BY_IMAGES:
            continue
        is_lost = sentence.startswith(warning_texts.UNUSED_COLUMNS) and warning_texts.DID_YOU_MEAN in sentence
        action = next((action for start, action in actions.items() if sentence.startswith(start)), None)
        text = f"{source.name}: {sentence}."
        yield Finding(level="wrong" if is_lost else "warning", topic=TOPIC, text=text, action=action)


def counted_in_passing(name: str, summary: Mapping[str, Any]) -> Iterator[Finding]:
    """Contradictions and losses within rows that stayed, in one sentence."""
    words = [f"{summary[key]:,} {text}" for key, text in PASSING.items() if summary.get(key)]
    if summary.get("left_out"):
        words.append(f"parts that cannot be read or that no row names were left out ({listed(summary['left_out'])})")
    # A report that a further row repeats word for word is no loss.
    dropped = {column: count for column, count in summary.get("dropped", {}).items() if column != "report"}
    if dropped:
        words.append(f"further rows of an image said something else, which was dropped ({listed(dropped)})")
    if words:
        look = f"python -m pipelines.ingest.inspect {name} shows the source row by row"
        yield Finding(level="warning", topic=TOPIC, text=f"{name}: {'; '.join(words)}.", action=look)


def unknowns(source: SourceCounts) -> Iterator[Finding]:
    """What nobody says of the source's images: patient, text, findings, kind of image, licence."""
    if not source.images:
        return
    name, images = source.name, source.images
    options = f"ingest.sources.{name}.options"

    def column(ours: str) -> str | None:
        return f"a column {ours}, or yours named in {options}.columns.{ours}" if source.adapter == "table" else None

    if count := source.without_group_information:
        text = (
            f"{name}: of {_of(count, images)} nobody says whose they are; only equal or nearly equal pixels keep "
            "images of one patient in one split."
        )
        yield Finding(level="warning", topic="patients", text=text, action=column("patient_id"))
    if not source.with_report:
        text = f"{name}: no image has a report; its texts can be made from labels and regions alone."
        yield Finding(level="warning", topic="text", text=text, action=column("text"))
    if not source.labelled:
        text = f"{name}: no image has labels; whether there is a finding is unknown, and no classification is scored."
        yield Finding(level="warning", topic="labels", text=text, action=column("labels"))
    elif source.kinds_of_labels == 1 and source.labelled > 1:
        same = ", ".join(source.findings) or "no finding"
        text = (
            f"{name}: all {source.labelled:,} labelled images have the same labels ({same}); nothing tells them apart."
        )
        action = "add images without them, or with others; a cell [] says that there is no finding"
        yield Finding(level="wrong", topic="labels", text=text, action=action)
    if count := source.modalities.get("other", 0):
        text = f"{name}: the kind of image of {_of(count, images)} is unknown (modality other)."
        setting = f"{options}.modality" if source.adapter in WITH_MODALITY else None
        yield Finding(level="warning", topic="modality", text=text, action=setting)
    if source.licence == "unknown":
        text = f"{name}: its licence is unknown; promotion refuses what was trained on it."
        yield Finding(level="warning", topic="licence", text=text, action=f"ingest.sources.{name}.licence")


def _of(count: int, images: int) -> str:
    return f"all {counted(images, 'image')}" if count == images else f"{count:,} of {counted(images, 'image')}"

"""Captions: how many are accepted, how many contradict what was measured, and how many images have no text."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from pipelines.captions.report_sides import ReportSideCounts
from pipelines.report.counts import PromptCounts, SourceCounts
from pipelines.report.verdict.finding import Finding, Level
from pipelines.report.verdict.words import counted, listed, percent

TOPIC = "captions"
# Fewer different texts than this fraction of the images, and a text hardly tells an image from another.
DIFFERENT = 0.2
# From this fraction on, contradictions or lost captions are no exceptions.
MANY = 0.05


def caption_findings(
    sources: Sequence[SourceCounts],
    prompts: Sequence[PromptCounts],
    sides: Mapping[tuple[str, str], ReportSideCounts],
) -> Iterator[Finding]:
    """Of the whole dataset.

    Args:
        sources: Captions of images by status.
        prompts: Captions by captioner, kind and prompt.
        sides: Source and basis -> region captions beside the side that the report names.
    """
    yield accepted(prompts)
    yield from _lost(prompts)
    yield from _alike(sources)
    images = sum(source.images for source in sources)
    unannotated = {source.name: source.captions["unannotated"] for source in sources if source.captions["unannotated"]}
    if count := sum(unannotated.values()):
        text = f"{count:,} of {counted(images, 'image')} have no text, for nobody says whether they show a finding: "
        action = "give them a report or labels, or let a model look: captions.captioner: vllm"
        level: Level = "wrong" if count == images else "warning"
        yield Finding(level=level, topic=TOPIC, text=f"{text}{listed(unannotated)}.", action=action)
    if opposite := sum(counts.opposite for counts in sides.values()):
        same = sum(counts.same for counts in sides.values())
        text = (
            f"{counted(opposite, 'region caption')} name the side opposite to the report's ({same:,} the same side): "
            "the outline, the caption or the report is wrong."
        )
        names = dict.fromkeys(source for (source, _), counts in sides.items() if counts.opposite)
        settings = ", ".join(f"ingest.sources.{name}.sides" for name in names)
        action = (
            f"look at rows with report_side = opposite in data/captions/captions.parquet; if it is most: {settings}"
        )
        yield Finding(level="warning", topic=TOPIC, text=text, action=action)


def accepted(prompts: Sequence[PromptCounts]) -> Finding:
    """The described items, and the texts that contradict the measured position, size or side."""
    captions, described = sum(row.captions for row in prompts), sum(row.described for row in prompts)
    codes = sum((Counter(row.contradictions) for row in prompts), Counter[str]())
    contradicting = codes.total()
    if not described:
        return Finding(level="wrong", topic=TOPIC, text=f"None of {counted(captions, 'caption')} is accepted.")
    text = f"{described:,} of {counted(captions, 'caption')} are accepted; "
    if not contradicting:
        text += "none contradicts the measured position, size or side."
        return Finding(level="ok", topic=TOPIC, text=text)
    text += (
        f"{contradicting:,} ({percent(contradicting, described)}) contradict the measured position, size or side: "
        f"{listed(codes)}."
    )
    level: Level = "wrong" if contradicting > MANY * described else "warning"
    action = "correct the prompt (captions.prompts) and run python -m flows.rebuild; the gallery marks them"
    return Finding(level=level, topic=TOPIC, text=text, action=action)


def _alike(sources: Sequence[SourceCounts]) -> Iterator[Finding]:
    for source in sources:
        if source.texts > 1 and source.different_texts < DIFFERENT * source.texts:
            different = counted(source.different_texts, "different text")
            text = (
                f"{source.name}: {counted(source.texts, 'image')} have {different} between them; training and "
                "retrieval cannot tell those of one text apart."
            )
            action = "reports of their own (column text), or captions from pixels: captions.captioner: vllm"
            yield Finding(level="warning", topic="text", text=text, action=action)


def _lost(prompts: Sequence[PromptCounts]) -> Iterator[Finding]:
    """Rejected captions; failed ones are told with those of all stages."""
    rejected = sum(row.statuses.get("rejected", 0) for row in prompts)
    if rejected:
        captions = sum(row.captions for row in prompts)
        text = f"{counted(rejected, 'caption')} ({percent(rejected, captions)}) are rejected: the answer broke a rule."
        level: Level = "wrong" if rejected > MANY * captions else "warning"
        action = "rejected.html shows the answers; correct the prompt (captions.prompts), then python -m flows.rebuild"
        yield Finding(level=level, topic=TOPIC, text=text, action=action)

"""Both kinds of classes in one result: findings of sources that name several, and classes that exclude each other."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.task import GroupScores, Result


def both_kinds(images: Sequence[EvaluationImage], findings: Result, exclusive: Result) -> Result:
    """The scores of both kinds side by side; where one was skipped, those of the other with a note that says why.

    A source may stand for both: two classes that exclude each other are a finding and its absence.

    Args:
        images: Of the split.
        findings: Scores of findings.
        exclusive: Scores of exclusive classes, of other names.
    """
    kinds = {"findings": findings, "exclusive": exclusive}
    scored = {name: one for name, one in kinds.items() if one.status == "ok"}
    skipped = [f"kind {name}: {one.reason}" for name, one in kinds.items() if name not in scored]
    if not scored:
        return replace(findings, reason="; ".join(skipped))
    parts = list(scored.values())
    first = parts[0]
    if len(parts) == 1:
        return replace(first, notes=[*first.notes, *skipped])
    of_sources = [one.by_source or _only_source(images, one) for one in parts]
    sources = sorted({source for of_kind in of_sources for source in of_kind})
    by_source = {source: _joined(of[source] for of in of_sources if source in of) for source in sources}
    return Result(
        scores=_joined(one.scores for one in parts),
        by_source=by_source if len(sources) > 1 else {},
        details={name: one.details for name, one in kinds.items()},
        notes=[f"{name}: {note}" for name, one in kinds.items() for note in one.notes],
        excluded={key: reason for key, reason in findings.excluded.items() if key in exclusive.excluded},
        items=chain(findings.items, exclusive.items),
        figure=findings.figure,
    )


def _only_source(images: Sequence[EvaluationImage], result: Result) -> dict[str, GroupScores]:
    """The scores of a result whose items are all of one source, under its name."""
    return {image.source: result.scores for image in images if image.key not in result.excluded}


def _joined(scores: Iterable[GroupScores]) -> GroupScores:
    """The metrics of both; the items are those of the kind that has more."""
    found = list(scores)
    most = max(found, key=lambda one: one.items)
    return replace(most, metrics={name: score for one in found for name, score in one.metrics.items()})

"""The verdict on a study: the findings of all parts, what is wrong first."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.audit.result import AuditFigure
from pipelines.report.counts import LeakCounts, PromptCounts, SourceCounts, stage_rows
from pipelines.report.sides import SidesFacts
from pipelines.report.verdict.audit import audit_findings
from pipelines.report.verdict.captions import caption_findings
from pipelines.report.verdict.finding import Finding, by_severity
from pipelines.report.verdict.grounding import grounding_findings
from pipelines.report.verdict.regions import region_findings
from pipelines.report.verdict.scores import score_findings
from pipelines.report.verdict.sources import source_findings
from pipelines.report.verdict.splits import split_findings
from pipelines.report.verdict.stages import stage_findings, training_findings


def study_verdict(
    *,
    summaries: list[dict[str, Any]],
    sources: Sequence[SourceCounts],
    leaks: LeakCounts,
    prompts: Sequence[PromptCounts],
    sides: SidesFacts,
    risk_control: Mapping[str, Any] | None,
    audit: Sequence[AuditFigure],
    curves: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
) -> list[Finding]:
    """The findings by severity; within a level in the order of the graph.

    Args:
        summaries: Of all stages that ran.
        sources: Of `counts.source_counts`.
        leaks: Of `counts.leak_counts`.
        prompts: Of `counts.prompt_counts`.
        sides: Of `sides.sides_facts`.
        risk_control: From the summary of `regions`.
        audit: What people found.
        curves: `curve.json` by method.
        results: `metrics.json` by method.
    """
    by_stage = {summary["stage"]: summary for summary in summaries}
    return by_severity(
        [
            *source_findings(sources, summaries),
            *split_findings(sources, leaks, by_stage.get("split")),
            *region_findings(sources, risk_control, by_stage.get("regions")),
            *caption_findings(sources, prompts, sides.captions),
            *audit_findings(audit),
            *stage_findings(stage_rows(summaries)),
            *training_findings(curves),
            *grounding_findings(results),
            *score_findings(results, list(curves)),
        ]
    )

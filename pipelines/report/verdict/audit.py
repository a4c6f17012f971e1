"""The audit by people: how many of a random sample of regions and captions they found right."""

from collections.abc import Iterable, Iterator

from pipelines.audit.result import ALL, AuditFigure
from pipelines.report.verdict.finding import Finding, Level
from pipelines.report.verdict.words import counted, percent

TOPIC = "audit"
EXPORT = "python -m pipelines.audit export FOLDER"


def audit_findings(figures: Iterable[AuditFigure]) -> Iterator[Finding]:
    """The figures over all strata in one finding; without any answer, that nobody has looked.

    Args:
        figures: Of `pipelines.audit.result.audit_figures`.
    """
    overall = [figure for figure in figures if figure.stratum == ALL and figure.population]
    judged = [_judged(figure) for figure in overall if figure.n]
    unseen = [figure.what for figure in overall if not figure.n]
    if not judged and unseen:
        text = f"Nobody has judged a sample of {' and '.join(unseen)}: how good they are is not measured by people."
        yield Finding(level="warning", topic=TOPIC, text=text, action=EXPORT)
    elif judged:
        rest = f" Nobody has judged {' and '.join(unseen)}." if unseen else ""
        is_partial = any(figure.n < figure.sampled for figure in overall)
        level: Level = "warning" if is_partial else "ok"
        text = f"People found {'; '.join(judged)}.{rest}"
        yield Finding(level=level, topic=TOPIC, text=text, action=EXPORT if is_partial else None)


def _judged(figure: AuditFigure) -> str:
    decided = figure.correct + figure.wrong
    text = f"{figure.correct:,} of {counted(decided, figure.what.removesuffix('s'))} right"
    if figure.unsure:
        text += f" and could not decide {figure.unsure:,}"
    text += f", of a sample of {figure.sampled:,}"
    if figure.precision is None:
        return text
    interval = "" if figure.low is None or figure.high is None else f", {percent(figure.low)} to {percent(figure.high)}"
    return f"{text} (precision {percent(figure.precision)}{interval})"

"""What a run leaves on its page in Prefect: scores, verdict, pictures, and links that a browser can follow.

The pages are those of `make ui` (`flows.pages`): a browser follows no link from a server to a file.
"""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from flows.pages import pages_url
from flows.stages import RAN, RESTORED
from pipelines.config import PARAMS, load
from pipelines.errors import UserError
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.store import experiment_page

REPORT = Path("data/report")
_HEADINGS = {"wrong": "What is wrong", "warning": "What to know before you use it", "ok": "What is in order"}
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&$:@/])")
_DIGITS = 4


def publish_results(project: Path, outcomes: Mapping[str, str]) -> None:
    """Publish what the stage `report` left, where it is one of those that ran.

    The flow itself calls this: its own artifacts stand above those of its tasks.

    Args:
        project: The workspace; the stages of `outcomes` are up to date in it.
        outcomes: Stage -> what became of it.
    """
    if "report" in outcomes:
        publish_report(project)
        # A report that an earlier run made is on the page of that run.
        if outcomes["report"] in (RAN, RESTORED):
            link = f"{pages_url()}/report/index.html"
            create_link_artifact(key="report", link=link, link_text="Report", description=f"Report of this run: {link}")
    if any(name.startswith("train") for name in outcomes):
        link_mlflow(project)


def publish_report(project: Path) -> None:
    """Verdict, scores and gallery of the present report, each where the report has it."""
    folder = project / REPORT
    if (folder / "verdict.json").is_file():
        findings = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["findings"]
        create_markdown_artifact(key="verdict", markdown=verdict(findings), description="What to know about this run")
    if (folder / "comparison.csv").is_file():
        with (folder / "comparison.csv").open(encoding="utf-8", newline="") as stream:
            rows = [score_row(row) for row in csv.DictReader(stream)]
        create_table_artifact(key="scores", table=rows, description="Scores of the methods on the test split")
    if (folder / "gallery.png").is_file():
        create_image_artifact(
            key="gallery",
            image_url=f"{pages_url()}/report/gallery.png",
            description="Images of the present report with their regions, as long as `make ui` serves it",
        )


def link_mlflow(project: Path) -> None:
    """A link to the study's experiment; MLflow's own page needs `make ui`, or the study's server."""
    try:
        page = experiment_page(load(TrackingConfig, "tracking", project / PARAMS), project)
    except UserError:
        return  # the task before this one has said so
    create_link_artifact(key="mlflow", link=page, link_text="Runs and models in MLflow", description=page)


def verdict(findings: list[dict[str, Any]]) -> str:
    """The report's findings as Markdown; their texts name data, and are never markup."""
    lines = []
    for level, heading in _HEADINGS.items():
        found = [finding for finding in findings if finding["level"] == level]
        lines += [f"## {heading}", *map(_finding, found), ""] if found else []
    return "\n".join(lines) or "The report has no findings."


def _finding(finding: Mapping[str, Any]) -> str:
    action = f" → {plain(finding['action'])}" if finding["action"] else ""
    return f"- **{plain(finding['topic'])}**: {plain(finding['text'])}{action}"


def plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def score_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A score as a row for people: numbers rounded, the interval in one field, no value an empty field."""
    values = {name: _rounded(value) for name, value in row.items()}
    low, high = values.pop("low", None), values.pop("high", None)
    interval = None if low is None else f"{low} to {high}"
    first = ("method", "task", "metric", "value")
    shown = {name: values.pop(name) for name in first if name in values}
    return {**shown, "95 % interval": interval, **values}


def _rounded(value: Any) -> Any:
    try:
        return round(float(value), _DIGITS) if str(value) else None
    except (TypeError, ValueError):
        return value

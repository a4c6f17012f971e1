"""The page of a rebuild: answers requested, what changed, the prompts, and examples side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.files import write_text
from pipelines.rebuild.compare import Comparison
from pipelines.rebuild.examples import ChangeExample
from pipelines.report.pages import templates


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """How the table after was made.

    Attributes:
        ran: The stage `captions` ran; else DVC had its outputs for these inputs.
        sent: Items that were sent to a model; None: the captioner counts none.
        reused: Answers that came from the result cache; None: the captioner counts none.
        inputs: Inputs of the stage that differ from those of the table before.
        others: Those of them that a changed prompt does not explain.
        resumed: The table before is the snapshot of a rebuild that did not finish.
    """

    ran: bool
    sent: int | None
    reused: int | None
    inputs: list[str]
    others: list[str]
    resumed: bool


def write_page(
    path: Path,
    rebuild: Rebuild,
    comparison: Comparison,
    digests: list[dict[str, Any]],
    diffs: dict[str, list[str]] | None,
    examples: list[ChangeExample],
) -> None:
    """Write the page; it opens without a network, and all texts of the data are escaped.

    Args:
        path: The HTML file.
        rebuild: How the table after was made.
        comparison: Of the two tables.
        digests: Of `pipelines.rebuild.prompts.digests`.
        diffs: Of `pipelines.rebuild.prompts.changes_since_commit`.
        examples: Of `pipelines.rebuild.examples.change_examples`.
    """
    template = templates("pipelines.rebuild").get_template("rebuild.html.j2")
    facts = {"rebuild": rebuild, "comparison": comparison, "digests": digests, "diffs": diffs, "examples": examples}
    write_text(path, template.render(facts))

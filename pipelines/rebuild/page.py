"""The page of a rebuild: what was asked, what changed, the prompts, and examples side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.files import write_text
from pipelines.rebuild.compare import Comparison
from pipelines.report.pages import templates


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """How the table after came to be.

    Attributes:
        ran: The stage `captions` ran; else DVC had its outputs for these inputs.
        asked: Answers that a model was asked for; None: the captioner counts none.
        reused: Answers that came from the result cache; None: the captioner counts none.
        inputs: Inputs of the stage that are not those of the table before.
        others: Those of them that a changed prompt does not explain.
        resumed: The table before was kept by a rebuild that did not finish.
    """

    ran: bool
    asked: int | None
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
    examples: list[dict[str, Any]],
) -> None:
    """Write the page; it opens without a network, and all that it shows of the data is escaped.

    Args:
        path: The HTML file.
        rebuild: How the table after came to be.
        comparison: Of the two tables.
        digests: Of `pipelines.rebuild.prompts.digests`.
        diffs: Of `pipelines.rebuild.prompts.changes_since_commit`.
        examples: Of `pipelines.rebuild.examples.show`.
    """
    template = templates("pipelines.rebuild").get_template("rebuild.html.j2")
    facts = {"rebuild": rebuild, "comparison": comparison, "digests": digests, "diffs": diffs, "examples": examples}
    write_text(path, template.render(facts))

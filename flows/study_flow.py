"""`flows.study` as a flow, for a button in Prefect's UI."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.states import Completed, Failed, State

from flows.artifacts import plain
from flows.notify import tell_failure
from flows.pages import pages_url
from flows.stages import TRIED_AGAIN, failed_as, failure
from flows.study import make_table
from pipelines.errors import UserError
from pipelines.studies.made import MadeTable
from pipelines.studies.table import PAGE, cell_text, chance_texts


@flow(name="study", log_prints=True, on_failure=[tell_failure], on_crashed=[tell_failure])
def study(name: str, scale: Literal["demo", "paper"] = "demo", raw: str | None = None) -> State:
    """Make a table of a paper: train and score its methods in a workspace of their own.

    Args:
        name: The table: a file of studies/, without its ending.
        scale: demo: minutes on the procedural data set; paper: the settings and the data sets of the paper.
        raw: Folder with the data sets, linked under data/raw of a workspace that is new; none where it is there.
    """
    state = table(name, scale, raw, return_state=True)
    if not state.is_completed():
        return failed_as(state)
    made: Any = state.result()
    create_markdown_artifact(key="study", markdown=as_artifact(made), description=f"{name} at the scale {scale}")
    link = f"{pages_url()}/studies/{made.folder.name}/{PAGE}"
    create_link_artifact(key="study-page", link=link, link_text="Table with pictures", description=link)
    if made.fault is not None:
        return Failed(message=made.fault)
    return Completed(message=f"table: {made.folder}")


@task(name="table", task_run_name="table", **TRIED_AGAIN)
def table(name: str, scale: str, raw: str | None) -> State:
    """Run the study; the completed state's result is its table, also where a stage made a mistake."""
    try:
        made = make_table(name, scale, None if raw is None else Path(raw))
        if made.passes_again:
            made.check()
    except UserError as error:
        return failure(error)
    return Completed(message=f"table: {made.folder}", data=made)


def as_artifact(made: MadeTable) -> str:
    """The table as Markdown; what a paper or the data says is never markup."""
    reasons: dict[str, int] = {}
    columns = [column.name for column in made.study.columns]
    rows = [
        [row.name, *(cell_text(made.found[row.name, column], reasons) for column in columns)] for row in made.study.rows
    ]
    if chance := chance_texts(made.study, made.found):
        rows.append(["chance", *chance])
    return "\n".join(
        [
            f"{plain(made.study.paper)}, {plain(made.study.place)}: {plain(made.study.title)}",
            "",
            "In a cell: ours with its 95 % interval, the printed value in brackets, the difference.",
            "",
            _line(["", *columns]),
            "|---" * (len(columns) + 1) + "|",
            *map(_line, rows),
            "",
            *(f"- ({number}) {plain(reason)}" for reason, number in reasons.items()),
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(plain, cells))} |"

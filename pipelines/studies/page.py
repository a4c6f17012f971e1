"""The pages of a study: its table with pictures, a page for each row, and the list of all studies.

They open without a network, and every text is escaped. The list is a page of its own in data/studies and no section of
the report: the report is an output of DVC, whose bytes follow from its dependencies, and studies lie outside of DVC.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.verified import DamagedError, read_bytes
from pipelines.errors import UserError
from pipelines.evaluate.contamination import not_known_of_weights
from pipelines.evaluate.stage import CHECKPOINTS, EVALUATIONS
from pipelines.files import read_output, write_text
from pipelines.report.page_images import data_uri
from pipelines.report.pages import templates
from pipelines.studies.definition import DEMO, DataSet, Row, load_study
from pipelines.studies.made import MadeTable
from pipelines.studies.pictures import FOLDER, RetrievalExample, StudyPicture
from pipelines.studies.settings import missing
from pipelines.studies.table import PAGE, TABLE, Cell

ROWS, RETRIEVED = "rows", "retrieved.html"


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """What stands on a study's pages beside its table.

    Attributes:
        pictures: Of the methods side by side, those that are left out among them.
        examples: Of retrieval.
        rule: How the queries of these were chosen.
        figures: Entry of `train.methods` -> task -> the plot of its evaluation (SVG).
        not_known: Entry -> a sentence on each part of its training data of which nobody knows the images.
        plots: Curves for `dvc plots show`: file -> text.
        pending: Whether the pictures are still to be made.
    """

    pictures: Sequence[StudyPicture] = ()
    examples: Sequence[RetrievalExample] = ()
    rule: str = ""
    figures: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    not_known: Mapping[str, Sequence[str]] = field(default_factory=dict)
    plots: Mapping[str, str] = field(default_factory=dict)
    pending: bool = False


def figures_of(workspace: Path, entries: Sequence[str]) -> dict[str, dict[str, bytes]]:
    """Entry -> task -> the plot that its evaluation left; entries without one are left out."""
    found = {
        entry: {path.stem: read_bytes(path) for path in sorted((workspace / EVALUATIONS / entry).glob("*.svg"))}
        for entry in entries
    }
    return {entry: plots for entry, plots in found.items() if plots}


def not_known_of(workspace: Path, entries: Sequence[str]) -> dict[str, list[str]]:
    """`Shelf.not_known`, as the checkpoints of some entries say it; those of which all is known are left out."""
    found = {entry: list(not_known_of_weights(workspace / CHECKPOINTS / entry)) for entry in entries}
    return {entry: sentences for entry, sentences in found.items() if sentences}


def study_files(made: MadeTable, data: Mapping[str, DataSet], workspace: Path, shelf: Shelf) -> dict[str, bytes]:
    """Name -> bytes of the files beside a study's table: its pages, pictures and plots.

    Args:
        made: The table.
        data: All data sets.
        workspace: Where the data sets of the scale `paper` are looked for.
        shelf: What stands beside the table.
    """
    environment, study = templates("pipelines.studies"), made.study
    reasons: dict[str, int] = {}
    lacking = {data[key].name: reason for key in study.data_sets if (reason := missing(data[key], workspace))}
    facts: dict[str, Any] = {
        "study": study,
        "name": made.name,
        "scale": made.scale,
        "demo": made.scale == DEMO,
        "code": made.code,
        "differences": study.differences(made.scale),
        "rows": [_row(made, row, reasons, shelf.figures) for row in study.rows],
        "reasons": reasons,
        "lacking": lacking,
        "shelf": shelf,
    }
    files = {PAGE: environment.get_template("study.html.j2").render(facts).encode()}
    files |= {f"{FOLDER}/{picture.file}": picture.data for picture in shelf.pictures if picture.data is not None}
    files |= {f"plots/{file}": text.encode() for file, text in shelf.plots.items()}
    if shelf.examples:
        page = environment.get_template("retrieved_page.html.j2").render(facts)
        files[f"{FOLDER}/{RETRIEVED}"] = page.encode()
    for entry, plots in shelf.figures.items():
        uris = {task: data_uri(plot, "image/svg+xml") for task, plot in plots.items()}
        names = [row for row in study.rows if row.entry == entry]
        page = environment.get_template("study_row.html.j2").render(facts, entry=entry, of_entry=names, plots=uris)
        files[f"{ROWS}/{entry}.html"] = page.encode()
    return files


def _row(made: MadeTable, row: Row, reasons: dict[str, int], figures: Mapping[str, Any]) -> dict[str, Any]:
    cells = []
    for column in made.study.columns:
        cell: Cell = made.found[row.name, column.name]
        footnote = None if cell.ours is not None else reasons.setdefault(cell.empty or "", len(reasons) + 1)
        cells.append({"cell": cell, "column": column, "footnote": footnote})
    return {"row": row, "cells": cells, "page": f"{ROWS}/{row.entry}.html" if row.entry in figures else None}


def write_index(folder: Path) -> None:
    """Write the page that lists the studies whose tables lie in a folder."""
    studies = [_listed(table) for table in sorted(folder.glob(f"*/{TABLE}.json"))]
    page = templates("pipelines.studies").get_template("studies.html.j2").render(studies=studies)
    write_text(folder / PAGE, page)


def _listed(table: Path) -> dict[str, Any]:
    """One row of the list; where the table is damaged, or studies/ has no such study any more, the page says so."""
    listed: dict[str, Any] = {"folder": table.parent.name, "study": None, "table": None}
    with suppress(UserError, DamagedError):
        listed["table"] = read_output(table)
        listed["study"] = load_study(listed["table"]["study"])
    return listed

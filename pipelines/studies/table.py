"""A study's table: figures of ours beside the printed ones, and why a cell has none."""

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from pipelines.evaluate.scoring import ITEM_TABLE, METRICS
from pipelines.evaluate.stage import EVALUATIONS
from pipelines.files import atomic_folder, read_output, write_json
from pipelines.records import ITEMS
from pipelines.studies import costs, counts, words
from pipelines.studies.definition import DEMO, UNITS, Column, DataSet, Row, Study
from pipelines.studies.settings import why_all_empty

TABLE, PAGE = "table", "index.html"
# Characters of a commit, for a person.
SHOWN = 10
COLUMNS = (
    "row",
    "column",
    "metric",
    "unit",
    "ours",
    "low",
    "high",
    "chance",
    "baselines",
    "printed",
    "difference",
    "empty",
)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell.

    Attributes:
        ours: In the unit of the column; None where `empty` says why.
        low: Of its 95 % interval.
        high: Of its 95 % interval.
        chance: What guessing gives.
        baselines: What trivial answers give, by name.
        printed: In the paper.
        empty: Why there is none of ours.
    """

    ours: float | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    baselines: Mapping[str, float] = field(default_factory=dict)
    printed: float | None
    empty: str | None = None

    @property
    def difference(self) -> float | None:
        return None if self.ours is None or self.printed is None else self.ours - self.printed


def cells(
    study: Study,
    scale: str,
    data: dict[str, DataSet],
    params: dict[str, Any],
    workspace: Path,
    stale: Collection[str] = (),
) -> dict[tuple[str, str], Cell]:
    """(row, column) -> cell, from what was evaluated, and counted, in a workspace with these params.

    Of the entries, and stages, in `stale` what lies there was made of something else: they count as not run.
    """
    entries = {row.entry for row in study.rows if row.entry is not None}
    folders = {entry: workspace / EVALUATIONS / entry for entry in entries if entry not in stale}
    results = {entry: _Scores(folder) for entry, folder in folders.items() if (folder / METRICS).is_file()}
    of_models: dict[str, dict[str, float | str]] = {}
    if wanted := {column.within for column in study.columns if column.task == costs.TASK}:
        of_models = {
            entry: costs.costs_of(entry, params, None if entry in stale else workspace, wanted)
            for entry in entries & params["train"]["methods"].keys()
        }
    counted = None
    if any(column.task == counts.TASK for column in study.columns) and counts.STAGE not in stale:
        counted = counts.read_counts(workspace)
    found: dict[tuple[str, str], Cell] = {}
    for row in study.rows:
        printed = row.printed or [None] * len(study.columns)
        reasons = why_all_empty(study, row, scale, data, workspace)
        for column, value in zip(study.columns, printed, strict=True):
            if empty := reasons[column.name]:
                cell = Cell(printed=value, empty=empty)
            elif column.mean_of:
                cell = _mean([(name, found[row.name, name]) for name in column.mean_of], value)
            elif column.task == costs.TASK:
                cell = _of_value(column, of_models[row.entry or ""][column.within], value)
            elif column.task == counts.TASK:
                cell = _of_value(column, _count(row, column, scale, counted), value)
            elif column.task == words.TASK:
                method = params["train"]["methods"][row.entry]
                cell = _of_value(column, words.words_left(column.within, row.words or 0, method), value)
            else:
                data_set = None if scale == DEMO else column.data
                cell = _scored(column, data_set, results.get(row.entry or ""), value)
            found[row.name, column.name] = cell
    return found


def _of_value(column: Column, value: float | str, printed: float | None) -> Cell:
    """A figure that no items stand behind, or why there is none."""
    if isinstance(value, str):
        return Cell(printed=printed, empty=value)
    return Cell(ours=value * UNITS[column.unit], printed=printed)


def _count(row: Row, column: Column, scale: str, counted: counts.SplitCounts | None) -> float | str:
    if counted is None:
        return "not run yet"
    assert row.counts is not None
    found = counted.of(row.counts, None if scale == DEMO else row.counts.data)
    if not found[counts.TOTAL]:
        kind = f" of the kind {row.counts.modality}" if row.counts.modality else ""
        return f"there are no {row.counts.of}{kind} here"
    return float(found[column.within])


def _mean(of: Sequence[tuple[str, Cell]], printed: float | None) -> Cell:
    """The mean of other cells, of their chance, and of the baselines that all of them have; it has no interval."""
    if empty := [name for name, cell in of if cell.ours is None]:
        return Cell(printed=printed, empty=f"a mean of columns of which {', '.join(empty)} has no figure")
    found = [cell for _, cell in of]
    chances = [cell.chance for cell in found if cell.chance is not None]
    shared = [name for name in found[0].baselines if all(name in cell.baselines for cell in found)]
    return Cell(
        ours=fmean(cell.ours for cell in found if cell.ours is not None),
        chance=fmean(chances) if len(chances) == len(found) else None,
        baselines={name: fmean(cell.baselines[name] for cell in found) for name in shared},
        printed=printed,
    )


class _Scores:
    """The scores of an evaluation.

    Args:
        folder: Where it lies.
    """

    def __init__(self, folder: Path) -> None:
        self.tasks = read_output(folder / METRICS)["tasks"]
        self._items = folder / ITEM_TABLE

    def metrics(self, task: str, source: str | None) -> dict[str, Any] | None:
        """The scores of a task, of the items of one source, or of all; None: it has no item, or too few, of it."""
        found = self.tasks[task]
        if source is None or self._sources(task) == {source}:
            return found["metrics"]
        return found["by_source"][source]["metrics"] if source in found["by_source"] else None

    def _sources(self, task: str) -> set[str]:
        """Those of the items of a task that has no scores by source: it is one, and metrics.json does not name it."""
        if self.tasks[task]["by_source"]:
            return set()
        return {row.source for row in ITEMS.rows(self._items, task=task)}


def _scored(column: Column, source: str | None, results: _Scores | None, printed: float | None) -> Cell:
    """A figure that items stand behind, those of one source or all, or why there is none."""
    if results is None:
        return Cell(printed=printed, empty="not run yet")
    task, metric = column.task, column.within
    found = results.tasks[task]
    if found["status"] != "ok":
        return Cell(printed=printed, empty=f"{task} {found['status']}: {found['reason']}")
    metrics = results.metrics(task, source)
    if metrics is None:
        return Cell(printed=printed, empty=f"{task} has no item, or too few, of {source}")
    if metric not in metrics:
        return Cell(printed=printed, empty=f"{task} has no {metric} here")
    score, factor = metrics[metric], UNITS[column.unit]

    def scaled(value: float | None) -> float | None:
        return None if value is None else value * factor

    return Cell(
        ours=scaled(score["value"]),
        low=scaled(score["low"]),
        high=scaled(score["high"]),
        chance=scaled(score["chance"]),
        baselines={name: value * factor for name, value in score["baselines"].items()},
        printed=printed,
    )


def write_table(
    folder: Path,
    study: Study,
    name: str,
    scale: str,
    code: str,
    found: Mapping[tuple[str, str], Cell],
    beside: Mapping[str, bytes] | None = None,
) -> None:
    """Write `table.md`, `table.csv`, `table.json` and further files into a sealed folder, which is replaced as a whole.

    Args:
        folder: Where to.
        study: The study.
        name: Its name.
        scale: Demo or paper.
        code: What made it, for a person (`MadeTable.code`).
        found: Its cells.
        beside: Name -> bytes of the further files (`pipelines.studies.page`); None: there are none.
    """
    rows = [_row(study, key, cell) for key, cell in found.items()]
    with atomic_folder(folder) as out:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        (out / f"{TABLE}.csv").write_text(text.getvalue(), encoding="utf-8")
        (out / f"{TABLE}.md").write_text(as_markdown(study, name, scale, code, found), encoding="utf-8")
        write_json(out / f"{TABLE}.json", {"study": name, "scale": scale, "code": code, "cells": rows})
        for file, content in (beside or {}).items():
            (out / file).parent.mkdir(exist_ok=True)
            (out / file).write_bytes(content)


def _row(study: Study, key: tuple[str, str], cell: Cell) -> dict[str, Any]:
    column = next(one for one in study.columns if one.name == key[1])
    return {
        "row": key[0],
        "column": key[1],
        "metric": column.measures,
        "unit": column.unit,
        **{name: _rounded(getattr(cell, name)) for name in ("ours", "low", "high", "chance")},
        "baselines": "; ".join(f"{name} {_rounded(value)}" for name, value in cell.baselines.items()),
        "printed": cell.printed,
        "difference": _rounded(cell.difference),
        "empty": cell.empty,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def as_markdown(study: Study, name: str, scale: str, code: str, found: Mapping[tuple[str, str], Cell]) -> str:
    """The table for a person: in each cell ours, the printed value in brackets, and the difference."""
    lines = [
        f"# {study.paper}, {study.place}: {study.title}",
        "",
        f"Study {name} at the scale {scale}, by {code}.",
        "",
    ]
    lines += [
        "In a cell: ours with its 95 % interval, [printed], difference. The row *chance* is that of the metric's "
        "definition; trivial answers, which can be better than that, are in table.csv and on the page.",
        "",
    ]
    lines += [
        "| | " + " | ".join(_heading(column) for column in study.columns) + " |",
        "|---" * (len(study.columns) + 1) + "|",
    ]
    reasons: dict[str, int] = {}
    for row in study.rows:
        texts = [cell_text(found[row.name, column.name], reasons) for column in study.columns]
        lines.append(f"| {row.name} | " + " | ".join(texts) + " |")
    if chance := chance_texts(study, found):
        lines.append("| *chance* | " + " | ".join(chance) + " |")
    lines += ["", *(f"({number}) {reason}" + "  " for reason, number in reasons.items())]
    if scale == DEMO:
        lines += [
            "",
            "Scale demo: small models on the procedural data set, which stands for every data set of the paper. The "
            "figures show that the table can be made, and test none of the paper's claims.",
        ]
    for heading, sentences in (
        ("What differs", [*study.differences(scale), *(f"{row.name}: {row.note}" for row in study.rows if row.note)]),
        ("Known errors in print", study.print_errors),
    ):
        if sentences:
            lines += ["", f"## {heading}", "", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"


def _heading(column: Column) -> str:
    return column.name if column.unit == "ratio" else f"{column.name} ({column.unit})"


def chance_texts(study: Study, found: Mapping[tuple[str, str], Cell]) -> list[str]:
    """Chance in each column, for a person; empty where no cell has one."""
    if all(cell.chance is None for cell in found.values()):
        return []
    return [_chance_text([found[row.name, column.name] for row in study.rows]) for column in study.columns]


def _chance_text(column: Sequence[Cell]) -> str:
    """Chance of a column's cells: of one test set it is the same for all rows, but where rows learn it differently."""
    values = sorted({round(cell.chance, 2) for cell in column if cell.chance is not None})
    return " to ".join(f"{value:.2f}" for value in dict.fromkeys([*values[:1], *values[-1:]]))


def cell_text(cell: Cell, reasons: dict[str, int]) -> str:
    """A cell for a person; where it has no figure, the number of its reason in `reasons`, which gets new ones."""
    printed = "" if cell.printed is None else f"[{cell.printed:g}]"
    if cell.ours is None:
        number = reasons.setdefault(cell.empty or "", len(reasons) + 1)
        return f"({number}) {printed}".strip()
    interval = "" if cell.low is None or cell.high is None else f" ({cell.low:.2f} to {cell.high:.2f})"
    difference = "" if cell.difference is None else f", {cell.difference:+.2f}"
    return f"{cell.ours:.2f}{interval} {printed}{difference}".strip()

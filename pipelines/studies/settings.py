"""The params of a study at one scale, and why a cell of its table cannot be measured there.

At the scale `demo` the methods have the small settings of the study's base and learn on the procedural data set, which
stands for every data set of the paper. At the scale `paper` they have those of params/paper.yaml, and every data set of
the table lies where `studies/data.yaml` says.
"""

from functools import cache
from pathlib import Path
from typing import Any

from pipelines import params
from pipelines.config import PARAMS, load_params
from pipelines.errors import UserError
from pipelines.registry import names
from pipelines.studies import costs, counts, words
from pipelines.studies.definition import Column, DataSet, Row, Study

DEMO, PAPER = SCALES = ("demo", "paper")
DEMO_OVERLAY, PAPER_OVERLAY = Path("studies/scales/demo.yaml"), Path("params/paper.yaml")


def params_of(study: Study, name: str, scale: str, data: dict[str, DataSet], project: Path = Path()) -> dict[str, Any]:
    """All sections of params.yaml for a study.

    Args:
        study: The study.
        name: Its name.
        scale: One of `SCALES`.
        data: The data sets that are there, which are its sources at the scale `paper`.
        project: Folder with params.yaml and params/.

    Raises:
        UserError: The base or the scale names what params.yaml lacks, or a row a method that the base lacks.
    """
    base = project / PARAMS
    overlay = study.base if scale == DEMO else PAPER_OVERLAY.as_posix()
    below = params.load_study(project / overlay, base)
    if scale == DEMO:
        demo = load_params(project / DEMO_OVERLAY)
        below = params.merge(below, demo, f"{DEMO_OVERLAY}: ")
        # Those of the base, which a person downloads, are of the scale `paper` alone.
        below["ingest"] = {**below["ingest"], "sources": demo["ingest"]["sources"]}
    else:
        below["ingest"] = {**below["ingest"], "sources": {key: source_of(one) for key, one in data.items()}}
        below["split"] = {**below["split"], "allow_leaks": [key for key, one in data.items() if one.leaks]}
    known = below["train"]["methods"]
    methods: dict[str, Any] = {}
    for row in study.rows:
        if row.entry is None or row.entry in methods:
            continue
        if row.method not in known:
            raise UserError(f"studies/{name}.yaml: row '{row.name}': {overlay} has no method '{row.method}'")
        own = params.merge(known[row.method], row.settings, f"studies/{name}.yaml: row '{row.name}': ")
        methods[row.entry] = own if row.entry == row.method else {**own, "method": row.method}
    tasks = {**below["evaluate"]["tasks"], **study.tasks}
    wanted = [task for task in dict.fromkeys(column.task for column in study.columns) if task in _tasks()]
    tracking = {**below["tracking"], "experiment": f"study-{name}-{scale}", "model": f"study-{name}-{scale}"}
    return {
        **below,
        "train": {**below["train"], "methods": methods},
        "evaluate": {**below["evaluate"], "tasks": {task: tasks.get(task, {}) for task in wanted or tasks}},
        "tracking": tracking,
    }


def why_empty(row: Row, column: Column, scale: str, data: dict[str, DataSet], project: Path = Path()) -> str | None:
    """Why a cell of a metric has no figure of ours, for a person; None: it can be measured."""
    if column.task == counts.TASK:
        if row.counts is None:
            return "we have no count of this"
        return missing(data[row.counts.data], project) if scale == PAPER else None
    if row.method is None:
        return "not implemented"
    if column.task == words.TASK:
        if row.words is None:
            return "the row names no text"
        return None if row.method == words.METHOD else f"{row.method} chooses no words"
    if column.task != costs.TASK and column.task not in _tasks():
        return f"no task {column.task}"
    if scale == PAPER and column.data is not None:
        return missing(data[column.data], project)
    return None


def why_all_empty(
    study: Study, row: Row, scale: str, data: dict[str, DataSet], project: Path = Path()
) -> dict[str, str | None]:
    """Column -> what `why_empty` says of its cell in a row; of a mean, of the first of its columns that has none."""
    reasons: dict[str, str | None] = {}
    for column in study.columns:
        if column.mean_of:
            empty = (reason for name in column.mean_of if (reason := reasons[name]) is not None)
            reasons[column.name] = next(empty, None)
        else:
            reasons[column.name] = why_empty(row, column, scale, data, project)
    return reasons


@cache
def _tasks() -> frozenset[str]:
    """Those that are registered: a look-up reads the entry points of all installed packages."""
    return frozenset(names("tasks"))


def to_run(study: Study, scale: str, data: dict[str, DataSet], project: Path = Path()) -> list[str]:
    """The entries of `train.methods` of which some cell needs a trained model, in the order of their rows."""
    trained = [column for column in study.columns if column.metric and _needs_training(column)]
    wanted = (
        row.entry for row in study.rows for column in trained if why_empty(row, column, scale, data, project) is None
    )
    return [entry for entry in dict.fromkeys(wanted) if entry is not None]


def _needs_training(column: Column) -> bool:
    return column.metric not in costs.OF_SETTINGS and column.task not in (counts.TASK, words.TASK)


def counts_images(study: Study, scale: str, data: dict[str, DataSet], project: Path = Path()) -> bool:
    """Whether some cell needs the tables of the stage `split`."""
    columns = [column for column in study.columns if column.task == counts.TASK]
    return any(
        why_empty(row, column, scale, data, project) is None for row in study.rows for column in columns if row.counts
    )


def missing(one: DataSet, project: Path = Path()) -> str | None:
    """Why a data set cannot be read, and what to do; None: it is there."""
    if one.adapter is None:
        return f"{one.name}: no adapter reads it"
    if not (project / one.place).exists():
        return f"{one.name} is not in {one.place}: {one.obtained}"
    return None


def source_of(one: DataSet) -> dict[str, Any]:
    """Its entry in `ingest.sources`."""
    return {"adapter": one.adapter, "root": one.place, "licence": one.licence, **one.source}

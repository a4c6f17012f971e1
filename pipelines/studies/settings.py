"""The params of a study at one scale, and why a cell of its table cannot be measured there.

At the scale `demo` the methods have the small settings of the study's base and learn on the procedural data set, which
stands for every data set of the paper. At the scale `paper` they have those of params/paper.yaml, and every data set of
the table lies where `studies/data.yaml` says. There they learn from the data sets that the study trains on
(`trains_on`), or from all of the table's; published checkpoints are scored there alone, and learn nothing.
"""

import os
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

from pipelines import params
from pipelines.config import PARAMS, load_params, parse
from pipelines.errors import UserError
from pipelines.registry import names, plugin
from pipelines.studies import costs, counts, weights, words
from pipelines.studies.definition import DEMO, PAPER, Column, DataSet, Row, Study
from pipelines.train.config import TrainConfig

DEMO_OVERLAY, PAPER_OVERLAY = Path("studies/scales/demo.yaml"), Path("params/paper.yaml")
# What a study's base says of them holds at both scales: methods that learn from annotations alone need no server.
OF_BASE = ("proposals", "captions")


def params_of(
    study: Study,
    name: str,
    scale: str,
    data: dict[str, DataSet],
    project: Path = Path(),
    without: Collection[weights.Weights] = (),
) -> dict[str, Any]:
    """All sections of params.yaml for a study.

    Args:
        study: The study.
        name: Its name.
        scale: One of `SCALES`.
        data: The data sets that are there, which are its sources at the scale `paper`.
        project: Folder with params.yaml and params/.
        without: Published checkpoints that are not there: their rows are no methods, so that params change, and stages
            read them, when they are.

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
        of_base, named = params.load_study(project / study.base, base), load_params(project / study.base)
        below |= {section: of_base[section] for section in OF_BASE if section in named}
    methods: dict[str, Any] = {}
    for row in study.rows:
        if row.entry is None or row.entry in methods or (row.weights and (scale == DEMO or row.weights in without)):
            continue
        where = f"studies/{name}.yaml: row '{row.name}': "
        if row.weights is None and row.method not in below["train"]["methods"]:
            raise UserError(f"{where}{overlay} has no method '{row.method}'")
        method = row.weights.entry if row.weights else below["train"]["methods"][row.method]
        methods[row.entry] = _entry(study, row, scale, method, where)
    tasks = {**below["evaluate"]["tasks"], **study.tasks}
    wanted = [task for task in dict.fromkeys(column.task for column in study.columns) if task in _tasks()]
    evaluate = {**below["evaluate"], "tasks": {task: tasks.get(task, {}) for task in wanted or tasks}}
    if any(column.metric == costs.LATENCY_METRIC for column in study.columns):
        evaluate["embedding_latency"] = True
    tracking = {**below["tracking"], "experiment": f"study-{name}-{scale}", "model": f"study-{name}-{scale}"}
    return {
        **below,
        "train": {**below["train"], "methods": methods},
        "evaluate": evaluate,
        "tracking": tracking,
    }


def check(values: dict[str, Any], name: str) -> None:
    """Read the settings of training, methods and tasks as the stages will, so that a mistyped one is told at once.

    Args:
        values: Of `params_of`.
        name: Of the study.

    Raises:
        UserError: One is unknown, or out of range; or a source has an adapter that is none.
    """
    where = f"studies/{name}.yaml: "
    for entry, one in parse(TrainConfig, values["train"], f"{where}train").methods.items():
        parse(plugin("methods", one.method or entry).Config, one.model, f"{where}train.methods.{entry}.model")
    for task, options in values["evaluate"]["tasks"].items():
        parse(plugin("tasks", task).Config, options, f"{where}tasks.{task}")
    for source in values["ingest"]["sources"].values():
        plugin("sources", source["adapter"])


def _entry(study: Study, row: Row, scale: str, method: dict[str, Any], where: str) -> dict[str, Any]:
    """A row's entry of `train.methods`, of its method's own one."""
    own = params.merge(method, row.settings, where)
    own = params.merge(own, row.settings_at.get(scale, {}), where)
    if scale == PAPER and study.trains_on and row.weights is None:
        own["training"] = {**own["training"], "sources": list(study.trains_on)}
    return own if row.entry == row.method else {**own, "method": row.method}


def why_empty(
    study: Study, row: Row, column: Column, scale: str, data: dict[str, DataSet], project: Path = Path()
) -> str | None:
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
    if scale == DEMO:
        return "published weights are scored at the scale paper alone" if row.weights else None
    return _lacking(study, row, column, data, project)


def _lacking(study: Study, row: Row, column: Column, data: dict[str, DataSet], project: Path) -> str | None:
    """Why weights or data sets of a cell, or those of the training, cannot be read, and what to do; None: they can."""
    if row.weights is not None and column.metric in costs.OF_SETTINGS:
        return "the size of published weights is not counted"
    if row.weights is not None and (reason := weights.missing(row.weights, project)) is not None:
        return reason
    found = {key: missing(data[key], project) for key in study.data_sets}
    if column.data is not None and (reason := found[column.data]) is not None:
        return reason
    if not _needs_training(column):
        return None
    if study.trains_on and row.weights is None:
        return next((reason for key in study.trains_on if (reason := found[key]) is not None), None)
    # A column without a data set of its own takes a model that was trained on any.
    return None if None in found.values() else next(iter(found.values()), "it names no data set")


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
            reasons[column.name] = why_empty(study, row, column, scale, data, project)
    return reasons


@cache
def _tasks() -> frozenset[str]:
    """Those that are registered: a look-up reads the entry points of all installed packages."""
    return frozenset(names("tasks"))


def to_run(study: Study, scale: str, data: dict[str, DataSet], project: Path = Path()) -> list[str]:
    """The entries of `train.methods` of which some cell needs a trained model, in the order of their rows."""
    trained = [column for column in study.columns if column.metric and _needs_training(column)]
    wanted = (
        row.entry
        for row in study.rows
        for column in trained
        if why_empty(study, row, column, scale, data, project) is None
    )
    return [entry for entry in dict.fromkeys(wanted) if entry is not None]


def _needs_training(column: Column) -> bool:
    return column.metric not in costs.OF_SETTINGS and column.task not in (counts.TASK, words.TASK)


def counts_images(study: Study, scale: str, data: dict[str, DataSet], project: Path = Path()) -> bool:
    """Whether some cell needs the tables of the stage `split`."""
    columns = [column for column in study.columns if column.task == counts.TASK]
    return any(
        why_empty(study, row, column, scale, data, project) is None
        for row in study.rows
        for column in columns
        if row.counts
    )


def missing(one: DataSet, project: Path = Path()) -> str | None:
    """Why a data set cannot be read, and what to do; None: it is there."""
    if one.adapter is None:
        return f"{one.name}: no adapter reads it"
    place = project / one.place
    if not (place.is_dir() and _has_files(place)):
        return f"{one.name} is not in {one.place}: {one.obtained}"
    return None


def _has_files(folder: str | os.PathLike[str]) -> bool:
    """Whether a folder holds a file at any depth, below no link to a folder; `.DS_Store` and the like are none.

    Folders of many images are asked for every cell of a table, so that none is read beyond its first file.
    """
    with os.scandir(folder) as entries:
        return any(_has_files(entry) if entry.is_dir(follow_symlinks=False) else _is_shown(entry) for entry in entries)


def _is_shown(entry: os.DirEntry[str]) -> bool:
    return entry.is_file() and not entry.name.startswith(".")


def source_of(one: DataSet) -> dict[str, Any]:
    """Its entry in `ingest.sources`."""
    return {"adapter": one.adapter, "root": one.place, "licence": one.licence, **one.source}

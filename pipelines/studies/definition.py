"""A table or a figure of a paper as data: `studies/<name>.yaml`.

The data sets of all of them are in `studies/data.yaml`, published checkpoints in `studies/weights.yaml`.
"""

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipelines.config import load_params, parse
from pipelines.errors import UserError, did_you_mean
from pipelines.studies.counts import Counted
from pipelines.studies.metrics import why_unknown
from pipelines.studies.weights import METHOD, Weights

STUDIES = Path("studies")
DATA = STUDIES / "data.yaml"
WEIGHTS = STUDIES / "weights.yaml"
DEMO, PAPER = SCALES = ("demo", "paper")

# How a printed number counts -> what our value is multiplied with.
UNITS = {
    "percent": 100.0,
    "ratio": 1.0,
    "count": 1.0,
    "millions": 1e-6,
    "billions": 1e-9,
    "milliseconds": 1e3,
    "seconds": 1.0,
    "hours": 1 / 3600,
    "pixels": 1.0,
    "megabytes": 1e-6,
}

# Signs by which alone the rows of an ablation may differ -> how they stand in the name of an entry.
SPELT = {"×": " off ", "✗": " off ", "✓": " on ", "+": " plus ", "'": " prime ", "′": " prime "}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column, as it is printed.

    Attributes:
        name: Its heading.
        unit: One of `UNITS`.
        metric: `<task>/<metric>`, as `metrics.json` names them.
        mean_of: In the place of a metric: columns before this one, whose mean it is.
        data: Data set of `studies/data.yaml`; None: it is of the model, or of the row (`Row.counts`).
    """

    name: str
    unit: str
    metric: str | None = None
    mean_of: list[str] = field(default_factory=list)
    data: str | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(f"unit is '{self.unit}': choose from {', '.join(UNITS)}")
        if (self.metric is None) != bool(self.mean_of):
            raise ValueError(f"column '{self.name}' needs a metric or mean_of, and not both")
        if self.metric is not None and "/" not in self.metric:
            raise ValueError(f"metric is '{self.metric}': write <task>/<metric>")

    @property
    def task(self) -> str:
        """Of its metric; empty where it is a mean of columns."""
        return (self.metric or "").partition("/")[0]

    @property
    def within(self) -> str:
        """The metric's name within its task."""
        return (self.metric or "").partition("/")[2]

    @property
    def measures(self) -> str:
        """What it shows, for a person."""
        return self.metric or f"mean of {', '.join(self.mean_of)}"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row, as it is printed.

    Attributes:
        name: Its heading.
        printed: A number for each column; null where none is printed. None: the paper prints none of them.
        method: Our method; None: there is none, and the row has its printed values alone.
        settings: What differs from the method's settings in the study's base, or in params/paper.yaml.
        settings_at: Scale -> what differs further at it.
        weights: Published checkpoint that the method `pretrained` scores; in the file a key of `studies/weights.yaml`.
        counts: What is counted for it in columns `counts/...`.
        words: How many words the text has that it shows, for columns `words/...`.
        note: What the row is, or what ours lacks beside it.
    """

    name: str
    printed: list[float | None] | None = None
    method: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    settings_at: dict[str, dict[str, Any]] = field(default_factory=dict)
    weights: Weights | None = None
    counts: Counted | None = None
    words: int | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        if self.words is not None and self.words < 1:
            raise ValueError(f"row '{self.name}' shows a text of {self.words} words: it has at least one")
        if (self.method == METHOD) != (self.weights is not None):
            raise ValueError(f"row '{self.name}': the method {METHOD}, and no other one, needs weights")
        _check_scales(f"row '{self.name}': settings_at", self.settings_at)

    @property
    def entry(self) -> str | None:
        """Its name in `train.methods`: rows of one method with the same settings are trained once."""
        if self.method is None:
            return None
        own = self.settings or self.settings_at or self.weights
        return f"{self.method}_{_slug(self.name)}" if own else self.method

    @property
    def trained(self) -> tuple[str | None, dict[str, Any], dict[str, dict[str, Any]], Weights | None]:
        """What rows of one entry share."""
        return self.method, self.settings, self.settings_at, self.weights


@dataclass(frozen=True, kw_only=True)
class Study:
    """A table or a figure.

    Attributes:
        paper: The paper.
        place: Where in it.
        title: What is compared.
        base: Overlay of params.yaml with the settings of the methods, at the scale `demo`.
        columns: Left to right.
        rows: Top to bottom.
        tasks: Options of tasks that `base` lacks, or other ones.
        trains_on: At the scale `paper`: the data sets that the models learn from, where those of the columns are only
            scored. Empty: they learn from the training images of all data sets of the columns together.
        differs: What figures of ours differ in, whatever the row.
        differs_at: Scale -> what they differ in at it alone.
        print_errors: Where the paper contradicts itself.
    """

    paper: str
    place: str
    title: str
    base: str
    columns: list[Column]
    rows: list[Row]
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    trains_on: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    differs_at: dict[str, list[str]] = field(default_factory=dict)
    print_errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.columns or not self.rows:
            raise ValueError("a study needs at least one column and one row")
        for kind, names in (("columns", [one.name for one in self.columns]), ("rows", [one.name for one in self.rows])):
            if twice := [name for name, count in Counter(names).items() if count > 1]:
                raise ValueError(f"{kind} has '{twice[0]}' twice: say in the name what differs")
        for row in self.rows:
            if row.printed is not None and len(row.printed) != len(self.columns):
                raise ValueError(
                    f"row '{row.name}' has {len(row.printed)} printed values for {len(self.columns)} columns"
                )
            if (row.settings or row.settings_at) and row.method is None:
                raise ValueError(f"row '{row.name}' has settings and no method")
        _check_scales("differs_at", self.differs_at)
        of_entry: dict[str, Row] = {}
        for row in self.rows:
            first = of_entry.setdefault(row.entry or row.name, row)
            if first.trained != row.trained:
                raise ValueError(
                    f"rows '{first.name}' and '{row.name}' differ in method or settings and would both be trained as "
                    f"'{row.entry}': say in letters what differs"
                )
        units: dict[str, str] = {}
        for column in self.columns:
            for name in column.mean_of:
                if units.get(name) != column.unit:
                    raise ValueError(f"column '{column.name}' is the mean of '{name}', no column before it in its unit")
            units[column.name] = column.unit

    @property
    def data_sets(self) -> list[str]:
        """Those that it names, as keys of `studies/data.yaml`."""
        counted = (row.counts.data for row in self.rows if row.counts)
        named = [*self.trains_on, *(column.data for column in self.columns), *counted]
        return list(dict.fromkeys(name for name in named if name is not None))

    def differences(self, scale: str) -> list[str]:
        """What figures of ours differ in at a scale, whatever the row."""
        return [*self.differs, *self.differs_at.get(scale, [])]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set that a table needs.

    Attributes:
        name: As papers call it.
        obtained: Where a person gets it.
        licence: As published, or unknown.
        place: Folder where its source expects it.
        adapter: The source's adapter; None: none fits.
        source: Further settings of the source, such as `modality` and `options`.
        leaks: Its published split leaks; the study keeps it, and the report counts the leaks.
        images: How many the paper says that it has.
    """

    name: str
    obtained: str
    licence: str
    place: str
    adapter: str | None = None
    source: dict[str, Any] = field(default_factory=dict)
    leaks: bool = False
    images: int | None = None


def study_names(folder: Path = STUDIES) -> list[str]:
    """All studies, in alphabetical order."""
    return sorted(path.stem for path in folder.glob("*.yaml") if path.name not in (DATA.name, WEIGHTS.name))


def load_study(name: str, folder: Path = STUDIES) -> Study:
    """One study, checked.

    Raises:
        UserError: There is none of this name, or the file is not one; or it names a data set, a checkpoint or a metric
            that is not there.
    """
    known = study_names(folder)
    if name not in known:
        raise UserError(f"there is no study '{name}': {did_you_mean(name, known, ', '.join(known))}")
    path = folder / f"{name}.yaml"
    study = parse(Study, _with_weights(load_params(path), folder / WEIGHTS.name, path), str(path))
    known_data = load_params(folder / DATA.name)
    for column in study.columns:
        if column.data is not None and column.data not in known_data:
            raise UserError(f"{path}: column '{column.name}' names the data set '{column.data}', which {DATA} lacks")
        if column.metric is not None and (reason := why_unknown(column.metric)):
            raise UserError(f"{path}: column '{column.name}': {reason}")
    for row in study.rows:
        if row.counts is not None and row.counts.data not in known_data:
            raise UserError(f"{path}: row '{row.name}' counts the data set '{row.counts.data}', which {DATA} lacks")
    for key in study.trains_on:
        if key not in known_data:
            raise UserError(f"{path}: trains_on names the data set '{key}', which {DATA} lacks")
    return study


def load_data_sets(path: Path = DATA) -> dict[str, DataSet]:
    """Key -> data set."""
    return {key: parse(DataSet, value, f"{path}: {key}") for key, value in load_params(path).items()}


def _with_weights(values: dict[str, Any], weights: Path, path: Path) -> dict[str, Any]:
    """The values of a study's file, with the checkpoints in the place of their names."""
    rows = values.get("rows")
    named = [row for row in rows if isinstance(row, dict) and row.get("weights")] if isinstance(rows, list) else []
    known = load_params(weights) if named else {}
    for row in named:
        name = str(row["weights"])
        if name not in known:
            where = f"{path}: row '{row.get('name')}' names the weights '{name}'"
            raise UserError(f"{where}, which {WEIGHTS} lacks: {did_you_mean(name, known, ', '.join(known))}")
        row["weights"] = asdict(parse(Weights, known[name], f"{weights}: {name}"))
    return values


def _check_scales(where: str, by_scale: Collection[str]) -> None:
    if unknown := sorted(set(by_scale) - set(SCALES)):
        raise ValueError(f"{where} names the scale '{unknown[0]}': choose from {', '.join(SCALES)}")


def _slug(name: str) -> str:
    spelt = "".join(SPELT.get(letter, letter) for letter in name.lower())
    return re.sub(r"[^a-z0-9]+", "_", spelt).strip("_")

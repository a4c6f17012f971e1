"""The page of benchmarks/matrix.py, from its rows."""

from collections.abc import Iterable, Mapping, Sequence

from matrix_rows import ALL, TOOK, from_text

from pipelines.evaluate.guessing import CEILING, CHANCE, standing

Row = dict[str, str]
# Source, task and method -> the rows of its metrics, or one with the reason why there are none.
Cells = dict[tuple[str, str, str], list[Row]]

TITLES = {
    "phantom": "The phantom",
    "real": "Four real data sets",
    ALL: "All images together",
    "covid_chestxray": "covid_chestxray",
    "kvasir_seg": "Kvasir-SEG",
    "qata_cov19": "QaTa-COV19",
    "vqa_rad": "VQA-RAD",
}
NOT_RUN = "not run yet"
INTRODUCTION = [
    "# Every method on every task",
    "",
    "Written by `python benchmarks/matrix.py` from `matrix_phantom.csv` and `matrix_real.csv`; `README.md` beside",
    "this says how to read it. One seed of training, test images. In a matrix a cell has the first of the metrics",
    "that stand for the task, and above it chance and the best answer without a model; the tables behind it have all",
    "metrics, with 95 % intervals, beside chance, all baselines and `image-blind`, the same method on other images;",
    "where these differ from method to method, their range stands there. **Bold**: the interval lies beyond chance,",
    "every baseline and the method itself on other images; not counted are the rows `ceiling: ...`, which say what",
    "known facts of each image would give, or what can be reached at most. A number in brackets is the reason why a",
    "cell is empty; some reasons are codes of images that take no part, with their number.",
]


def page(files: Mapping[str, Sequence[Row]], methods: Sequence[str], tasks: Sequence[str]) -> list[str]:
    """The lines of the page.

    Args:
        files: `phantom` and `real`, as far as they are there, with their rows.
        methods: All that are registered, in the order of the page.
        tasks: All that are registered, in the order of the page.
    """
    lines = list(INTRODUCTION)
    for data, rows in files.items():
        cells = _cells(rows)
        sources = [ALL, *sorted({row["source"] for row in rows} - {ALL})]
        reasons: dict[str, int] = {}
        lines += ["", f"## {TITLES[data]}", "", *_took(rows, methods)]
        for source in sources:
            if len(sources) > 1:
                lines += ["", f"### {_title(source)}: matrix"]
            lines += ["", *_matrix(cells, source, methods, tasks, reasons)]
        lines += ["", "Empty, because", "", *(f"- ({number}) {reason}" for reason, number in reasons.items())]
        # Images of several sources have no trivial answer in common: their figures are read by source.
        for source in sources[1:] or [ALL]:
            for task in tasks:
                if figures := _figures(cells, source, task, methods):
                    name = f"{_title(source)}: {task}" if source != ALL else task
                    lines += ["", f"### {name}", "", *figures]
    return lines


def _cells(rows: Iterable[Row]) -> Cells:
    cells: Cells = {}
    for row in rows:
        cells.setdefault((row["source"], row["task"], row["method"]), []).append(row)
    return cells


def _title(source: str) -> str:
    return TITLES.get(source, source)


def _took(rows: Sequence[Row], methods: Sequence[str]) -> list[str]:
    """What each method took, in one thread beside another one."""
    by_method = {row["method"]: row for row in rows if row["seconds"]}
    total = sum(float(row["seconds"]) + float(row["scoring_seconds"]) for row in by_method.values())
    lines = [
        f"{len(by_method)} of {len(methods)} methods were trained: {total / 60:.0f} minutes of one core.",
        "",
        "| method | parameters | steps | seconds of training | of scoring |",
        "|---|---|---|---|---|",
    ]
    return lines + [
        f"| {method} | " + " | ".join(f"{int(by_method[method][column]):,}" for column in TOOK) + " |"
        for method in methods
        if method in by_method
    ]


def _matrix(
    cells: Cells, source: str, methods: Sequence[str], tasks: Sequence[str], reasons: dict[str, int]
) -> list[str]:
    """A row a method, a column a task; new reasons get the next numbers."""
    scored = {
        task: {method: row for method in methods if (row := _first(cells, source, task, method))} for task in tasks
    }
    shown = {task: {row["metric"] for row in rows.values()} for task, rows in scored.items()}
    heads = [f"{task}<br>{next(iter(shown[task]))}" if len(shown[task]) == 1 else task for task in tasks]
    lines = ["| method | " + " | ".join(heads) + " |", "|---" * (len(tasks) + 1) + "|"]
    for name, column in (("chance", "chance"), ("best baseline", "baseline_value")):
        # Where the methods of a column have several metrics, none stands for all.
        of_tasks = [scored[task].values() if len(shown[task]) == 1 else () for task in tasks]
        texts = [_range([float(row[column]) for row in rows if row[column]], 3) for rows in of_tasks]
        lines.append(f"| *{name}* | " + " | ".join(texts) + " |")
    for method in methods:
        texts = []
        for task in tasks:
            if row := scored[task].get(method):
                texts.append(f"{row['metric']} {_value(row)}" if len(shown[task]) > 1 else _value(row))
            else:
                number = reasons.setdefault(_reason(cells, source, task, method), len(reasons) + 1)
                texts.append(f"({number})")
        lines.append(f"| {method} | " + " | ".join(texts) + " |")
    return lines


def _first(cells: Cells, source: str, task: str, method: str) -> Row | None:
    rows = cells.get((source, task, method))
    return rows[0] if rows and rows[0]["metric"] else None


def _reason(cells: Cells, source: str, task: str, method: str) -> str:
    """Why a cell is empty; a task that gave no score at all has one row, of all images."""
    rows = cells.get((source, task, method)) or cells.get((ALL, task, method))
    return (rows[0]["reason"] if rows else "") or NOT_RUN


def _figures(cells: Cells, source: str, task: str, methods: Sequence[str]) -> list[str]:
    """All metrics of a task on a source: items, chance and baselines, and each method that has a score."""
    by_method = {
        method: {row["metric"]: row for row in cells[source, task, method]}
        for method in methods
        if _first(cells, source, task, method)
    }
    metrics = list(dict.fromkeys(metric for rows in by_method.values() for metric in rows))
    if not metrics:
        return []
    lines = ["| | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    of_metric = {metric: [rows[metric] for rows in by_method.values() if metric in rows] for metric in metrics}
    items = [_range([float(row["items"]) for row in of_metric[metric]], 0) for metric in metrics]
    lines.append("| items | " + " | ".join(items) + " |")
    for name in dict.fromkeys(name for rows in of_metric.values() for row in rows for name in _bounds(row)):
        known = [[bound[name] for row in of_metric[metric] if name in (bound := _bounds(row))] for metric in metrics]
        lines.append(f"| {name} | " + " | ".join(_range(values, 3) for values in known) + " |")
    for method, rows in by_method.items():
        texts = [_with_interval(rows[metric]) if metric in rows else "" for metric in metrics]
        lines.append(f"| `{method}` | " + " | ".join(texts) + " |")
    return lines


def _bounds(row: Row) -> dict[str, float]:
    return ({CHANCE: float(row["chance"])} if row["chance"] else {}) | from_text(row["baselines"])


def _range(values: Sequence[float], digits: int) -> str:
    if not values:
        return ""
    low, high = f"{min(values):.{digits}f}", f"{max(values):.{digits}f}"
    return low if low == high else f"{low} to {high}"


def _value(row: Row) -> str:
    text = f"{float(row['value']):.3f}"
    return f"**{text}**" if _is_beyond_all(row) else text


def _with_interval(row: Row) -> str:
    interval = f" ({float(row['low']):.3f} to {float(row['high']):.3f})" if row["low"] else ""
    return _value(row) + interval


def _is_beyond_all(row: Row) -> bool:
    """Whether the interval lies beyond chance and every baseline but ceilings; not where there is neither."""
    score = {bound: float(row[bound]) if row[bound] else None for bound in ("low", "high")}
    known = {name: value for name, value in _bounds(row).items() if not name.startswith(CEILING)}
    return bool(known) and all(standing(row["metric"], score, value) == "better" for value in known.values())

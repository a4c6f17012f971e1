"""The tables and the page of benchmarks/pretraining.py, from its rows."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.stats

from pipelines.files import atomic_path

Row = dict[str, str]
Key = tuple[str, str]

RETRIEVAL = ("retrieval/i2t_recall@1", "retrieval/t2i_recall@1")
REGIONS = ("region_retrieval/recall@1", "region_retrieval/adjective_accuracy")
BASELINES = ("chance", "trivial")
GROUNDING = ("grounding/cnr_signed", "grounding/cnr_absolute", "grounding/pointing")


@dataclass(frozen=True, kw_only=True)
class Order:
    """One variant said to be above another.

    Attributes:
        source: Who says so; "ours" where nobody does and the page answers a question of reading.
        better: (method, variant).
        worse: (method, variant).
        metrics: What it is judged by.
    """

    source: str
    better: Key
    worse: Key
    metrics: Sequence[str]


FIGURE_5, TABLE_3, TABLE_VI, FIGURE_6 = "001 figure 5", "001 table 3", "000 table VI", "000 figure 6"
FULL, PLAN = ("regionmed_clip", "default"), ("plan", "default")
ORDERS = (
    Order(source=FIGURE_5, better=FULL, worse=("regionmed_clip", "R"), metrics=RETRIEVAL),
    Order(source=FIGURE_5, better=("regionmed_clip", "R"), worse=("regionmed_clip", "G"), metrics=RETRIEVAL),
    Order(source=FIGURE_5, better=("regionmed_clip", "G"), worse=("regionmed_clip", "W"), metrics=RETRIEVAL),
    Order(source=FIGURE_5, better=("regionmed_clip", "W"), worse=("regionmed_clip", "B"), metrics=RETRIEVAL),
    Order(source=FIGURE_5, better=("regionmed_clip", "G"), worse=("regionmed_clip", "B"), metrics=RETRIEVAL),
    Order(source=FIGURE_5, better=FULL, worse=("regionmed_clip", "B"), metrics=RETRIEVAL),
    Order(source=TABLE_3, better=FULL, worse=("clip", "default"), metrics=RETRIEVAL),
    Order(source=TABLE_3, better=FULL, worse=("siglip", "default"), metrics=RETRIEVAL),
    Order(source="001", better=FULL, worse=("clip", "default"), metrics=(*REGIONS, *GROUNDING)),
    Order(source=TABLE_VI, better=PLAN, worse=("plan", "initial_local"), metrics=GROUNDING),
    Order(source=TABLE_VI, better=("plan", "initial_local"), worse=("plan", "global"), metrics=GROUNDING),
    Order(source=TABLE_VI, better=PLAN, worse=("plan", "global"), metrics=(*GROUNDING, *RETRIEVAL)),
    *(Order(source=FIGURE_6, better=PLAN, worse=("plan", f"iterations_{t}"), metrics=GROUNDING) for t in (1, 2, 4, 5)),
    Order(source="000 table II", better=PLAN, worse=("gloria", "default"), metrics=GROUNDING),
    Order(source="000 table II", better=PLAN, worse=("mgca", "default"), metrics=GROUNDING),
    Order(source="000 table II", better=PLAN, worse=("convirt", "default"), metrics=GROUNDING),
    Order(source="ours", better=PLAN, worse=("plan", "negatives_report"), metrics=(*GROUNDING, *RETRIEVAL)),
    Order(source="ours", better=("regionmed_clip", "negatives_softmax"), worse=FULL, metrics=(*REGIONS, *RETRIEVAL)),
    Order(source="ours", better=FULL, worse=("regionmed_clip", "one_directional"), metrics=(*RETRIEVAL, *REGIONS)),
    Order(source="ours", better=FULL, worse=("regionmed_clip", "embedding_regions"), metrics=RETRIEVAL),
    Order(source="ours", better=FULL, worse=("regionmed_clip", "embedding_mean"), metrics=RETRIEVAL),
    Order(
        source="own schedules",
        better=("regionmed_clip", "paper_schedule"),
        worse=("clip", "paper_schedule"),
        metrics=(*RETRIEVAL, *REGIONS),
    ),
    Order(source="own schedules", better=("plan", "paper_schedule"), worse=PLAN, metrics=GROUNDING),
)


def write(runs: list[Row], columns: Sequence[str], table: Path, page: Path, head: str) -> None:
    """Means over seeds as CSV, and the page."""
    found: dict[Key, dict[int, Row]] = {}
    for row in runs:
        found.setdefault((row["method"], row["variant"]), {})[int(row["seed"])] = row
    with atomic_path(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(head)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["method", "variant", "task", "metric", "mean", "std", "seeds", "items"])
        for (method, variant), seeds in found.items():
            for column in columns:
                writer.writerow([method, variant, *_means(list(seeds.values()), column, column)])
        for column in columns:
            writer.writerow(["chance", "default", *_means(runs, column, f"{column} chance")])
            if f"{column} trivial" in runs[0]:
                writer.writerow(["trivial", "default", *_means(runs, column, f"{column} trivial")])
    with atomic_path(page) as temporary:
        temporary.write_text("\n".join(_page(found, columns)) + "\n", encoding="utf-8")


def _means(rows: list[Row], column: str, measured: str) -> list[str | int | float]:
    task, metric = column.split("/")
    values = np.array([float(row[measured]) for row in rows])
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    seeds = len({row["seed"] for row in rows})
    return [task, metric, round(float(values.mean()), 4), round(deviation, 4), seeds, int(rows[0][f"{task} items"])]


def _page(found: dict[Key, dict[int, Row]], columns: Sequence[str]) -> list[str]:
    some = next(iter(found.values()))
    row = next(iter(some.values()))
    lines = [
        "# Pretraining methods on the phantom",
        "",
        "Written by `python benchmarks/pretraining.py`; `pretraining_runs.csv` has each seed, `README.md` beside this",
        "says how to read it. Mean over seeds, standard deviation behind it. First chance, then what scores without a",
        "look at the region: a map that is high in the picture's centre, and the most frequent adjective.",
        "",
        "| method | variant | seeds | steps | " + " | ".join(column.replace("/", " ") for column in columns) + " |",
        "|---" * (len(columns) + 4) + "|",
        *(
            "| " + name + " | | | | " + " | ".join(_known(row, f"{column} {name}") for column in columns) + " |"
            for name in BASELINES
        ),
    ]
    for (method, variant), seeds in found.items():
        rows = list(seeds.values())
        cells = [_cell([float(one[column]) for one in rows]) for column in columns]
        lines.append(f"| {method} | {variant} | {len(rows)} | {rows[0]['steps']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Orders",
        "",
        "Difference of the two variants by seed, its mean, and the 95 % interval of that mean (Student's t). An order",
        "is confirmed where the interval lies above 0, contradicted where it lies below, else not resolved. Each row",
        "is judged by itself: of so many, some come out wrong by chance.",
        "",
        "| claimed by | above | below | metric | difference | 95 % interval | seeds | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for order in ORDERS:
        for metric in order.metrics:
            lines.append(_judged(order, metric, found))
    return lines


def _known(row: Row, column: str) -> str:
    return f"{float(row[column]):.3f}" if column in row else ""


def _cell(values: list[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def _judged(order: Order, metric: str, found: dict[Key, dict[int, Row]]) -> str:
    better, worse = found.get(order.better, {}), found.get(order.worse, {})
    seeds = sorted(better.keys() & worse.keys())
    cells = [order.source, " ".join(order.better), " ".join(order.worse), metric]
    if len(seeds) < 2:
        return "| " + " | ".join([*cells, "", "", str(len(seeds)), "not measured"]) + " |"
    differences = [float(better[seed][metric]) - float(worse[seed][metric]) for seed in seeds]
    low, high = interval(differences)
    cells += [f"{np.mean(differences):+.3f}", f"{low:+.3f} to {high:+.3f}", str(len(seeds)), verdict(low, high)]
    return "| " + " | ".join(cells) + " |"


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of paired differences, by Student's t."""
    values = np.asarray(differences)
    half = float(scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def verdict(low: float, high: float) -> str:
    if low > 0:
        return "confirmed"
    return "contradicted" if high < 0 else "not resolved"

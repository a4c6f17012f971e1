"""The tables and the page of benchmarks/pretraining.py, from its rows."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from orders import EXPLANATION, Found, Order, Row, by_variant, cell, judged

from pipelines.files import atomic_path

RETRIEVAL = ("retrieval/i2t_recall@1", "retrieval/t2i_recall@1")
REGIONS = ("region_retrieval/recall@1", "region_retrieval/adjective_accuracy")
BASELINES = ("chance", "trivial")
GROUNDING = ("grounding/cnr_signed", "grounding/cnr_absolute", "grounding/pointing")


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
    found = by_variant(runs)
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


def _page(found: Found, columns: Sequence[str]) -> list[str]:
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
        cells = [cell([float(one[column]) for one in rows]) for column in columns]
        lines.append(f"| {method} | {variant} | {len(rows)} | {rows[0]['steps']} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Orders",
        "",
        *EXPLANATION,
    ]
    for order in ORDERS:
        for metric in order.metrics:
            lines.append(judged(order, metric, found))
    return lines


def _known(row: Row, column: str) -> str:
    return f"{float(row[column]):.3f}" if column in row else ""

"""The tables and the page of benchmarks/segmentation.py, from its rows."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import power
from orders import EXPLANATION, Order, Row, by_metric, by_variant, cell, judged

from pipelines.files import atomic_path

DICE = ("own/dice_per_image", "own/dice_pooled")
NON_EMPTY = "own/dice_per_non_empty_image"
RECLMIS, TMCA, UNET = ("reclmis", "default"), ("tmca", "default"), ("unet", "default")
JUDGED_BY = {"qata_test": DICE, "phantom_test": (*DICE, NON_EMPTY)}
# What the papers claim of the variants that have every seed: above, below.
CLAIMS = (
    ("003 table I", RECLMIS, UNET),
    ("003 table III", RECLMIS, ("reclmis", "no_reconstruction")),
    ("002 table 1", TMCA, UNET),
    ("002 table 1", TMCA, RECLMIS),
    ("002 table 2", TMCA, ("tmca", "baseline")),
)
TITLES = {"qata_test": "QaTa-COV19", "phantom_test": "Phantom"}
SHOWN = (
    "own/dice_per_image",
    NON_EMPTY,
    "own/dice_pooled",
    "shuffled/dice_per_image",
    "empty/dice_per_image",
    "laterality/retention",
    "laterality/suppression",
)
SEEDS = (3, 5, 10)


def orders(data: str) -> list[Order]:
    return [Order(source=source, better=above, worse=below, metrics=JUDGED_BY[data]) for source, above, below in CLAIMS]


def write(runs: list[Row], pilot: list[Row], columns: Sequence[str], table: Path, page: Path, head: str) -> None:
    """Means over seeds as CSV, and the page.

    Args:
        runs: The rows of the study, one a run.
        pilot: Those of the study that it was planned from.
        columns: Scores of a row.
        table: The CSV file.
        page: The page.
        head: Comment at the head of the CSV file.
    """
    with atomic_path(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(head)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["method", "variant", "data", "text", "metric", "mean", "std", "seeds", "items"])
        for data in TITLES:
            found = by_variant([row for row in runs if row["data"] == data])
            for (method, variant), seeds in found.items():
                rows = list(seeds.values())
                for column in columns:
                    if rows[0][column]:
                        writer.writerow([method, variant, data, *_means(rows, column, column)])
            for column in columns:
                rows = [row for row in runs if row["data"] == data and row[column]]
                if rows:
                    writer.writerow(["constant", "default", data, *_means(rows, column, f"{column} constant")])
    with atomic_path(page) as temporary:
        temporary.write_text("\n".join(_page(runs, pilot)) + "\n", encoding="utf-8")


def _means(rows: list[Row], column: str, measured: str) -> list[str | int | float]:
    text, metric = column.split("/")
    items = "non-empty items" if column.endswith(NON_EMPTY.split("/")[1]) else f"{text} items"
    values = np.array([float(row[measured]) for row in rows])
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    seeds = len({row["seed"] for row in rows})
    return [text, metric, round(float(values.mean()), 4), round(deviation, 4), seeds, int(rows[0][items])]


def _page(runs: list[Row], pilot: list[Row]) -> list[str]:
    lines = [
        "# Methods that segment",
        "",
        "Written by `python benchmarks/segmentation.py`; `segmentation_runs.csv` has each seed, `README.md` beside",
        "this says how to read it. Mean over seeds, standard deviation behind it. The checkpoint is the epoch with the",
        "highest Dice on validation images. `constant` is the better of everything and nothing being foreground.",
        "Validation: Dice per image on validation images, with the texts of training. Non-empty: the mean over the",
        "test images that have a target. Laterality: when a report of both sides is cut to one, retention is the",
        "fraction of the true positives on the named side that stay, suppression the fraction of those on the other",
        "side that disappear.",
        "",
        "`baseline` of TMCA is without alignment, and without LTEM, which reads the map that the alignment trains.",
        "",
        "## What the seeds can see",
        "",
        "Standard deviation of the differences of two variants by seed, pooled over the pairs of the orders below, and",
        "the true difference that a number of seeds finds with a probability of 0.8 (two-sided t test of paired",
        "differences, level 0.05; `benchmarks/power.py`). Pairs share variants, so the degrees of freedom are at most",
        "those. The study was planned from `segmentation_pilot.csv`, three seeds of the study before, which kept the",
        "last epoch; where this study has two seeds, the same is said of its own.",
    ]
    for title, rows in (("Planned from", pilot), ("This study", runs)):
        for data in TITLES:
            found = by_variant([row for row in rows if row["data"] == data])
            paired = by_metric(orders(data), found)
            if any(len(values) > 1 for pairs in paired.values() for values in pairs):
                lines += ["", f"{title}, {TITLES[data]}:", "", *power.table(paired, SEEDS)]
    for data, title in TITLES.items():
        mine = [row for row in runs if row["data"] == data]
        if mine:
            lines += section(title, mine, orders(data))
    return lines


def section(title: str, rows: list[Row], claimed: Sequence[Order]) -> list[str]:
    """One data set of a page: means over seeds, and the verdicts."""
    found = by_variant(rows)
    lines = ["", f"## {title}", "", *_table(rows, SHOWN), "", f"### Orders on {title}", "", *EXPLANATION]
    return lines + [judged(order, metric, found) for order in claimed for metric in order.metrics]


def _table(rows: list[Row], columns: Sequence[str]) -> list[str]:
    names = [column.replace("_", " ").replace("/", " ") for column in columns]
    lines = [
        "| method | variant | seeds | steps | parameters | validation | " + " | ".join(names) + " |",
        "|---" * (len(columns) + 6) + "|",
        "| constant | | | | | | " + " | ".join(rows[0].get(f"{column} constant", "") for column in columns) + " |",
    ]
    for (method, variant), seeds in by_variant(rows).items():
        mine = list(seeds.values())
        cells = [_cell(mine, column) for column in ("validation/dice_per_image", *columns)]
        facts = f"{len(mine)} | {mine[0]['steps']} | {int(mine[0]['parameters']):,}"
        lines.append(f"| {method} | {variant} | {facts} | " + " | ".join(cells) + " |")
    return lines


def _cell(rows: list[Row], column: str) -> str:
    return cell([float(row[column]) for row in rows]) if rows[0][column] else ""

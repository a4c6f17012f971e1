"""The tables and the page of benchmarks/segmentation.py, from its rows."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from orders import EXPLANATION, Order, Row, by_variant, cell, judged

from pipelines.files import atomic_path

JUDGED_READING = ("own/dice_per_image", "own/dice_pooled", "validation/dice_per_image")
DICE = ("own/dice_per_image", "own/dice_pooled")
TABLE_III, TABLE_IV, TABLE_V = "003 table III", "003 table IV", "003 table V"
FULL, TMCA, UNET = ("reclmis", "default"), ("tmca", "default"), ("unet", "default")
# What the papers claim; judged on the phantom, where each variant has every seed.
ORDERS = (
    Order(source=TABLE_III, better=FULL, worse=("reclmis", "no_language_reconstruction"), metrics=DICE),
    Order(source=TABLE_III, better=FULL, worse=("reclmis", "no_vision_reconstruction"), metrics=DICE),
    Order(source=TABLE_III, better=FULL, worse=("reclmis", "no_reconstruction"), metrics=DICE),
    Order(source=TABLE_III, better=("reclmis", "no_reconstruction"), worse=("reclmis", "no_interaction"), metrics=DICE),
    Order(source=TABLE_IV, better=FULL, worse=("reclmis", "no_condition"), metrics=DICE),
    Order(source=TABLE_V, better=FULL, worse=("reclmis", "self_interaction"), metrics=DICE),
    Order(source="003 table I", better=FULL, worse=UNET, metrics=DICE),
    Order(source="002 table 2", better=("tmca", "mcas"), worse=("tmca", "baseline"), metrics=DICE),
    Order(source="002 table 2", better=("tmca", "mcas_ltem"), worse=("tmca", "mcas"), metrics=DICE),
    Order(source="002 table 2", better=TMCA, worse=("tmca", "mcas_ltem"), metrics=DICE),
    Order(source="002 table 2", better=TMCA, worse=("tmca", "baseline"), metrics=DICE),
    Order(source="002 table 3", better=("tmca", "levels_g"), worse=("tmca", "baseline"), metrics=DICE),
    Order(source="002 table 3", better=("tmca", "levels_g_32"), worse=("tmca", "levels_g"), metrics=DICE),
    Order(source="002 table 3", better=("tmca", "levels_g_32_16"), worse=("tmca", "levels_g_32"), metrics=DICE),
    Order(source="002 table 3", better=TMCA, worse=("tmca", "levels_g_32_16"), metrics=DICE),
    Order(source="002 table 1", better=TMCA, worse=UNET, metrics=DICE),
    Order(source="002 table 1", better=TMCA, worse=FULL, metrics=DICE),
    Order(source="ours: paper above published", better=FULL, worse=("reclmis", "published"), metrics=JUDGED_READING),
    Order(source="ours: rescaled above literal", better=TMCA, worse=("tmca", "ltem_literal"), metrics=DICE),
    Order(source="ours: weight 0.1 above 1", better=TMCA, worse=("tmca", "paper_weight"), metrics=DICE),
)
# On real data three methods have every seed, and the second reading of RecLMIS.
REAL_ORDERS = (
    Order(source="ours: paper above published", better=FULL, worse=("reclmis", "published"), metrics=JUDGED_READING),
    Order(source="003 table I", better=FULL, worse=UNET, metrics=DICE),
    Order(source="002 table 1", better=TMCA, worse=UNET, metrics=DICE),
    Order(source="002 table 1", better=TMCA, worse=FULL, metrics=DICE),
)
JUDGED = {"phantom_test": ORDERS, "qata_test": REAL_ORDERS, "kvasir_test": ()}
OTHER_TEXTS = (
    "shuffled/dice_per_image",
    "empty/dice_per_image",
    "laterality/retention",
    "laterality/suppression",
)
TITLES = {"phantom_test": "Phantom", "qata_test": "QaTa-COV19", "kvasir_test": "Kvasir-SEG"}
SHOWN = {
    "phantom_test": (*DICE, *OTHER_TEXTS),
    "qata_test": (*DICE, *OTHER_TEXTS),
    "kvasir_test": (
        "mask_derived/dice_per_image",
        "mask_derived/dice_pooled",
        "empty/dice_per_image",
        "empty/dice_pooled",
    ),
}


def write(runs: list[Row], columns: Sequence[str], table: Path, page: Path, head: str) -> None:
    """Means over seeds as CSV, and the page."""
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
        temporary.write_text("\n".join(_page(runs)) + "\n", encoding="utf-8")


def _means(rows: list[Row], column: str, measured: str) -> list[str | int | float]:
    text, metric = column.split("/")
    values = np.array([float(row[measured]) for row in rows])
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    seeds = len({row["seed"] for row in rows})
    return [text, metric, round(float(values.mean()), 4), round(deviation, 4), seeds, int(rows[0][f"{text} items"])]


def _page(runs: list[Row]) -> list[str]:
    lines = [
        "# Methods that segment",
        "",
        "Written by `python benchmarks/segmentation.py`; `segmentation_runs.csv` has each seed, `README.md` beside",
        "this says how to read it. Mean over seeds, standard deviation behind it. `constant` is the better of",
        "everything and nothing being foreground. Validation: Dice per image on validation images, with the texts of",
        "training. Laterality: when a report of both sides is cut to one, retention is the fraction of the true",
        "positives on the named side that stay, suppression the fraction of those on the other side that disappear.",
    ]
    for data, title in TITLES.items():
        mine = [row for row in runs if row["data"] == data]
        if mine:
            lines += ["", f"## {title}", "", *_table(mine, SHOWN[data])]
        if mine and JUDGED[data]:
            found = by_variant(mine)
            lines += ["", f"### Orders on {title}", "", *EXPLANATION]
            lines += [judged(order, metric, found) for order in JUDGED[data] for metric in order.metrics]
    return lines


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

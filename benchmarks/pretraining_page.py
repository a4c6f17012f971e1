"""The tables and the page of benchmarks/pretraining.py, from its rows."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import power
from orders import EXPLANATION, Order, Row, by_metric, by_variant, cell, interval, judged

from pipelines.files import atomic_path

RETRIEVAL = ("retrieval/i2t_recall@1", "retrieval/t2i_recall@1")
REGIONS = ("region_retrieval/recall@1", "region_retrieval/adjective_accuracy")
# Of phrases that do not say where the finding is; nothing but the image tells it.
WITHOUT_POSITION = tuple(
    f"grounding/without_position/{metric}" for metric in ("which_lesion", "pointing", "cnr_signed")
)
GROUNDING = (*WITHOUT_POSITION, "grounding/which_lesion", "grounding/pointing", "grounding/cnr_signed")
# What PLAN's table VI prints, among others.
PRINTED = (*GROUNDING, "grounding/cnr_absolute")

# Name of a bound in metrics.json -> its method and variant in the table. A blind method is one of each variant.
BOUNDS = {
    "chance": ("chance", "default"),
    "centre heatmap": ("centre", "default"),
    "named cell": ("text_only", "named_cell"),
    "mean training mask": ("text_only", "mean_training_mask"),
    "most frequent adjective": ("text_only", "most_frequent_adjective"),
    "ceiling: modality, traits, normality": ("known", "modality_traits_normality"),
    "image-blind": ("blind", ""),
}
BLIND = "image-blind"
SEEDS = (3, 5, 10)

FULL, CLIP, PLAN = ("regionmed_clip", "default"), ("clip", "default"), ("plan", "default")
GLOBAL, REGION, SENTENCES = ("regionmed_clip", "G"), ("regionmed_clip", "R"), ("clip", "sentences")
ORDERS = (
    Order(source="001 table 3", better=FULL, worse=CLIP, metrics=RETRIEVAL),
    Order(source="001 table 3", better=FULL, worse=("siglip", "default"), metrics=RETRIEVAL),
    Order(source="001", better=FULL, worse=CLIP, metrics=(*GROUNDING, *REGIONS)),
    Order(source="001 figure 5", better=FULL, worse=REGION, metrics=RETRIEVAL),
    Order(source="001 figure 5", better=REGION, worse=GLOBAL, metrics=RETRIEVAL),
    Order(source="001 figure 5", better=GLOBAL, worse=CLIP, metrics=RETRIEVAL),
    Order(source="000 table VI", better=PLAN, worse=("plan", "global"), metrics=(*PRINTED, *RETRIEVAL)),
    Order(source="ours", better=SENTENCES, worse=CLIP, metrics=(*GROUNDING, *RETRIEVAL)),
    Order(source="ours", better=FULL, worse=SENTENCES, metrics=(*GROUNDING, *RETRIEVAL)),
)


def write(runs: list[Row], pilot: list[Row], columns: Sequence[str], table: Path, page: Path, head: str) -> None:
    """Means over seeds as CSV, and the page.

    Args:
        runs: The rows of the study, one a run.
        pilot: Those of the study that it was planned from.
        columns: Scores of a row, as `task/metric`.
        table: The CSV file.
        page: The page.
        head: Comment at the head of the CSV file.
    """
    with atomic_path(table) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(head)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["method", "variant", "task", "metric", "mean", "std", "seeds", "items"])
        for method, variant, rows, suffix in _rows(runs):
            for column in columns:
                # A bound is not one of every score.
                if rows[0].get(f"{column}{suffix}"):
                    writer.writerow([method, variant, *_means(rows, column, f"{column}{suffix}")])
    with atomic_path(page) as temporary:
        temporary.write_text("\n".join(_page(runs, pilot, columns)) + "\n", encoding="utf-8")


def _rows(runs: list[Row]) -> Iterator[tuple[str, str, list[Row], str]]:
    """Method, variant, the runs behind them, and what follows a score's name in these."""
    found = {key: list(seeds.values()) for key, seeds in by_variant(runs).items()}
    for bound, (method, variant) in BOUNDS.items():
        if bound != BLIND:
            yield method, variant, runs, f" {bound}"
    for key, rows in found.items():
        yield BOUNDS[BLIND][0], " ".join(key), rows, f" {BLIND}"
    for (method, variant), rows in found.items():
        yield method, variant, rows, ""


def _means(rows: list[Row], column: str, measured: str) -> list[str | int | float]:
    task, _, metric = column.partition("/")
    values = np.array([float(row[measured]) for row in rows])
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    seeds = len({row["seed"] for row in rows})
    return [task, metric, round(float(values.mean()), 4), round(deviation, 4), seeds, int(rows[0][f"{column} items"])]


def _page(runs: list[Row], pilot: list[Row], columns: Sequence[str]) -> list[str]:
    found = by_variant(runs)
    lines = [
        "# Pretraining methods on the phantom",
        "",
        "Written by `python benchmarks/pretraining.py`; `pretraining_runs.csv` has each seed, `README.md` beside this",
        "says how to read it. Mean over seeds, standard deviation behind it.",
        "",
        "First what needs no image: `chance`; `centre`, a map that is high in the image's centre; `text_only`, the",
        "field of the image that the phrase names, the mean mask of the training phrases most like it, and the most",
        "frequent adjective; `known`, the best that modality, traits and normality of the patient allow; `blind`,",
        "the trained method itself while it looks at other images. `without position`: phrases that do not say where",
        "the finding is.",
        "",
        "| method | variant | seeds | steps | " + " | ".join(column.replace("/", " ") for column in columns) + " |",
        "|---" * (len(columns) + 4) + "|",
    ]
    for method, variant, rows, suffix in _rows(runs):
        cells = [_cell(rows, f"{column}{suffix}") for column in columns]
        facts = "" if suffix else rows[0]["steps"]
        seeds = len({row["seed"] for row in rows})
        lines.append(f"| {method} | {variant} | {seeds} | {facts} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## What the seeds can see",
        "",
        "Standard deviation of the differences of two variants by seed, pooled over the pairs of the orders below, and",
        "the true difference that a number of seeds finds with a probability of 0.8 (two-sided t test of paired",
        "differences, level 0.05; `benchmarks/power.py`). Pairs share variants, so the degrees of freedom are at most",
        "those. The study was planned from `pretraining_pilot.csv`, three seeds of the study before, whose encoders",
        "had large patches and two transformer layers, and in which nothing grounded.",
    ]
    for title, rows in (("Planned from", pilot), ("This study", runs)):
        paired = by_metric(ORDERS, by_variant(rows))
        if any(len(values) > 1 for pairs in paired.values() for values in pairs):
            lines += ["", f"{title}:", "", *power.table(paired, SEEDS)]
    lines += [
        "",
        "## Against what never sees the image",
        "",
        "Phrases without their position: each variant less the best of chance, the centre map, the text-only baselines",
        "and itself on other images, by seed, and the 95 % interval of the mean (Student's t).",
        "",
        "| method | variant | metric | best without the image | difference | 95 % interval | seeds | verdict |",
        "|---|---|---|---|---|---|---|---|",
        *(_against(key, metric, list(seeds.values())) for key, seeds in found.items() for metric in WITHOUT_POSITION),
        "",
        "## Orders",
        "",
        *EXPLANATION,
        *(judged(order, metric, found) for order in ORDERS for metric in order.metrics),
    ]
    return lines


def _against(key: tuple[str, str], metric: str, rows: list[Row]) -> str:
    """A line of the table of blind baselines; the best one is that of the mean over seeds."""
    known = [bound for bound in BOUNDS if rows[0].get(f"{metric} {bound}")]
    best = max(known, key=lambda bound: float(np.mean([float(row[f"{metric} {bound}"]) for row in rows])))
    values = [float(row[metric]) - float(row[f"{metric} {best}"]) for row in rows]
    cells = [*key, metric, best, f"{np.mean(values):+.3f}"]
    if len(values) < 2:
        return "| " + " | ".join([*cells, "", str(len(values)), "one seed"]) + " |"
    low, high = interval(values)
    outcome = "above" if low > 0 else "below" if high < 0 else "not resolved"
    return "| " + " | ".join([*cells, f"{low:+.3f} to {high:+.3f}", str(len(values)), outcome]) + " |"


def _cell(rows: list[Row], column: str) -> str:
    return cell([float(row[column]) for row in rows]) if rows[0].get(column) else ""

"""The page of benchmarks/weights.py, from its rows and those of benchmarks/record.py."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import runs
from orders import Row, cell, interval, verdict
from power import detectable

from pipelines.files import atomic_path
from pipelines.report.comparison import score_rows
from pipelines.report.verdict.against_guessing import against_guessing

ALL = "all"
KEPT = ("task", "metric", "value", "low", "high", "chance", "baselines", "items")
SEGMENTATION, DICE = "segmentation", "dice_per_image"
# What a method is given beside an image: the text of its source; where the source has none, one made of the masks,
# which tells where the finding is; nothing.
TEXTS = ("own", "mask_derived", "empty")
# Of the methods that do not segment.
SHOWN = {
    "retrieval": ("i2t_recall@1", "t2i_recall@1", "i2t_recall@10", "t2i_recall@10"),
    "region_retrieval": ("recall@1", "recall@10", "adjective_accuracy"),
    "grounding": (
        "which_lesion",
        "pointing",
        "cnr_signed",
        "without_position/which_lesion",
        "without_position/pointing",
        "without_position/cnr_signed",
    ),
    "zero_shot": ("auc_macro",),
    "laterality": ("report/accuracy", "map/accuracy"),
}


def scores_of(tasks: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each score of metrics.json as a row, of all images and of each source, with its standing in words.

    The baselines of a source are those of all, which say nothing of it: there chance stands alone.
    """
    for row in score_rows({"": {"tasks": tasks}}):
        score = tasks[row["task"]]["metrics"][row["metric"]]
        _, words, _ = against_guessing(row["metric"], score)
        yield {"source": ALL, **{name: row[name] for name in KEPT}, "standing": words}
    for task, result in tasks.items():
        for source, part in result.get("by_source", {}).items():
            for metric, score in part["metrics"].items():
                _, words, _ = against_guessing(metric, score)
                numbers = {name: score[name] for name in ("value", "low", "high", "chance")}
                about = {"task": task, "metric": metric, **numbers, "baselines": "", "items": part["items"]}
                yield {"source": source, **about, "standing": words}


def write(results: Path, stages: Path) -> None:
    """Write weights.md of the rows in `results`; `stages` is where record.py has written."""
    rows, cached = (runs.read(results / f"weights_{name}.csv") for name in ("runs", "cache"))
    text = "\n".join(_page(rows, cached, runs.read(stages / "weights_stages.csv"))) + "\n"
    with atomic_path(results / "weights.md") as temporary:
        temporary.write_text(text)


def _page(rows: list[Row], cached: list[Row], stages: list[Row]) -> Iterator[str]:
    yield from (
        "# Published weights against the same methods from scratch",
        "",
        "Written by `python benchmarks/weights.py`, on the data of `params/weights.yaml`: small parts of QaTa-COV19,",
        "Kvasir-SEG, covid_chestxray and VQA-RAD at 224 pixels. `pretrained`: DINOv2-S for images, MiniLM for texts,",
        "both frozen. `scratch`: small encoders in their place, learned with the rest. Same data, losses and epochs.",
        "`weights_runs.csv` has every score of every run.",
    )
    columns = ("method", "source", "text", "images", "seeds", "constant", "scratch", "pretrained", "difference")
    yield from _section(
        "Segmentation",
        (
            "Dice per test image, mean and standard deviation over seeds; difference by seed with the 95 % interval of",
            "its mean (Student's t), and the true difference that so many seeds with this spread find four times of",
            "five. Constant: the better of everything and nothing being foreground. Text: `own`, that of the source;",
            "`mask_derived`, made of the masks where it has none, which tells where the finding is; `empty`, none. All",
            "methods learn from the first two; U-Net reads no text.",
        ),
        (*columns, "95 % interval", "could have been seen", "verdict"),
    )
    yield from _segmentation([row for row in rows if row["task"] == SEGMENTATION])
    yield from _section(
        "Retrieval, regions, grounding, labels",
        ("Value with its 95 % interval over the test items, one seed; the standing is that of `pretrained`.",),
        ("method", "task", "metric", "items", "scratch", "pretrained", "baselines", "standing of pretrained"),
    )
    yield from _scores([row for row in rows if row["source"] == ALL])
    yield from _section(
        "Seconds and memory of a run",
        (
            "`pretrained` is the study's own run, in two threads, with the features that it found kept; `scratch` has",
            "one thread, beside another run.",
        ),
        ("method", "encoders", "parameters", "steps", "training, s", "scoring, s", "peak memory, MB"),
    )
    yield from _costs(rows)
    kept = ("method", "features", "images", "steps", "seconds", "on disk, MB", "checkpoint")
    yield from _section("Kept features", (), kept)
    for row in cached:
        cells = [row[name] for name in ("method", "features", "images", "steps", "seconds", "stored_mb")]
        yield f"| {' | '.join(cells)} | {row['checkpoint_sha256'][:12]} |"
    yield from _section("The study's stages", (), ("stage", "inputs", "ok", "seconds", "peak memory, MB"))
    for row in stages:
        yield f"| {' | '.join(row[name] for name in ('stage', 'inputs', 'ok', 'seconds', 'peak_memory_mb'))} |"


def _section(title: str, text: Sequence[str], columns: Sequence[str]) -> Iterator[str]:
    """A heading, what is to be read before the table, and the table's head."""
    yield from ("", f"## {title}", "", *text)
    if text:
        yield ""
    yield from (f"| {' | '.join(columns)} |", "|---" * len(columns) + "|")


def _by_encoders(rows: Sequence[Row], *names: str) -> dict[tuple[str, ...], dict[str, dict[int, Row]]]:
    """Rows by some of their fields, then by encoders and seed."""
    found: dict[tuple[str, ...], dict[str, dict[int, Row]]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        found.setdefault(key, {}).setdefault(row["encoders"], {})[int(row["seed"])] = row
    return found


def _segmentation(rows: list[Row]) -> Iterator[str]:
    wanted = {f"{text}/{DICE}": text for text in TEXTS}
    of_sources = [row | {"text": wanted[row["metric"]]} for row in rows if row["metric"] in wanted]
    for (method, source, text), encoders in sorted(_by_encoders(of_sources, "method", "source", "text").items()):
        if source == ALL:
            continue
        scratch, pretrained = (
            {seed: float(row["value"]) for seed, row in encoders.get(name, {}).items()}
            for name in ("scratch", "pretrained")
        )
        first = next(iter(next(iter(encoders.values())).values()))
        seeds = sorted(scratch.keys() & pretrained.keys())
        cells = [method, source, text, first["items"], str(len(seeds)), _short(first["chance"])]
        cells += [cell(list(values.values())) if values else "" for values in (scratch, pretrained)]
        paired = [pretrained[seed] - scratch[seed] for seed in seeds]
        if len(paired) > 1:
            low, high = interval(paired)
            mean = sum(paired) / len(paired)
            seen = detectable(float(np.std(paired, ddof=1)), len(paired))
            cells += [f"{mean:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{seen:.3f}", verdict(low, high)]
        else:
            cells += ["", "", "", "not measured"]
        yield f"| {' | '.join(cells)} |"


def _scores(rows: list[Row]) -> Iterator[str]:
    found = _by_encoders(rows, "task", "metric", "method")
    shown = [(task, metric) for task, metrics in SHOWN.items() for metric in metrics]
    keys = [key for key in found if key[:2] in shown]
    for task, metric, method in sorted(keys, key=lambda key: shown.index(key[:2])):
        one = {name: seeds[0] for name, seeds in found[task, metric, method].items() if 0 in seeds}
        values = [_with_interval(one[name]) if name in one else "" for name in ("scratch", "pretrained")]
        row = one.get("pretrained") or one["scratch"]
        bounds = f"chance {_short(row['chance'])}" + (f"; {row['baselines']}" if row["baselines"] else "")
        standing = one["pretrained"]["standing"] if "pretrained" in one else ""
        yield f"| {' | '.join([method, task, metric, row['items'], *values, bounds, standing])} |"


def _with_interval(row: Row) -> str:
    return f"{_short(row['value'])} ({_short(row['low'])} to {_short(row['high'])})"


def _short(number: str) -> str:
    return f"{float(number):.3f}" if number else ""


def _costs(rows: list[Row]) -> Iterator[str]:
    names = ("parameters", "steps", "seconds", "scoring_seconds", "peak_memory_mb")
    for (method,), encoders in _by_encoders(rows, "method").items():
        for name, seeds in encoders.items():
            row = seeds[min(seeds)]
            yield f"| {method} | {name} | {' | '.join(row[column] for column in names)} |"

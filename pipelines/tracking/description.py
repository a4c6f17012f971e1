"""What a person reads first of a run and of a model version, as Markdown, made from what the run holds."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Run

from pipelines.tracking.names import BEST_EPOCH, CHECKPOINT, EXPERIMENT, NO_SOURCE, SECONDS, STOPPED_EARLY, TRAINING
from pipelines.tracking.scores import ALL

# Between the columns of a table, which MLflow's pages put side by side.
_ROOM = "&nbsp;&nbsp;"
_SPLITS = ("train", "validation", "test")
UNTRAINED = "as it was built: not trained here"
_STATES = {"RUNNING": "It is being trained.", "FAILED": "Its training failed", "KILLED": "Its training was cut off."}


def of_run(run: Run, rows: Sequence[Mapping[str, Any]] = (), files: Sequence[str] = ()) -> str:
    """The description of a run.

    Args:
        run: As it is now.
        rows: Its scores, as of `scores.rows`.
        files: Artifacts to name, with a link each.
    """
    parts = [what(run), _state(run), _chosen(run), *_scores(rows)]
    if files:
        base = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts"
        parts.append("Files: " + ", ".join(f"[{name}]({base}/{name})" for name in files))
    return "\n\n".join(part for part in parts if part)


def of_version(run: Run, rows: Sequence[Mapping[str, Any]]) -> str:
    """The description of the version that a run's checkpoint is registered as, before any promotion."""
    link = f"[{run.info.run_name}](#/experiments/{run.info.experiment_id}/runs/{run.info.run_id})"
    tags = run.data.tags
    lineage = {
        "run": link,
        "checkpoint": f"`{tags[CHECKPOINT]}`",
        "shards": f"`{tags['digest.shards']}`" if "digest.shards" in tags else "",
        "commit": f"`{tags['mlflow.source.git.commit']}`" if "mlflow.source.git.commit" in tags else "",
        "files differed from the commit": "yes" if tags.get("git_dirty") == "true" else "",
    }
    known = {name: value for name, value in lineage.items() if value}
    table = _table({"lineage": list(known), "value": list(known.values())})
    return "\n\n".join(part for part in (what(run), _state(run), _chosen(run), *_scores(rows), table) if part)


def scores_in_short(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The first score of each task of the test split, in words, with what needs no model beside it."""
    found: dict[str, str] = {}
    for row in rows:
        if row["split"] == "test" and row["source"] == ALL and row["task"] not in found:
            interval = f" ({_interval(row)})" if _interval(row) else ""
            beside = ", ".join(filter(None, [f"chance {_number(row['chance'])}", row["baselines"]]))
            found[row["task"]] = f"{row['metric']} {_number(row['value'])}{interval}; {beside}"
    return found


def what(run: Run) -> str:
    """What a run trained, on what and on how many images: one sentence."""
    data = [given.dataset for given in run.inputs.dataset_inputs] if run.inputs else []
    text = str(run.data.tags["method"])
    if data:
        text += f", trained on {data[0].name}{images_in_words(json.loads(data[0].profile or '{}'))}"
    elif run.data.tags.get("sources") == NO_SOURCE:
        text += f", {UNTRAINED}"
    if experiment := run.data.tags.get(EXPERIMENT):
        text += f", DVC experiment `{experiment}`"
    return f"{text}."


def images_in_words(counts: Mapping[str, int]) -> str:
    """How many images each split has, as of `dataset.counts`; empty where that is not known."""
    images = [f"{split} {counts[name]:,}" for split in _SPLITS if (name := f"{split} images") in counts]
    return f" (images: {', '.join(images)})" if images else ""


def _state(run: Run) -> str:
    tags = run.data.tags
    if CHECKPOINT not in tags:
        state = _STATES.get(run.info.status, "")
        return f"{state}: {tags['failed']}" if run.info.status == "FAILED" and "failed" in tags else state
    if tags.get(SECONDS, "unknown") == "unknown":
        return "How long it trained is unknown: the checkpoint came from DVC's cache, and the run was made afterwards."
    if TRAINING in tags:
        return f"It trained for {tags[SECONDS]} s."
    return f"It trained for {tags[SECONDS]} s, at a time that is unknown: the run was made afterwards."


def _chosen(run: Run) -> str:
    """What validation decided in the training."""
    tags = run.data.tags
    best, stopped = tags.get(BEST_EPOCH), tags.get(STOPPED_EARLY)
    sentences = [f"Its weights are those of the best epoch on validation images ({best})." if best else ""]
    sentences.append(f"Ended early: {stopped}." if stopped else "")
    return " ".join(filter(None, sentences))


def _scores(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the scores of all items of the test split; of equal ones of a task the shortest name."""
    shown: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: (row["task"], len(row["metric"]), row["metric"])):
        if row["split"] == "test" and row["source"] == ALL:
            shown.setdefault(tuple(row[name] for name in ("task", "value", "low", "high", "chance", "items")), row)
    if not shown:
        return []
    validation = {
        (row["task"], row["metric"]): row["value"]
        for row in rows
        if row["split"] == "validation" and row["source"] == ALL
    }
    columns = {
        "task": [row["task"] for row in shown.values()],
        "score": [row["metric"] for row in shown.values()],
        "test": [_number(row["value"]) for row in shown.values()],
        "95 % interval": [_interval(row) for row in shown.values()],
        "chance": [_number(row["chance"]) for row in shown.values()],
        "against chance": [row["against_chance"] for row in shown.values()],
        "trivial baselines": [row["baselines"] for row in shown.values()],
        "validation": [_number(validation.get((row["task"], row["metric"]))) for row in shown.values()],
    }
    return [_table({name: cells for name, cells in columns.items() if any(cells)})]


def _table(columns: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [list(columns), *map(list, zip(*columns.values(), strict=True))]
    lines = ["| " + " | ".join(cell + _ROOM for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(columns) + "|", *lines[1:]])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _interval(row: Mapping[str, Any]) -> str:
    return "" if row["low"] is None else f"{_number(row['low'])} to {_number(row['high'])}"

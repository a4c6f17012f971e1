"""Stages: counts that do not add up, items that failed, and training that left samples out or went on too long."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipelines.report.verdict.finding import Finding
from pipelines.report.verdict.words import counted, listed, percent

# Losses of a phase's last epochs vary by less than this; more is a rise.
RISE = 1.05
# From this fraction on, cut texts or unused samples are no exceptions.
MANY = 0.1


def stage_findings(rows: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Of every stage.

    Args:
        rows: `pipelines.report.counts.stage_rows`. What `ingest` lost is told with its source.
    """
    for row in rows:
        stage = row["stage"]
        if not row["adds_up"]:
            text = f"{stage}: inputs are not ok + rejected + failed + duplicates; something was lost without a count."
            yield Finding(level="wrong", topic="counts", text=text, action=f"dvc repro --force {dvc_name(stage)}")
        if row["failed"] and not stage.startswith("ingest-"):
            text = f"{stage}: {counted(row['failed'], 'item')} of {row['inputs']:,} failed ({listed(_failed(row))})."
            action = f"mend the cause, then run: dvc repro --force --single-item {dvc_name(stage)} && dvc repro"
            yield Finding(level="wrong", topic="counts", text=text, action=action)


def _failed(row: Mapping[str, Any]) -> dict[str, int]:
    start = "failed: "
    return {name.removeprefix(start): count for name, count in row["reasons"].items() if name.startswith(start)}


def dvc_name(stage: str) -> str:
    """A summary's stage as DVC calls it: `train-clip` is `train@clip`."""
    name, dash, item = stage.partition("-")
    return f"{name}@{item}" if dash else name


def training_findings(curves: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Of every trained method: the samples it could not use, texts that were cut, a validation loss that rose again.

    Args:
        curves: Method -> `curve.json` of its checkpoint.
    """
    yield from _readings(curves)
    for method, curve in curves.items():
        skipped, samples = curve["skipped"], curve["samples"]
        lost = sum(skipped.values())
        if lost > MANY * (lost + samples):
            text = (
                f"{method} learns from {samples:,} of {counted(lost + samples, 'training image')} ({listed(skipped)})."
            )
            yield Finding(level="warning", topic="training", text=text)
        if (cut := curve.get("truncated_texts", 0)) > MANY * samples:
            text = f"{method}: {counted(cut, 'text')} of {samples:,} are longer than it reads; their ends are cut off."
            action = f"train.methods.{method}.training.max_length"
            yield Finding(level="warning", topic="training", text=text, action=action)
        yield from _rise(method, curve)


def _readings(curves: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Methods that were not trained on the same batches, for their readers or numbers of processes differ."""
    trained = {method: curve for method, curve in curves.items() if curve.get("phases") and "reading" in curve}
    said = {method: _batches(**curve["reading"]) for method, curve in trained.items()}
    if len(set(said.values())) > 1:
        each = "; ".join(f"{method} {how}" for method, how in said.items())
        text = f"The methods were trained on different batches ({each}): scores do not compare the methods alone."
        yield Finding(level="wrong", topic="training", text=text, action="dvc repro")


def _batches(reader: str, workers: int = 1, loader_processes: int = 1, **_: Any) -> str:
    """What batches a reading gives; one process that streams has those of random access."""
    if reader == "random_access" or (workers, loader_processes) == (1, 1):
        return "by random access or one process"
    processes = counted(loader_processes, "loader process", "loader processes")
    return f"by {reader}, {counted(workers, 'worker')} of {processes}"


def _rise(method: str, curve: Mapping[str, Any]) -> Iterator[Finding]:
    """A validation loss that rose at the end of the last phase; other phases have other losses.

    Where the checkpoint holds the best epoch, what came after it harms nothing.
    """
    points = curve["validation"]
    if not points or "best_epoch" in curve:
        return
    phase = points[-1]["phase"]
    losses = [point["loss"] for point in points if point["phase"] == phase]
    best = min(losses)
    if losses[-1] > RISE * best:
        text = (
            f"{method}: the loss on validation images rose again, from {best:.4g} to {losses[-1]:.4g} at the end "
            f"({percent(losses[-1] - best, best)} more): it learns its training images by heart."
        )
        action = (
            f"keep: best in train.methods.{method}.training, fewer epochs in train.methods.{method}.training.phases."
            f"{phase}, or more training images"
        )
        yield Finding(level="warning", topic="training", text=text, action=action)

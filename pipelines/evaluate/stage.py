"""Evaluate one trained method on the test split.

Runs every task of params.yaml that the method's capabilities allow. A task that the method cannot do, or for which the
split holds nothing to score, is in the results as `skipped` with the reason; one whose embeddings are not finite as
`failed`.

Reads: data/checkpoints/<method>/, data/shards/images/ and data/shards/captions/ (test split), params.yaml (evaluate).
Writes: data/evaluation/<method>/metrics.json, <task>.svg for each task with a plot,
data/summaries/evaluate-<method>.json. Timings are in the summary only.
Run alone: python -m pipelines.evaluate clip
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerFast

from models import checkpoint as checkpoints
from models.data.format import ShardError
from models.data.shards import ShardSet
from models.method import Method
from pipelines.config import load, method_names, parse
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationSet, NotFiniteError
from pipelines.evaluate.task import Result, Task
from pipelines.files import atomic_folder, digest_of, write_json
from pipelines.registry import plugin
from pipelines.shards.checks import check_families
from pipelines.stage import SUMMARIES, Summary

SPLIT = "test"
METRICS = "metrics.json"
CHECKPOINTS = Path("data/checkpoints")
EVALUATIONS = Path("data/evaluation")
IMAGES, CAPTIONS = Path("data/shards/images"), Path("data/shards/captions")


def main(method: str) -> None:
    check_families(IMAGES.parent)
    checkpoint = find_checkpoint(method, method_names())
    run(load(EvaluateConfig, "evaluate"), method, checkpoint, IMAGES, CAPTIONS, EVALUATIONS / method)


def find_checkpoint(method: str, methods: Sequence[str], root: Path = CHECKPOINTS) -> Path:
    """The folder of a trained method.

    Args:
        method: Its name.
        methods: Those that params.yaml names.
        root: Folder of the checkpoints.

    Raises:
        UserError: There is none; the message lists those that are.
    """
    known = [name for name in methods if (root / name / checkpoints.CONFIG).is_file()]
    if method not in known:
        hint = f"there are checkpoints of: {', '.join(known)}" if known else f"{root} holds no checkpoint"
        raise UserError(f"no checkpoint of '{method}': run `dvc repro train@{method}` first ({hint})")
    return root / method


def run(
    config: EvaluateConfig,
    method: str,
    checkpoint: Path,
    images: Path,
    captions: Path,
    output: Path,
    summaries: Path = SUMMARIES,
) -> dict[str, Any]:
    """Load a checkpoint and evaluate it; arguments and result as in `evaluate`."""
    method_class = plugin("methods", checkpoints.read_config(checkpoint)["method"])
    model, tokenizer = checkpoints.load(checkpoint, method_class)
    digest = checkpoints.digest(checkpoint)
    return evaluate(config, method, model, tokenizer, digest, images, captions, output, summaries)


def evaluate(
    config: EvaluateConfig,
    method: str,
    model: Method,
    tokenizer: PreTrainedTokenizerFast,
    checkpoint_sha256: str,
    images: Path,
    captions: Path,
    output: Path,
    summaries: Path = SUMMARIES,
) -> dict[str, Any]:
    """Score a model on the test split.

    Args:
        config: Tasks, and how their intervals are computed.
        method: Name of the evaluated method, for the results.
        model: The method in evaluation mode; its capabilities decide which tasks run.
        tokenizer: Its tokenizer.
        checkpoint_sha256: Digest of the checkpoint that it came from.
        images: Folder of the image shards.
        captions: Folder of the caption shards.
        output: Folder of the results; replaced as a whole.
        summaries: Folder of the summary `evaluate-<method>.json`.

    Returns:
        The summary. Its inputs are the test images: ok where at least one task scored them, else rejected with the
        reason of the first task that left them out.

    Raises:
        UserError: A task or one of its options is unknown, the shards are not complete, or the split is empty.
    """
    summary = Summary(f"evaluate-{method}")
    tasks = {name: _task(name, options) for name, options in config.tasks.items()}
    shards = ShardSet(images, captions, SPLIT)
    try:
        if not len(shards):
            raise UserError(f"{images} has no {SPLIT} images: give the split a fraction in params.yaml (split)")
        test = EvaluationSet(model, tokenizer, shards.samples, config.batch_size)
        results = {name: _run(task, test, config) for name, task in tasks.items()}
        with atomic_folder(output) as folder:
            for name, result in results.items():
                if result.figure is not None:
                    _save(result.figure, folder / f"{name}.svg")
            metrics = {
                "method": method,
                "checkpoint_sha256": checkpoint_sha256,
                "split": SPLIT,
                "items_sha256": _items_digest(test, shards, config),
                "tasks": {name: _as_json(result) for name, result in results.items()},
            }
            write_json(folder / METRICS, metrics)
        _count(summary, test, results)
    except ShardError as error:
        raise UserError(str(error)) from None
    summary.extra["tasks"] = {name: result.status for name, result in results.items()}
    if timings := {name: result.timings for name, result in results.items() if result.timings}:
        summary.extra["timings"] = timings
    return summary.write(len(shards), summaries)


def _task(name: str, options: dict[str, Any]) -> Task:
    task_class = plugin("tasks", name)
    return task_class(parse(task_class.Config, options, f"params.yaml: evaluate.tasks.{name}"))


def _run(task: Task, test: EvaluationSet, config: EvaluateConfig) -> Result:
    missing = [need.__name__ for need in task.needs if not test.model.offers(need)]
    if missing:
        reason = f"the method does not offer {', '.join(missing)}"
        return Result(status="skipped", reason=reason, excluded=_all_images(test, "method_lacks_capability"))
    try:
        return task.run(test, config.bootstrap)
    except NotFiniteError as error:
        return Result(status="failed", reason=str(error), excluded=_all_images(test, "embedding_not_finite"))


def _all_images(test: EvaluationSet, reason: str) -> dict[str, str]:
    return {image.key: reason for image in test.images}


def _as_json(result: Result) -> dict[str, Any]:
    reasons = sorted(result.excluded.values())
    return {
        "status": result.status,
        "reason": result.reason,
        "items": result.scores.items,
        "pool": result.scores.pool,
        "excluded": {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        "metrics": {name: asdict(score) for name, score in result.scores.metrics.items()},
        "by_source": {source: asdict(scores) for source, scores in result.by_source.items()},
        "details": result.details,
        "notes": result.notes,
    }


def _items_digest(test: EvaluationSet, shards: ShardSet, config: EvaluateConfig) -> str:
    """Digest of the method's inputs: images, their texts and labels, and the tasks' options.

    Scores of two checkpoints may be compared where it is equal.
    """
    items = [asdict(image) for image in test.images]
    pixels = [shard.sha256 for shard in shards.manifest.shards]
    return digest_of({"items": items, "pixels": pixels, "tasks": config.tasks})


def _count(summary: Summary, test: EvaluationSet, results: dict[str, Result]) -> None:
    for image in test.images:
        if any(result.status == "ok" and image.key not in result.excluded for result in results.values()):
            summary.ok()
            continue
        first = next(iter(results.values()))
        reason = first.excluded.get(image.key, "task_skipped")
        if first.status == "failed":
            summary.failed(reason)
        else:
            summary.rejected(reason)


def _save(figure: Figure, path: Path) -> None:
    # Without a date and with fixed ids the same scores give the same file.
    with mpl.rc_context({"svg.hashsalt": "medregion"}):
        figure.savefig(path, metadata={"Date": None})

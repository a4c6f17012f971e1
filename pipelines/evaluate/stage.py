"""Evaluate one trained method on the validation and the test split.

Runs every task of params.yaml that the method's capabilities allow. A task that the method cannot do, or for which the
split holds nothing to score, is in the results as `skipped` with the reason; one whose embeddings are not finite as
`failed`. The validation split comes first: what a task chooses there, such as a threshold, test is scored with.
Promotion chooses by the scores on validation and confirms by those on test.

Reads: data/checkpoints/<method>/, data/shards/images/ and data/shards/captions/, params.yaml (evaluate).
Writes: data/evaluation/<method>/ with metrics.json, items.parquet and <task>.svg for each task with a plot (test),
validation/metrics.json and validation/items.parquet; data/scores/<split>/<method>.json, the values alone, for
`dvc metrics` and `dvc exp show`; data/summaries/evaluate-<method>.json. Timings are in the summary only.
Run alone: python -m pipelines.evaluate clip
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from models import checkpoint as checkpoints
from models.data.shards import ShardSet
from models.method import Method
from pipelines.config import load, method_names
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.latency import EMBEDDING, LATENCY, embedding_latency
from pipelines.evaluate.scores import write_scores
from pipelines.evaluate.scoring import (
    TEST,
    VALIDATION,
    EmbedTraining,
    ScoredModel,
    load_model,
    score_split,
    training_embedder,
)
from pipelines.files import atomic_folder
from pipelines.shards.checks import check_families, shard_faults
from pipelines.stage import SUMMARIES, Summary

logger = logging.getLogger(__name__)

CHECKPOINTS = Path("data/checkpoints")
EVALUATIONS = Path("data/evaluation")
SCORES = Path("data/scores")
IMAGES, CAPTIONS = Path("data/shards/images"), Path("data/shards/captions")


def main(method: str) -> None:
    check_families(IMAGES.parent)
    checkpoint = find_checkpoint(method, method_names())
    run(load(EvaluateConfig, "evaluate"), method, checkpoint, IMAGES, CAPTIONS, EVALUATIONS / method)
    write_scores(EVALUATIONS / method, SCORES)


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
    scored = load_model(method, checkpoint)
    return evaluate(
        config,
        method,
        scored.model,
        scored.tokenizer,
        scored.checkpoint_sha256,
        images,
        captions,
        output,
        summaries,
    )


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
    """Score a model on the validation split, if it has images, without plots and costs, and then on the test split.

    What a task chooses on validation, such as a threshold, test is scored with.

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
        The summary. Its inputs are the images of both splits: ok where at least one task scored them, else rejected
        with the reason of the first task that left them out.

    Raises:
        UserError: A task or one of its options is unknown, the shards are not complete, or the test split is empty.
    """
    summary = Summary(f"evaluate-{method}")
    scored = ScoredModel(name=method, model=model, tokenizer=tokenizer, checkpoint_sha256=checkpoint_sha256)
    test, validation = (ShardSet(images, captions, split) for split in (TEST, VALIDATION))
    embed = training_embedder(config, scored, test)
    with shard_faults(), atomic_folder(output) as folder:
        chosen = _on_validation(config, scored, validation, folder / VALIDATION, summary, embed)
        scores = score_split(config, scored, test, folder, chosen=chosen, embed=embed)
        scores.count(summary)
        milliseconds = embedding_latency(scores.evaluation_set) if config.embedding_latency else None
    summary.extra["tasks"] = {name: result.status for name, result in scores.results.items()}
    timings = {name: result.timings for name, result in scores.results.items() if result.timings}
    if milliseconds is not None:
        timings[EMBEDDING] = {LATENCY: milliseconds}
    if timings:
        summary.extra["timings"] = timings
    return summary.write(len(test) + len(validation), summaries)


def _on_validation(
    config: EvaluateConfig,
    scored: ScoredModel,
    validation: ShardSet,
    folder: Path,
    summary: Summary,
    embed: EmbedTraining,
) -> dict[str, dict[str, Any]]:
    """Score the validation split and count its images; what each task chose. Nothing of it is in memory afterwards."""
    if not len(validation):
        logger.warning(
            "%s has no validation images: promotion, which chooses by them, refuses the method", validation.images
        )
        return {}
    scores = score_split(config, scored, validation, folder, scores_only=True, embed=embed)
    scores.count(summary)
    return {name: result.chosen for name, result in scores.results.items()}

"""Score any checkpoint on the test or validation images of any study.

So a registered model is judged on data that it never saw: those of another workspace. The tasks are those of the
study's own params.yaml, so that its methods' scores compare with these. A model takes images as it was trained on them;
the study's shards must have been made in the same format.

Reads: a checkpoint's folder, or the registry that params.yaml (tracking) here names; of the study params.yaml
(evaluate) and data/shards/.
Writes: the folder of --out with metrics.json, items.parquet, <task>.svg, and with --predictions the folder predictions.
Run alone: python -m flows.evaluate REFERENCE [--study FOLDER] [--split test|validation] [--predictions] --out FOLDER
"""

import argparse
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.one_run import one_run
from models import checkpoint as checkpoints
from models.data.format import read_manifest
from models.data.shards import ShardSet
from models.verified import seal
from pipelines.config import PARAMS, load
from pipelines.errors import UserError
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.contamination import as_json, contamination, in_words
from pipelines.evaluate.evaluation_set import NotFiniteError
from pipelines.evaluate.kept import read_kept
from pipelines.evaluate.predictions import write_predictions
from pipelines.evaluate.scoring import METRICS, TEST, VALIDATION, SplitScores, load_model, score_split
from pipelines.evaluate.stage import CAPTIONS, IMAGES
from pipelines.files import atomic_folder, read_output, write_json
from pipelines.result_folders import check_out
from pipelines.shards.checks import check_families, shard_faults
from pipelines.stage import command
from pipelines.tracking.checkpoints import checkpoint_folder
from pipelines.tracking.config import TrackingConfig

logger = logging.getLogger(__name__)


def evaluate(
    checkpoint: Path, name: str, study: Path, split: str, out: Path, *, project: Path, predictions: bool
) -> SplitScores:
    """Score a checkpoint on a split of a study.

    Args:
        checkpoint: Its folder.
        name: What the results call it.
        study: Folder with params.yaml, the files that its options name, and data/shards.
        split: test or validation.
        out: Folder of the results; replaced as a whole.
        project: Folder with data/ that may hold the images that the checkpoint was trained on, and its features.
        predictions: Write what it answers for each image, too.

    Raises:
        UserError: The study's shards are not complete or in another format than the model's, or the split is empty.
    """
    config = load(EvaluateConfig, "evaluate", study / PARAMS)
    shards = ShardSet(study / IMAGES, study / CAPTIONS, split)
    with shard_faults():
        check_families(shards.images.parent)
        _check_format(checkpoint, shards.images)
        met = contamination(checkpoint, [project, study], shards)
        for line in in_words(met, len(shards)):
            (logger.warning if met.images != {} or met.not_known else logger.info)("%s", line)
        with atomic_folder(out) as folder:
            scores = score_split(config, load_model(name, checkpoint, project), shards, folder, study=study)
            metrics = read_output(folder / METRICS)
            known = {"seen_in_training": met.seen, "contamination": as_json(met, read_kept(str(folder)))}
            write_json(folder / METRICS, {**metrics, **known})
            if predictions:
                _write_predictions(scores, folder / "predictions", config.bootstrap.seed)
            seal(folder)
    return scores


def _write_predictions(scores: SplitScores, folder: Path, seed: int) -> None:
    folder.mkdir()
    try:
        written = write_predictions(scores.evaluation_set, folder, seed)
    except NotFiniteError as error:
        logger.warning("predictions are not complete: %s", error)
        return
    logger.info("predictions: %s", ", ".join(f"{kind} {count}" for kind, count in written.items()))


def _check_format(checkpoint: Path, images: Path) -> None:
    wanted, present = asdict(checkpoints.input_format(checkpoint)), asdict(read_manifest(images).input_format)
    differing = [f"{name} {present[name]}, not {value}" for name, value in wanted.items() if present[name] != value]
    if differing:
        raise UserError(
            f"{images} has other images than the model was trained on ({', '.join(differing)}): set them so in the "
            "study's params.yaml (shards) and run `dvc repro image_shards`"
        )


def main(*arguments: str) -> None:
    parser = argparse.ArgumentParser("python -m flows.evaluate", description="Score a checkpoint on a study's images.")
    parser.add_argument("reference", help="folder of a checkpoint, models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--study", type=Path, default=Path(), help="whose images (default: those of this folder)")
    parser.add_argument("--split", choices=(TEST, VALIDATION), default=TEST)
    parser.add_argument("--predictions", action="store_true", help="embeddings, nearest texts, heatmaps and masks, too")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; one that is there is replaced")
    options = parser.parse_args(arguments)
    with one_run(Path(), "evaluate", logger.info):
        scores = judge(
            Path(), options.reference, options.study, options.split, options.out, predictions=options.predictions
        )
    for task, result in scores.results.items():
        if result.status != "ok":
            print(f"{task}: {result.status}: {result.reason}")
    for row in score_rows(scores):
        print(f"{row.pop('task')}/{row.pop('metric')} {json.dumps(row)}")
    print(f"results: {options.out}")
    if failed := failed_tasks(scores):
        raise UserError(f"no scores of {', '.join(failed)}")


def judge(project: Path, reference: str, study: Path, split: str, out: Path, *, predictions: bool) -> SplitScores:
    """Score a model that is named by its folder or its place in the registry of a project; raises as `evaluate`."""
    check_out(out, METRICS, "results of flows.evaluate")
    with checkpoint_folder(reference, load(TrackingConfig, "tracking", project / PARAMS), project) as folder:
        return evaluate(folder, reference, study, split, out, project=project, predictions=predictions)


def score_rows(scores: SplitScores) -> Iterator[dict[str, Any]]:
    """Task, metric, value and what else is known of each score, the trivial baselines by their names."""
    for task, result in scores.results.items():
        for metric, score in result.scores.metrics.items():
            values = asdict(score)
            known = {key: value for key, value in values.items() if key != "baselines" and value is not None}
            yield {"task": task, "metric": metric, **known, **values["baselines"]}


def failed_tasks(scores: SplitScores) -> list[str]:
    """The tasks without scores that should have some, each with the reason."""
    return [f"{task} ({result.reason})" for task, result in scores.results.items() if result.status == "failed"]


if __name__ == "__main__":
    command(main)

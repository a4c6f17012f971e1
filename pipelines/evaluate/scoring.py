"""Score a model on one split: run the tasks that it can do, and write their results into a folder."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from transformers import PreTrainedTokenizerFast

from models import checkpoint as checkpoints
from models.data.format import read_manifest
from models.data.json_fields import field_values
from models.data.shards import ShardSet
from models.encoders import keep_features
from models.method import Method
from models.verified import seal
from pipelines.cache import FEATURE_CACHE
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.evaluate import definitions
from pipelines.evaluate.blind import BlindSet, beside_blind
from pipelines.evaluate.config import EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationSet, NotFiniteError
from pipelines.evaluate.item_rows import item_rows
from pipelines.evaluate.task import Result, Task
from pipelines.evaluate.training_embeddings import TrainingEmbeddings, embed_training
from pipelines.files import canonical, digest_of, write_json
from pipelines.prompt_files import named_in, prompt_digests, prompt_files
from pipelines.records import ITEMS
from pipelines.registry import plugin
from pipelines.stage import Summary

METRICS, ITEM_TABLE = "metrics.json", "items.parquet"
TRAIN, VALIDATION, TEST = "train", "validation", "test"

EmbedTraining = Callable[[], TrainingEmbeddings]

# Of plots: with fixed ids, and without a date, the same scores give the same file; a "$" in a text of a source begins
# no formula. Texts take the latter over when they are made, in the tasks, and some when the plot is saved.
_PLOTS: dict[Any, Any] = {"svg.hashsalt": "medregion", "text.parse_math": False}


@dataclass(frozen=True, kw_only=True)
class ScoredModel:
    """What is evaluated.

    Attributes:
        name: What the results call it.
        model: In evaluation mode; its capabilities decide which tasks run.
        tokenizer: Its own.
        checkpoint_sha256: Digest of the checkpoint that it came from.
    """

    name: str
    model: Method
    tokenizer: PreTrainedTokenizerFast
    checkpoint_sha256: str


def load_model(name: str, checkpoint: Path, project: Path = Path()) -> ScoredModel:
    """The model of a checkpoint's folder, under the name that its results are to have.

    Features of its frozen image encoders are kept where training keeps them: tasks ask for an image many times.

    Args:
        name: What the results call it.
        checkpoint: Its folder.
        project: Folder with the data/ in which features are kept.
    """
    method_class = plugin("methods", checkpoints.read_config(checkpoint)["method"])
    model, tokenizer = checkpoints.load(checkpoint, method_class)
    keep_features(model, project / FEATURE_CACHE)
    return ScoredModel(name=name, model=model, tokenizer=tokenizer, checkpoint_sha256=checkpoints.digest(checkpoint))


@dataclass(frozen=True, kw_only=True)
class SplitScores:
    """The results of all tasks on one split.

    Attributes:
        evaluation_set: The split, as the tasks saw it.
        results: By the task's name.
    """

    evaluation_set: EvaluationSet
    results: dict[str, Result]

    def count(self, summary: Summary) -> None:
        """Count each image: ok where a task scored it, else rejected with the first task's reason to leave it out."""
        for image in self.evaluation_set.images:
            if any(result.status == "ok" and image.key not in result.excluded for result in self.results.values()):
                summary.ok()
                continue
            first = next(iter(self.results.values()))
            reason = first.excluded.get(image.key, "task_skipped")
            if first.status == "failed":
                summary.failed(reason)
            else:
                summary.rejected(reason)


def load_tasks(config: EvaluateConfig, study: Path = Path()) -> dict[str, Task]:
    """The tasks that params.yaml names, by name.

    Args:
        config: Section `evaluate` of a study's params.yaml.
        study: Folder of that params.yaml, in which the files lie that options name.

    Raises:
        UserError: A task or one of its options is unknown, or a file is missing.
    """
    with named_in(study):
        return {name: _task(name, options) for name, options in config.tasks.items()}


def _task(name: str, options: dict[str, Any]) -> Task:
    task_class = plugin("tasks", name)
    return task_class(parse(task_class.Config, options, f"params.yaml: evaluate.tasks.{name}"))


def score_split(
    config: EvaluateConfig,
    scored: ScoredModel,
    shards: ShardSet,
    folder: Path,
    *,
    scores_only: bool = False,
    chosen: Mapping[str, Mapping[str, Any]] | None = None,
    embed: EmbedTraining | None = None,
    study: Path = Path(),
) -> SplitScores:
    """Run every task on a split, and write `metrics.json`, `items.parquet` and the tasks' plots into a sealed folder.

    Args:
        config: Tasks, and how their intervals are computed.
        scored: The model.
        shards: The split.
        folder: Where to; made if it is not there.
        scores_only: Without plots and without measurements of cost.
        chosen: Task -> what it chose on the validation split; None: tasks that choose something are run on that split
            first. On the validation split itself they choose, whatever is given.
        embed: Of `training_embedder`, where several splits are scored; None: it is made for this one.
        study: Folder of the params.yaml that has `config`, in which the files lie that its options name.

    Raises:
        UserError: A task or one of its options is unknown, a file is missing, or the split is empty.
        ShardError: The shards are not complete.
    """
    tasks = load_tasks(config, study)
    if not len(shards):
        raise UserError(
            f"{shards.images} has no {shards.split} images: give the split a fraction in params.yaml (split)"
        )
    embed = embed or training_embedder(config, scored, shards)
    if chosen is None and shards.split != VALIDATION:
        chosen = _choose(tasks, config, scored, replace(shards, split=VALIDATION), embed)
    evaluation_set = _evaluation_set(config, scored, shards, embed, scores_only=scores_only)
    results = {name: _run(task, evaluation_set, config, _given(chosen, name, shards)) for name, task in tasks.items()}
    if config.image_blind:
        results = _beside_blind(tasks, results, evaluation_set, config, shards)
    folder.mkdir(parents=True, exist_ok=True)
    for name, result in results.items():
        if result.figure is not None and not scores_only:
            _save(result.figure, folder / f"{name}.svg")
    metrics = {
        "method": scored.name,
        "checkpoint_sha256": scored.checkpoint_sha256,
        "split": shards.split,
        "items_sha256": _items_digest(evaluation_set, shards, config, tasks, study),
        "tasks": {name: _as_json(tasks[name], result) for name, result in results.items()},
    }
    write_json(folder / METRICS, metrics)
    preparation = digest_of(asdict(read_manifest(shards.images).input_format))
    rows = (item_rows(name, result, evaluation_set, preparation) for name, result in results.items())
    ITEMS.write(folder / ITEM_TABLE, chain.from_iterable(rows))
    seal(folder)
    return SplitScores(evaluation_set=evaluation_set, results=results)


def training_embedder(config: EvaluateConfig, scored: ScoredModel, shards: ShardSet) -> EmbedTraining:
    """Gives the model's embeddings of the training split, which are computed at the first call, and kept.

    Args:
        config: How many images at a time.
        scored: The model.
        shards: Any split of the shards.
    """
    training = replace(shards, split=TRAIN)
    return cache(lambda: embed_training(scored.model, training.samples(), len(training), config.batch_size))


def _evaluation_set(
    config: EvaluateConfig, scored: ScoredModel, shards: ShardSet, embed: EmbedTraining, *, scores_only: bool
) -> EvaluationSet:
    splits = (replace(shards, split=split) for split in (TRAIN, VALIDATION, TEST) if split != shards.split)
    others = {of.split: of.samples for of in splits if len(of)}
    return EvaluationSet(
        scored.model,
        scored.tokenizer,
        shards.samples,
        config.batch_size,
        scores_only=scores_only,
        embed_training=embed if TRAIN in others else None,
        others=others,
    )


def _choose(
    tasks: Mapping[str, Task],
    config: EvaluateConfig,
    scored: ScoredModel,
    validation: ShardSet,
    embed: EmbedTraining,
) -> dict[str, dict[str, Any]]:
    """Task -> what it chooses on the validation split; empty where that has no images."""
    choosing = {name: task for name, task in tasks.items() if task.chooses}
    if not choosing or not len(validation):
        return {}
    evaluation_set = _evaluation_set(config, scored, validation, embed, scores_only=True)
    return {name: _run(task, evaluation_set, config, None).chosen for name, task in choosing.items()}


def _given(chosen: Mapping[str, Mapping[str, Any]] | None, task: str, shards: ShardSet) -> Mapping[str, Any] | None:
    return None if chosen is None or shards.split == VALIDATION else chosen.get(task, {})


def _run(task: Task, evaluation_set: EvaluationSet, config: EvaluateConfig, chosen: Mapping[str, Any] | None) -> Result:
    missing = [need.__name__ for need in task.needs if not evaluation_set.model.offers(need)]
    if missing:
        reason = f"the method does not offer {', '.join(missing)}"
        return Result(status="skipped", reason=reason, excluded=_all_images(evaluation_set, "method_lacks_capability"))
    evaluation_set.chosen = chosen
    try:
        with mpl.rc_context(_PLOTS):
            return task.run(evaluation_set, config.bootstrap)
    except NotFiniteError as error:
        return Result(status="failed", reason=str(error), excluded=_all_images(evaluation_set, "embedding_not_finite"))


def _beside_blind(
    tasks: Mapping[str, Task],
    results: Mapping[str, Result],
    evaluation_set: EvaluationSet,
    config: EvaluateConfig,
    shards: ShardSet,
) -> dict[str, Result]:
    """The results with the image-blind control beside each score; the control uses what the method chose."""
    # Of the control the values are read alone.
    quick = replace(config, bootstrap=replace(config.bootstrap, samples=1))
    beside = dict(results)
    for name, result in results.items():
        if result.status == "ok":
            blind_set = BlindSet(evaluation_set, shards.sample, config.bootstrap.seed)
            blind = _run(tasks[name], blind_set, quick, result.chosen)
            beside[name] = beside_blind(result, blind, blind_set.notes)
    return beside


def _all_images(evaluation_set: EvaluationSet, reason: str) -> dict[str, str]:
    return {image.key: reason for image in evaluation_set.images}


def _as_json(task: Task, result: Result) -> dict[str, Any]:
    reasons = Counter(result.excluded.values())
    return {
        "status": result.status,
        "reason": result.reason,
        "items": result.scores.items,
        "pool": result.scores.pool,
        "excluded": dict(reasons),
        "metrics": {name: asdict(score) for name, score in result.scores.metrics.items()},
        "by_source": {source: asdict(scores) for source, scores in result.by_source.items()},
        "details": result.details,
        "chosen": result.chosen,
        "notes": result.notes,
        "definitions": definitions.as_json(task.definitions, result.scores.metrics),
        "verdict": {"does": task.does, "headline": list(task.headline)},
    }


def _items_digest(
    evaluation_set: EvaluationSet, shards: ShardSet, config: EvaluateConfig, tasks: Mapping[str, Task], study: Path
) -> str:
    """Digest of what decides items beside the method: scores of two checkpoints compare where it is equal.

    It is that of these in canonical form, one image at a time:

    - `items`, `pixels`: the images, with their texts and labels;
    - `tasks`, `prompts`: the options, and the files that they name, where they name any;
    - `seed`: of what is drawn, such as shuffled texts and the images of the image-blind control;
    - `questions`: where a task asks any;
    - `source_classes`: of the split's sources, by all splits, where a task's answers depend on them;
    - `train`, `validation`: the tars of these splits, where a task learns from the former or chooses on the latter.
    """
    digest = hashlib.sha256(b'{"items":')
    _update_list(digest, evaluation_set.images)
    pixels = [shard.sha256 for shard in shards.manifest.shards]
    digest.update(f',"pixels":{canonical(pixels)}'.encode())
    if files := prompt_digests(prompt_files(config.tasks), study):
        digest.update(f',"prompts":{canonical(files)}'.encode())
    if any(task.asks for task in tasks.values()):
        digest.update(b',"questions":')
        _update_list(digest, evaluation_set.questions)
    digest.update(f',"seed":{config.bootstrap.seed}'.encode())
    if any(task.reads_classes for task in tasks.values()):
        classes = {source: asdict(of_source) for source, of_source in evaluation_set.source_classes.items()}
        digest.update(f',"source_classes":{canonical(classes)}'.encode())
    digest.update(f',"tasks":{canonical(config.tasks)}'.encode())
    if any(task.learns for task in tasks.values()):
        digest.update(f',"train":{canonical(_tars(shards, TRAIN))}'.encode())
    if any(task.chooses for task in tasks.values()):
        digest.update(f',"validation":{canonical(_tars(shards, VALIDATION))}'.encode())
    digest.update(b"}")
    return digest.hexdigest()


def _tars(shards: ShardSet, split: str) -> list[list[str]]:
    """SHA-256 of the tars of another split of the same shards: of each pair the images', and the captions'."""
    return [[images.sha256, captions.sha256] for images, captions in replace(shards, split=split).pairs]


def _update_list(digest: "hashlib._Hash", values: Iterable[Any]) -> None:
    digest.update(b"[")
    for number, value in enumerate(values):
        digest.update(f"{',' if number else ''}{canonical(value, default=field_values)}".encode())
    digest.update(b"]")


def _save(figure: Figure, path: Path) -> None:
    with mpl.rc_context(_PLOTS):
        figure.savefig(path, metadata={"Date": None})

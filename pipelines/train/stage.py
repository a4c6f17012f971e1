"""Train one method on the shards.

Reads   data/shards/{images,captions}/ (the split `train`; `validation` for its loss), section `train` of params.yaml
Writes  data/checkpoints/<method>/: model.safetensors, config.json, tokenizer files, curve.json
Appends data/cache/progress/<method>-<hash>.jsonl while it trains, which a process of its own shows in MLflow
Keeps   data/cache/features/, those of frozen image encoders, for the next run; may be deleted
        data/cache/train/<method>-<hash>/ while a run is unfinished; the hash covers all that decides the result, so
        that a killed run continues where it stopped and changed inputs never continue an old one
Alone   python -m pipelines.train <method>
"""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from transformers import PreTrainedTokenizerFast

from models import checkpoint
from models.data.batches import Tokenise
from models.data.format import ShardError, read_manifest
from models.data.pairs import pairs_of
from models.data.shards import Sample, ShardSet
from models.method import Method
from models.preparation import InputFormat
from models.text import load_tokenizer, normalise, train_tokenizer
from models.training.config import TrainingConfig
from models.training.data import SamplingPlan, skip_reason, usable
from models.training.prepare import TooFewImagesError, check_phases, check_trained
from models.training.state import SavedState, checkpoint_weights
from models.training.trial import try_out
from models.verified import verified_sha256
from pipelines.cache import FEATURE_CACHE
from pipelines.code.closure import closure_digest
from pipelines.config import load, parse
from pipelines.errors import UserError
from pipelines.files import atomic_folder, digest_of
from pipelines.registry import plugin
from pipelines.shards.checks import check_families
from pipelines.stage import SUMMARIES, Summary
from pipelines.train.config import MethodConfig, TrainConfig, copy_of_shards
from pipelines.train.engine import Run, train_run
from pipelines.train.progress import FOLDER, ProgressFile, follow
from pipelines.weights import folders_in, publishers_words, weights_sha256
from pipelines.workspace import main_workspace

SHARDS = Path("data/shards")
CHECKPOINTS = Path("data/checkpoints")
CACHE = Path("data/cache/train")

# Samples of the batch that is computed before training begins.
TRIED = 4


def main(method: str) -> None:
    check_families(SHARDS)
    run(method, load(TrainConfig, "train"), progress=main_workspace(Path()) / FOLDER, on_start=follow)


def run(
    method: str,
    config: TrainConfig,
    *,
    shards: Path = SHARDS,
    checkpoints: Path = CHECKPOINTS,
    cache: Path = CACHE,
    summaries: Path = SUMMARIES,
    progress: Path | None = None,
    on_start: Callable[[ProgressFile], None] | None = None,
) -> dict[str, Any]:
    """Train `method` and write its checkpoint; return the summary.

    `on_start` gets the progress file when training begins; it lies in the folder `progress`, or beside `cache`.
    """
    summary = Summary(f"train-{method}")
    prepared = prepare_run(method, config, shards, cache, progress)
    try:
        prepared.run.progress.start(method, _settings(config, method), prepared.sources)
        if on_start is not None:
            on_start(prepared.run.progress)
        _train(method, prepared, shards, checkpoints, summary)
    finally:
        prepared.lock.release()
    return summary.write(len(prepared.run.train.shards), summaries)


def _train(method: str, prepared: "Prepared", shards: Path, checkpoints: Path, summary: Summary) -> None:
    work, model = prepared.run, prepared.model
    try:
        state = train_run(work)
    except FloatingPointError as error:
        work.progress.failed(str(error))
        raise UserError(
            f"train.methods.{method}: {error}; lower learning_rate or gradient_clip, or look at these images"
        ) from None
    except ShardError as error:
        raise UserError(f"train.methods.{method}: {error}; then run it again, and it goes on") from None

    trained = work.train.steps(1)
    curve = {
        "method": method,
        "steps": state["curve"],
        "validation": state["validation"],
        "phases": list(work.training.phases),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "samples": trained,
        "validation_samples": work.validation.steps(1),
        "skipped": prepared.skipped,
        "truncated_texts": prepared.truncated,
        "shards": {family: verified_sha256(shards / family / "manifest.json") for family in ("images", "captions")},
        "sources": prepared.sources,
        "reading": state["reading"] | {"left_out_of_an_epoch": _left_out(work)},
        "weights": prepared.weights,
    }
    chosen = chosen_epoch(work.training, state)
    curve |= chosen
    tokenizer = load_tokenizer(work.folder / "tokenizer")
    with atomic_folder(checkpoints / method) as output:
        weights = checkpoint_weights(state)
        checkpoint.save(output, prepared.plugin, model, weights, tokenizer, curve, prepared.input_format)
    digest = checkpoint.digest(checkpoints / method)
    work.progress.finished(digest)
    # The checkpoint is complete, so nothing is left to resume; a later run of the same inputs starts anew.
    shutil.rmtree(work.folder)
    summary.ok(trained)
    for reason, count in prepared.skipped.items():
        summary.rejected(reason, count)
    summary.extra = {
        "steps": state["position"][3],
        "parameters": curve["parameters"],
        "truncated_texts": prepared.truncated,
        "last_loss": state["curve"][-1]["loss"] if state["curve"] else None,
        "checkpoint_sha256": digest,
        **chosen,
        **state["throughput"],
    }


def _left_out(run: Run) -> dict[str, int]:
    """Phase -> training images that fill no global batch of an epoch; which ones they are differs between epochs."""
    return {name: run.train.steps(1) % phase.batch_size for name, phase in run.training.phases.items()}


def chosen_epoch(training: TrainingConfig, state: SavedState) -> dict[str, Any]:
    """What validation decided, for curve.json and the summary; nothing where it had nothing to decide.

    `best_epoch`: phase, epoch (from 1), step, by what it is the best and its value there; its weights are the
    checkpoint's. `stopped_early`: after how many epochs each phase ended that did not run to its end.
    """
    chosen: dict[str, Any] = {}
    if training.keep == "best":
        chosen["best_epoch"] = {name: value for name, value in state["best"].items() if name != "weights"}
    if state["stopped"]:
        chosen["stopped_early"] = state["stopped"]
    return chosen


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that was checked and can begin.

    Attributes:
        run: What the workers need; its folder has the tokenizer.
        lock: Held; whoever is through with the folder releases it.
        model: As it was built.
        input_format: How the images were prepared.
        plugin: Name of the method in the registry.
        skipped: Training samples that are not used, by reason code.
        sources: Those of the other samples; none where nothing is trained.
        truncated: Texts that are longer than the method reads.
        weights: Published weights that it starts from -> what they were trained on, as their publishers say.
    """

    run: Run
    lock: FileLock
    model: Method
    input_format: InputFormat
    plugin: str
    skipped: dict[str, int]
    sources: list[str]
    truncated: int
    weights: dict[str, str]


def prepare_run(method: str, config: TrainConfig, shards: Path, cache: Path, progress: Path | None = None) -> Prepared:
    """Check the settings against the shards, and make the folder in which the run keeps its state.

    The folder of its progress file is `progress`, or beside `cache`.

    Raises:
        UserError: They do not fit.
    """
    if method not in config.methods:
        raise UserError(f"params.yaml: train.methods has no '{method}'; it has: {', '.join(config.methods)}")
    settings, engine = config.methods[method], config.engine
    plugin_name = settings.method or method
    model_class = plugin("methods", plugin_name)
    torch.set_num_threads(engine.threads)
    torch.manual_seed(engine.seed)
    images, captions = (shards.resolve() / family for family in ("images", "captions"))
    try:
        input_format = read_manifest(images).input_format
        train, validation = (ShardSet(images, captions, split) for split in ("train", "validation"))
        texts, owners, chosen, sources, skipped = _texts(train, model_class, settings.training)
        model_config = parse(model_class.Config, settings.model, f"params.yaml: train.methods.{method}.model")
        learned_from = (train.sample(number, with_image=False) for number in np.flatnonzero(chosen).tolist())
        model_config = model_class.complete_config(model_config, learned_from)
        tokenizer = _tokenizer(model_class, model_config, settings, texts)
        model = model_class(model_config, len(tokenizer))
        longest = tokenizer.model_max_length
        lengths = Tokenise(tokenizer, longest, normalises=model_class.normalises_text).lengths(texts)
        location = copy_of_shards(config, shards)
        splits = [(train, chosen), (validation, usable(validation, model_class, settings.training.sources))]
        if engine.reader == "stream":
            # It needs no headers, of which a large study has gigabytes.
            splits = [(split.without_headers(), rows) for split, rows in splits]
        plans = [SamplingPlan(split, rows, engine.seed, engine.shuffle_buffer, location) for split, rows in splits]
        counts = {name: plan.steps(1) for name, plan in zip(("usable", "validation"), plans, strict=True)}
        check_phases(model, settings.training, engine, **counts)
        check_trained(model, settings.training)
        tried = _tried(train, chosen, texts, owners, lengths)
        try_out(model, tried, Tokenise(tokenizer, longest, normalises=model_class.normalises_text), settings.training)
    except TooFewImagesError as error:
        hint = "`python -m pipelines.report` says what the data lack"
        raise UserError(f"train.methods.{method}: {error}; {hint}") from None
    except (ShardError, ValueError) as error:
        raise UserError(f"train.methods.{method}: {error}") from None
    name = f"{method}-{_run_digest(method, settings, config, model_class, shards)[:16]}"
    folder = cache.resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process is training {method} of these inputs in {folder}: wait for its end") from None
    with atomic_folder(folder / "tokenizer") as saved:
        tokenizer.save_pretrained(saved)
    run = Run(
        name=name,
        folder=folder,
        model_class=model_class,
        model_config=model_config,
        train=plans[0],
        validation=plans[1],
        training=settings.training,
        engine=engine,
        progress=ProgressFile((progress or cache.parent / FOLDER.name).resolve() / f"{name}.jsonl"),
        features=cache.resolve().parent / FEATURE_CACHE.name,
    )
    truncated = sum(length > longest for length in lengths)
    return Prepared(
        run=run,
        lock=lock,
        model=model,
        input_format=input_format,
        plugin=plugin_name,
        skipped=skipped,
        sources=sources if settings.training.phases else [],
        truncated=truncated,
        weights=publishers_words(json.loads(json.dumps(asdict(settings)))),
    )


def _texts(
    shards: ShardSet, model_class: type[Method], training: TrainingConfig
) -> tuple[list[str], list[int], np.ndarray, list[str], dict[str, int]]:
    """The texts that the method reads, as they are written, and the sample of each; which samples it uses, and their
    sources; the others.

    With `augmentation.phrases` it reads the texts of pairs, too.

    Stored order is that of a hash, so that the first samples are a fair choice, and larger fractions
    include the samples of smaller ones.

    Raises:
        ValueError: `training.sources` names a source without a training image.
    """
    found, reasons = set(), []
    for sample in shards.samples(with_image=False):
        found.add(sample.meta.source)
        reasons.append(skip_reason(sample, model_class, training.sources))
    if unknown := sorted(set(training.sources) - found):
        there = ", ".join(sorted(found))
        raise ValueError(
            f"training.sources names '{unknown[0]}', of which there is no training image; there are: {there}"
        )
    chosen = np.array([reason is None for reason in reasons], dtype=bool)
    # 0.28 of 25 is 7, and a little more in binary.
    wanted = math.ceil(training.data_fraction * chosen.sum() - 1e-9)
    skipped = Counter(reason for reason in reasons if reason is not None)
    if beyond := int(chosen.sum()) - wanted:
        skipped["beyond_data_fraction"] = beyond
        chosen &= np.cumsum(chosen) <= wanted
    asks_pairs = training.augmentation is not None and training.augmentation.phrases > 0
    texts, owners, sources = [], [], set()
    for number in np.flatnonzero(chosen).tolist():
        sample = shards.sample(number, with_image=False)
        sources.add(sample.meta.source)
        pairs = pairs_of(sample, "input") if asks_pairs else []
        for text in (*model_class.training_texts(sample), *(pair.text for pair in pairs)):
            texts.append(text)
            owners.append(number)
    return texts, owners, chosen, sorted(sources), dict(sorted(skipped.items()))


def _tried(
    shards: ShardSet, chosen: np.ndarray, texts: list[str], owners: list[int], lengths: list[int]
) -> list[tuple[Sample, str]]:
    """Some training samples, each with a text; the one with the longest text is among them."""
    first = dict(zip(reversed(owners), reversed(texts), strict=True))
    numbers = np.flatnonzero(chosen)[:TRIED].tolist()
    if lengths:
        longest = int(np.argmax(lengths))
        first[owners[longest]] = texts[longest]
        numbers = list(dict.fromkeys([owners[longest], *numbers]))[:TRIED]
    return [(shards.sample(number), first.get(number, "")) for number in numbers]


def _tokenizer(
    model_class: type[Method], model_config: Any, settings: MethodConfig, texts: list[str]
) -> PreTrainedTokenizerFast:
    tokenizer = model_class.pretrained_tokenizer(model_config)
    if tokenizer is None:
        tokenizer = train_tokenizer(map(normalise, texts), settings.training.vocabulary_size)
    tokenizer.model_max_length = min(settings.training.max_length, tokenizer.model_max_length)
    return tokenizer


def _settings(config: TrainConfig, method: str) -> dict[str, Any]:
    """The settings of a run as JSON."""
    return json.loads(json.dumps({**asdict(config.methods[method]), "engine": asdict(config.engine)}))


def _run_digest(
    method: str, settings: MethodConfig, config: TrainConfig, model_class: type[Method], shards: Path
) -> str:
    """Hash of all that decides the weights: settings, those it starts from, shards, and the code that trains it."""
    values = json.loads(json.dumps(asdict(settings)))
    return digest_of(
        {
            "method": method,
            "settings": values,
            "weights": {folder: weights_sha256(Path(folder)) for folder in folders_in(values)},
            "engine": asdict(config.engine),
            "shards": [verified_sha256(shards / family / "manifest.json") for family in ("images", "captions")],
            "code": closure_digest("pipelines.train.stage", model_class.__module__),
        }
    )

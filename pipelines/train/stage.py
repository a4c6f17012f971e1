"""Train one method on the shards.

Reads   data/shards/{images,captions}/ (the split `train`), section `train` of params.yaml
Writes  data/checkpoints/<method>/: model.safetensors, config.json, tokenizer files, curve.json
Keeps   data/cache/train/<method>-<hash>/ while a run is unfinished; the hash covers all that decides the result, so
        that a killed run goes on where it stopped and changed inputs never continue an old one
Alone   python -m pipelines.train <method>
"""

import inspect
import json
import shutil
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from models import checkpoint
from models.data.batches import Tokenise, has_text
from models.data.shards import ShardError, ShardSet
from models.method import Method
from models.text import load_tokenizer, normalise, region_text, train_tokenizer
from models.training.loop import check_phases
from pipelines.config import load, parse
from pipelines.errors import UserError
from pipelines.files import atomic_folder, digest_of, sha256_file, sha256_files
from pipelines.registry import plugin
from pipelines.shards.manifest import check_families
from pipelines.stage import SUMMARIES, Summary
from pipelines.train.config import MethodConfig, TrainConfig
from pipelines.train.engine import Run, train_in_process, train_with_ray

SHARDS = Path("data/shards")
CHECKPOINTS = Path("data/checkpoints")
CACHE = Path("data/cache/train")


def main(method: str) -> None:
    check_families(SHARDS)
    run(method, load(TrainConfig, "train"))


def run(
    method: str,
    config: TrainConfig,
    *,
    shards: Path = SHARDS,
    checkpoints: Path = CHECKPOINTS,
    cache: Path = CACHE,
    summaries: Path = SUMMARIES,
) -> dict[str, Any]:
    """Train `method` and write its checkpoint; return the summary."""
    summary = Summary(f"train-{method}")
    if method not in config.methods:
        raise UserError(f"params.yaml: train.methods has no '{method}'; it has: {', '.join(config.methods)}")
    settings = config.methods[method]
    model_class = plugin("methods", method)
    _check_code(method, settings, model_class)
    torch.set_num_threads(config.engine.threads)
    torch.manual_seed(config.engine.seed)
    images, captions = (shards / family for family in ("images", "captions"))
    try:
        train_split = ShardSet(images.resolve(), captions.resolve(), "train")
        texts, left_out = _texts(train_split)
        tokenizer = _tokenizer(settings, texts)
        model_config = parse(model_class.Config, settings.model, f"params.yaml: train.methods.{method}.model")
        model = model_class(model_config, len(tokenizer))
        lengths = Tokenise(tokenizer, settings.training.max_length).lengths(texts)
        truncated = sum(length > settings.training.max_length for length in lengths)
        usable = len(train_split) - sum(left_out.values())
        check_phases(model, usable, settings.training, max(1, config.engine.num_workers))
    except (ShardError, ValueError) as error:
        raise UserError(f"train.methods.{method}: {error}") from None

    name = f"{method}-{_run_digest(method, settings, config, shards)[:16]}"
    folder = cache.resolve() / name
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    work = Run(
        name=name,
        folder=folder,
        model_class=model_class,
        model_config=model_config,
        shards=train_split,
        usable=usable,
        training=settings.training,
        engine=config.engine,
    )
    state = train_in_process(work) if config.engine.num_workers == 0 else train_with_ray(work)

    curve = {
        "method": method,
        "steps": state["curve"],
        "phases": [phase.name for phase in settings.training.phases],
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "samples": usable,
        "skipped": left_out,
        "truncated_texts": truncated,
        "shards": {family: sha256_file(shards / family / "manifest.json") for family in ("images", "captions")},
    }
    with atomic_folder(checkpoints / method) as output:
        checkpoint.save(output, method, model, state["model"], tokenizer, curve)
    # The checkpoint is complete, so nothing is left to resume; a later run of the same inputs starts anew.
    shutil.rmtree(folder)
    summary.ok(usable)
    for status, count in left_out.items():
        summary.rejected(f"no_text_{status}", count)
    summary.extra = {
        "steps": state["position"][3],
        "parameters": curve["parameters"],
        "truncated_texts": truncated,
        "last_loss": state["curve"][-1]["loss"],
        "checkpoint_sha256": checkpoint.digest(checkpoints / method),
    }
    return summary.write(len(train_split), summaries)


def _check_code(method: str, settings: MethodConfig, model_class: type[Method]) -> None:
    file = Path(inspect.getfile(model_class)).resolve()
    if not file.is_relative_to(Path(settings.code).resolve()):
        raise UserError(
            f"params.yaml: train.methods.{method}.code is '{settings.code}', but the method lives in "
            f"{file.parent.name}/: DVC would not notice when it changes"
        )


def _texts(shards: ShardSet) -> tuple[list[str], dict[str, int]]:
    """Every text of the training split, normalised, and the samples without one by caption status."""
    texts: list[str] = []
    left_out: Counter[str] = Counter()
    for sample in shards.samples():
        if not has_text(sample):
            left_out[sample.captions["status"]] += 1
            continue
        texts.append(normalise(sample.captions["report"]))
        if sample.captions["summary"] is not None:
            texts.append(normalise(sample.captions["summary"]))
        texts.extend(
            region_text(region["adjective"], region["term"], region["position"])
            for region in sample.captions["regions"]
            if region["status"] == "ok"
        )
    return texts, dict(sorted(left_out.items()))


def _tokenizer(settings: MethodConfig, texts: list[str]) -> PreTrainedTokenizerFast:
    encoder = settings.model.get("text_encoder", {})
    if encoder.get("pretrained"):
        tokenizer = load_tokenizer(encoder["pretrained"], encoder.get("revision"))
    else:
        tokenizer = train_tokenizer(texts, settings.training.vocabulary_size)
    tokenizer.model_max_length = settings.training.max_length
    return tokenizer


def _run_digest(method: str, settings: MethodConfig, config: TrainConfig, shards: Path) -> str:
    """Hash of all that decides the weights: settings, shards and the code of models/ that this method can reach."""
    code = Path(settings.code).resolve()
    shared = Path(checkpoint.__file__).parent
    files = [*shared.glob("*.py"), *shared.glob("data/*.py"), *shared.glob("training/*.py")]
    return digest_of(
        {
            "method": method,
            "settings": json.loads(json.dumps(asdict(settings))),
            "engine": asdict(config.engine),
            "shards": [sha256_file(shards / family / "manifest.json") for family in ("images", "captions")],
            "code": [sha256_files(shared, files), sha256_files(code, list(code.rglob("*.py")))],
        }
    )

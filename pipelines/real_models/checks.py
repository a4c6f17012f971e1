"""What can be said of a study's models without fetching one: names, revisions, options, disk and memory."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from pipelines.captions.captioners.vllm.options import Options as CaptionerOptions
from pipelines.captions.config import CaptionsConfig
from pipelines.config import parse
from pipelines.errors import UserError
from pipelines.proposals.config import ProposalsConfig
from pipelines.proposals.plan import check_plugins
from pipelines.real_models.sizes import SIZES, ModelSize
from pipelines.registry import plugin

# vLLM's share of a GPU, and what it needs beside weights and cache (docs/operations.md, Machines).
_VLLM_SHARE, _VLLM_ACTIVATIONS = 0.92, 4 * 10**9
# Tokens of a request beside its images and its answer, and pixels of an image token.
_TEXT_TOKENS, _TOKEN_PIXELS = 700, 28 * 28
_ID, _COMMIT = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*"), re.compile(r"[0-9a-f]{40}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Host:
    """What this host has, in bytes.

    Attributes:
        disk: Free where the hub's files are kept.
        memory: Free.
        gpus: Memory of each GPU.
    """

    disk: int
    memory: int
    gpus: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line for a person; `passed` is whether the study can run as far as this goes."""

    passed: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model of the hub that a study names.

    Attributes:
        user: Its plug-in.
        model: Its id.
        revision: Its commit.
        size: What it weighs.
        device: Where it runs, as torch calls it; `server` behind one on this host, `elsewhere` behind one elsewhere.
    """

    user: str
    model: str
    revision: str
    size: ModelSize
    device: str


def this_host() -> Host:
    """Measured now."""
    import torch
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE).absolute()
    there = next(folder for folder in (cache, *cache.parents) if folder.is_dir())
    gpus = tuple(torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count()))
    return Host(disk=shutil.disk_usage(there).free, memory=psutil.virtual_memory().available, gpus=gpus)


def check_study(study: dict[str, Any], host: Host) -> tuple[list[NamedModel], list[Check]]:
    """The models of the hub that proposals and captions name, and a line on each and on what all need together.

    Args:
        study: Merged sections of params.yaml.
        host: Where they shall run.

    Raises:
        UserError: The sections `proposals` or `captions` are wrong in themselves.
    """
    proposals = parse(ProposalsConfig, study["proposals"], "proposals")
    captions = parse(CaptionsConfig, study["captions"], "captions")
    check_plugins(proposals)
    plugin("captioners", captions.captioner)
    models: list[NamedModel] = []
    checks: list[Check] = []
    plugins = [*(("proposers", name) for name in proposals.proposers), ("segmenters", proposals.segmenter)]
    for kind, name in plugins:
        options = proposals.options.get(name, {})
        try:
            plugin(kind, name)(options)
            models += _named(name, options, options.get("device", "cpu"), checks)
        except UserError as error:
            checks.append(Check(passed=False, text=str(error)))
    if captions.captioner == "vllm":
        options = captions.options.get("vllm", {})
        try:
            served = parse(CaptionerOptions, options, "captions.options.vllm")
            here = any(urlsplit(url).hostname in _LOOPBACK for url in served.base_urls)
            models += _named("vllm", options, "server" if here else "elsewhere", checks)
        except UserError as error:
            checks.append(Check(passed=False, text=str(error)))
    else:
        checks.append(Check(passed=True, text=f"{captions.captioner}: no weights"))
    # A sum without a model that is still to be corrected would say too little.
    if all(check.passed for check in checks):
        checks += _proposals_memory(models, proposals.batch_size, host)
        checks += [_captioner_memory(one, served, host) for one in models if one.user == "vllm"]
        checks.append(_disk(models, host))
    return models, checks


def _named(user: str, options: dict[str, Any], device: str, checks: list[Check]) -> list[NamedModel]:
    """The model that options name, if it is a right one of the hub; a line on it either way."""
    model: Any = options.get("model")
    revision: Any = options.get("revision")
    fault = None
    if model is None or Path(model).is_dir():
        checks.append(Check(passed=True, text=f"{user}: {'a folder' if model else 'no weights'}, nothing to fetch"))
        return []
    if not _ID.fullmatch(model):
        fault = f"model '{model}' is neither a folder nor an id of the form owner/name"
    elif not _COMMIT.fullmatch(str(revision)):
        fault = f"revision '{revision}' of {model} is no commit: pin one, 40 hex digits as its page on the hub shows"
    elif model not in SIZES:
        fault = f"{model} is not among the models whose sizes are known: {', '.join(SIZES)}"
    if fault is not None:
        checks.append(Check(passed=False, text=f"{user}: {fault}"))
        return []
    size = SIZES[model]
    text = f"{user}: {model} at {revision[:12]}, {size.parameters / 1e6:,.0f} M parameters, {_gb(size.weights)}"
    checks.append(Check(passed=True, text=text))
    return [NamedModel(user=user, model=model, revision=revision, size=size, device=device)]


def _disk(models: list[NamedModel], host: Host) -> Check:
    needed = sum(one.size.weights for one in models if one.device != "elsewhere")
    return _compare("disk for the weights", needed, host.disk, "free", "free some, or set HF_HOME to a larger disk")


def _proposals_memory(models: list[NamedModel], batch: int, host: Host) -> list[Check]:
    """Proposer and segmenter share a process; each answers a batch in its turn."""
    checks = []
    for on_gpu in (True, False):
        found = [one for one in models if one.size.image_bytes and one.device.startswith("cuda") is on_gpu]
        if not found:
            continue
        needed = sum(one.size.weights for one in found) + batch * max(one.size.image_bytes for one in found)
        there = (min(host.gpus, default=0)) if on_gpu else host.memory
        what = f"{'GPU' if on_gpu else 'host'} memory for {' and '.join(one.user for one in found)}, batches of {batch}"
        advice = "lower proposals.batch_size"
        if on_gpu and not host.gpus:
            advice = "this host has no CUDA device: set `device: cpu` in their options, or run it elsewhere"
        checks.append(_compare(what, needed, there, "there", advice))
    return checks


def _captioner_memory(captioner: NamedModel, options: CaptionerOptions, host: Host) -> Check:
    if captioner.device == "elsewhere":
        return Check(passed=True, text="memory of the captioner: that of a server elsewhere, not reckoned")
    tokens = (options.image_size**2 + options.crop_size**2) // _TOKEN_PIXELS + _TEXT_TOKENS + options.max_tokens
    cache = options.concurrency * tokens * captioner.size.token_bytes
    needed = int((captioner.size.weights + cache + _VLLM_ACTIVATIONS) / _VLLM_SHARE)
    what = f"GPU memory for the captioner, {options.concurrency} requests at a time"
    advice = "lower captions.options.vllm.concurrency, take a smaller model, or a server elsewhere"
    return _compare(what, needed, sum(host.gpus), "in all GPUs", advice)


def _compare(what: str, needed: int, there: int, where: str, advice: str) -> Check:
    text = f"{what}: {_gb(needed)} needed, {_gb(there)} {where}"
    return Check(passed=needed <= there, text=text if needed <= there else f"{text}: {advice}")


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"

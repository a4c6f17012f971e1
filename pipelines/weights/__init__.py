"""Folders of published weights: what identifies them. Without torch, for those who only compare them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.files import sha256_files

FOLDER = Path("data/weights")
# Where a folder of `make weights` says what it is.
FACTS = "weights.json"

# Files that decide what a model answers.
_SUFFIXES = (".json", ".safetensors", ".txt")


def weights_sha256(folder: Path) -> str:
    """One digest over these files of a folder."""
    return sha256_files(folder, [file for file in folder.iterdir() if file.suffix in _SUFFIXES])


def folders_in(settings: Any, root: Path = Path()) -> Iterator[str]:
    """Folders under `root`, of those that `model` and `pretrained` name in some settings at any depth."""
    if isinstance(settings, list):
        for value in settings:
            yield from folders_in(value, root)
    elif isinstance(settings, dict):
        for key, value in settings.items():
            if key in ("model", "pretrained") and isinstance(value, str) and (root / value).is_dir():
                yield value
            yield from folders_in(value, root)


def stage_folders(params: Mapping[str, Any], root: Path = Path()) -> dict[str, list[str]]:
    """Stage -> folders of weights that it starts from, by a params file of the project in `root`."""
    proposals = params.get("proposals") or {}
    options = proposals.get("options") or {}
    methods = (params.get("train") or {}).get("methods") or {}
    stages: dict[str, Any] = {
        "proposals": [options.get(name) for name in (*proposals.get("proposers", []), proposals.get("segmenter"))],
        **{f"train@{name}": method for name, method in methods.items()},
    }
    named = {stage: sorted(set(folders_in(settings, root))) for stage, settings in stages.items()}
    return {stage: folders for stage, folders in named.items() if folders}


def used_weights(params: Mapping[str, Any], root: Path = Path()) -> list[dict[str, str]]:
    """Each folder of weights that a study starts from, with its digest and what it says of itself, for people.

    `licence`, `package` and `trained_on` are `unknown` for folders that `make weights` did not make.
    """
    stages: dict[str, list[str]] = {}
    for stage, folders in stage_folders(params, root).items():
        for folder in folders:
            stages.setdefault(folder, []).append(stage)
    rows = []
    for folder, users in sorted(stages.items()):
        file = root / folder / FACTS
        facts = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        said = {name: facts.get(name, "unknown") for name in ("package", "licence", "trained_on")}
        rows.append({"folder": folder, "stages": ", ".join(users), "sha256": weights_sha256(root / folder), **said})
    return rows

"""Folders of published weights: what identifies them. Without torch, for those who only compare them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.verified import sha256_file
from pipelines.files import sha256_files

FOLDER = Path("data/weights")
# Where a folder of `make weights` says what it is.
FACTS = "weights.json"

# Files that decide what a model answers.
_SUFFIXES = (".json", ".safetensors", ".txt")


def weights_sha256(folder: Path) -> str:
    """One digest over these files of a folder and of those in it, but what it says of itself."""
    return sha256_files(folder, [file for file in folder.rglob("*") if file.suffix in _SUFFIXES and file.name != FACTS])


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

    `licence`, `package` and `trained_on` are `unknown` for folders that `make weights` did not make, or whose weights
    are not those that it wrote. Of a folder outside of the project its name alone is given.
    """
    stages: dict[str, list[str]] = {}
    for stage, folders in stage_folders(params, root).items():
        for folder in folders:
            stages.setdefault(folder, []).append(stage)
    rows = []
    for folder, users in sorted(stages.items()):
        facts = _facts(root / folder)
        said = {name: facts.get(name, "unknown") for name in ("package", "licence", "trained_on")}
        shown = Path(folder).name if Path(folder).is_absolute() or ".." in Path(folder).parts else folder
        rows.append({"folder": shown, "stages": ", ".join(users), "sha256": weights_sha256(root / folder), **said})
    return rows


def publishers_words(settings: Any, root: Path = Path()) -> dict[str, str]:
    """What the published weights that some settings of a method name were trained on, as their publishers say.

    Args:
        settings: As JSON; `pretrained` at any depth names a folder under `root`, or an id of Hugging Face's hub, of
            which nothing is said here.
        root: Folder of the project.

    Returns:
        Folder or id -> the words, or `unknown`.
    """
    folders = {row["folder"]: row["trained_on"] for row in used_weights({"train": {"methods": {"": settings}}}, root)}
    ids = {name: "unknown" for name in _pretrained(settings) if not (root / name).is_dir()}
    return dict(sorted({**ids, **folders}.items()))


def _pretrained(settings: Any) -> Iterator[str]:
    if isinstance(settings, list):
        for value in settings:
            yield from _pretrained(value)
    elif isinstance(settings, dict):
        if isinstance(name := settings.get("pretrained"), str):
            yield name
        for value in settings.values():
            yield from _pretrained(value)


def _facts(folder: Path) -> dict[str, str]:
    """What a folder says of itself, where its weights are those that it says it of."""
    file, weights = folder / FACTS, folder / "model.safetensors"
    if not (file.is_file() and weights.is_file()):
        return {}
    try:
        facts: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
        return facts if facts["sha256"] == sha256_file(weights) else {}
    except (ValueError, KeyError, TypeError):
        return {}

"""Params that go elsewhere: no path of this machine, no address of a server.

Where raw data, prompts, review labels and the key lie decides no result, so that each has a place of its own in the
checkout where the recipe is rebuilt.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from pipelines.archives import ARCHIVE_SUFFIXES
from pipelines.errors import UserError
from pipelines.tracking.paths import without_machine_paths

REVIEW, KEYS, PROMPTS, RAW, WEIGHTS = "data/review.jsonl", "keys", "prompts", "data/raw", "weights"
# Of people's answers in an audit, which decide no shard and are in no recipe: each checkout has this file.
ANSWERS = "data/audit.jsonl"
# Nobody listens there: a recipe has the answers, and one that is missing must not be asked for.
NOBODY = "http://127.0.0.1:1/v1"
_CAPTIONERS = {"base_urls": [NOBODY], "outage_timeout_s": 1.0}
# Servers of the study: the defaults of the params.yaml that ships with the project stand in their place.
_SERVERS: dict[tuple[str, str], str | None] = {
    ("tracking", "uri"): "sqlite:///data/mlflow/mlflow.db",
    ("tracking", "artifacts"): "data/mlflow/artifacts",
    # A copy of the shards that training reads.
    ("train", "shards_from"): None,
}
# Sections that decide the shards; of the others nothing but names is kept of what lies on this machine.
_DECIDING = ("phantom", "ingest", "split", "proposals", "regions", "captions", "shards", "plugins")
_ABSOLUTE = re.compile(r"(/|~|[A-Za-z]:[\\/]|file://).*", re.DOTALL)


def portable(params: dict[str, Any]) -> dict[str, Any]:
    """The params of a recipe; those of a recipe come back as they are.

    Args:
        params: All sections of params.yaml.

    Raises:
        UserError: A setting that decides the shards is a path of this machine.
    """
    found = {
        name: copy.deepcopy(section) if name in _DECIDING else without_machine_paths(section)
        for name, section in params.items()
    }
    for name, source in found["ingest"]["sources"].items():
        source["root"] = _root(name, source["root"])
    found["ingest"]["keys"] = KEYS
    found["regions"]["review"] = REVIEW
    if "audit" in found:
        found["audit"]["answers"] = ANSWERS
    found["captions"]["prompts"] = _within(found["captions"]["prompts"], PROMPTS)
    for options in (found["captions"].get("options") or {}).values():
        options.update({name: value for name, value in _CAPTIONERS.items() if "base_urls" in options})
    for task in found.get("evaluate", {}).get("tasks", {}).values():
        # Who is asked beside a method decides no shard, and stands in a house of its own.
        if isinstance(task, dict) and task.get("served"):
            task["served"] = None
    for (section, name), value in _SERVERS.items():
        if name in found.get(section, {}):
            found[section][name] = value
    for name, folder in weights(params).items():
        found["proposals"]["options"][name]["model"] = _within(folder, WEIGHTS)
    for key, value in _leaves({name: found[name] for name in _DECIDING if name in found}):
        if isinstance(value, str) and (_ABSOLUTE.fullmatch(value) or ".." in PurePosixPath(value).parts):
            raise UserError(
                f"params.yaml: {key} is a place of this machine, which a recipe cannot name: give a path below the "
                "project's folder, and run `dvc repro`"
            )
    return found


def weights(params: dict[str, Any]) -> dict[str, str]:
    """Plug-in -> folder of its weights, of those proposers and segmenters whose weights lie in one."""
    used = {*params["proposals"]["proposers"], params["proposals"]["segmenter"]}
    options = params["proposals"].get("options") or {}
    models = {name: options[name].get("model") for name in sorted(used) if isinstance(options.get(name), dict)}
    return {
        name: model
        for name, model in models.items()
        if isinstance(model, str) and (Path(model).is_dir() or PurePosixPath(model).parts[:1] == (WEIGHTS,))
    }


def _root(name: str, root: str) -> str:
    if _lies_in(root, RAW):
        return root
    suffix = next((suffix for suffix in ARCHIVE_SUFFIXES if root.lower().endswith(suffix)), "")
    return f"{RAW}/{name}{suffix}"


def _within(path: str, folder: str) -> str:
    return path if _lies_in(path, folder) else f"{folder}/{PurePosixPath(path).name}"


def _lies_in(path: str, folder: str) -> bool:
    parts, wanted = PurePosixPath(path).parts, PurePosixPath(folder).parts
    return parts[: len(wanted)] == wanted and len(parts) > len(wanted) and ".." not in parts


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value

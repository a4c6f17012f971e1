"""The params of a run: what decided this method's training, under short names, and nothing of other methods."""

from pathlib import Path
from typing import Any

from pipelines.config import load_section
from pipelines.tracking.names import metric_name
from pipelines.tracking.paths import without_machine_paths

# MLflow's limits of a name and of the text of a param.
_NAME_LENGTH, _LENGTH = 250, 6000


def of_params(file: Path, method: str) -> dict[str, Any]:
    """A method's settings in params.yaml: `model`, `training`, `engine`."""
    section = load_section("train", file)
    return {**(section["methods"][method] or {}), "engine": section.get("engine") or {}}


def of_run(settings: dict[str, Any]) -> dict[str, str]:
    """Settings as params: `model.…`, `engine.…`, and those of `training` without a prefix."""
    groups = {"model.": settings.get("model"), "": settings.get("training"), "engine.": settings.get("engine")}
    found: dict[str, str] = {}
    for prefix, values in groups.items():
        found |= flat(without_machine_paths(values or {}), prefix)
    return _shortened(found)


def of_checkpoint(config: dict[str, Any]) -> dict[str, str]:
    """What a checkpoint's config.json adds: settings that params.yaml left to their defaults, its vocabulary and input.

    The defaults of an encoder's architecture are the library's, and left out.
    """
    model = {name: value for name, value in flat(config["config"], "model.").items() if ".architecture." not in name}
    others = {"tokenizer.vocabulary_size": str(config["vocabulary_size"]), **flat(config.get("input", {}), "input.")}
    return _shortened(without_machine_paths(model | others))


def _shortened(values: dict[str, str]) -> dict[str, str]:
    """As MLflow allows them. Names leave out `architecture`: no setting of an encoder is called as a part of it."""
    names = {name.replace(".architecture.", "."): name for name in values}
    return {metric_name(short)[:_NAME_LENGTH]: values[name][:_LENGTH] for short, name in names.items()}


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested dicts as one level of dotted names, values as text; a list of plain values as `a, b`."""
    found: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            found |= flat(value, f"{name}.")
        elif isinstance(value, list | tuple) and not any(isinstance(one, dict | list) for one in value):
            found[name] = ", ".join(map(str, value))
        else:
            found[name] = str(value)
    return found

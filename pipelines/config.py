"""params.yaml as frozen dataclasses. A key that no dataclass knows is an error that names it.

Each stage keeps its own dataclass in `pipelines/<stage>/config.py`, so that a new setting of one stage does not make
DVC run the others again; this module holds only the reading and the checking.
"""

import dataclasses
import json
import re
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from pipelines import plain_yaml
from pipelines.errors import Rejected, UserError, did_you_mean, item_boundary

PARAMS = Path("params.yaml")

T = TypeVar("T")

# Whose keys dvc.yaml puts into commands (`foreach`).
_NAMED_IN_COMMANDS = (("ingest", "sources"), ("train", "methods"))
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def load_params(path: Path = PARAMS) -> dict[str, Any]:
    """The sections of params.yaml, or of another YAML file that holds keys with values."""
    if not path.is_file():
        raise UserError(f"{path} not found: run from the folder of the project or workspace that holds it")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    try:
        with item_boundary():
            values = plain_yaml.load(text)
    except Rejected as error:
        raise UserError(f"{path} is not valid YAML: {error.detail}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}; it should hold sections")
    _check_names(values, path)
    return values


def _check_names(values: dict[str, Any], path: Path) -> None:
    """Refuse names that dvc.yaml would put into the commands of stages, and that a shell would not take for names."""
    for section, key in _NAMED_IN_COMMANDS:
        of_section = values.get(section)
        named = of_section.get(key) if isinstance(of_section, dict) else None
        for name in named if isinstance(named, dict) else ():
            if not _NAME.fullmatch(str(name)):
                raise UserError(
                    f"{path}: {section}.{key}: the name {str(name)[:60]!r} stands in commands: make it of letters, "
                    "digits, '_', '-' and '.'"
                )


def load_section(section: str, path: Path = PARAMS) -> dict[str, Any]:
    """The values under one top-level key of params.yaml."""
    values = load_params(path)
    if section not in values:
        raise UserError(f"{path} has no section '{section}': add it, see the params.yaml that ships with the project")
    if not isinstance(values[section], dict):
        raise UserError(f"{path}: section '{section}' holds {values[section]!r}; it should hold keys with values")
    return values[section]


def method_names(path: Path = PARAMS) -> list[str]:
    """The methods that params.yaml trains. Outputs are looked for under these names, never by what lies in a folder."""
    return list(load_section("train", path).get("methods") or {})


def load(cls: type[T], section: str, path: Path = PARAMS) -> T:
    """One section of params.yaml as the dataclass `cls`."""
    return parse(cls, load_section(section, path), f"{path}: {section}")


def parse(cls: type[T], values: Any, where: str) -> T:
    """Build the dataclass `cls` from plain values.

    Args:
        cls: A dataclass; its fields may be dataclasses, and lists or dicts of them.
        values: What the YAML file holds at this place.
        where: The place, for error messages.

    Raises:
        UserError: A key is unknown or missing, or a value has the wrong type or is refused by `__post_init__`.
    """
    _refuse_unknown_keys(cls, values, where)
    try:
        # As JSON, for that is strict on values (no true for 1, no text for a number) and takes lists for tuples.
        return pydantic.TypeAdapter(cls).validate_json(json.dumps(values, default=str), strict=True)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join([where, *(str(part) for part in first["loc"])])
        if first["type"] == "value_error":
            # A dataclass refused its values, and says which; its input would be the whole section.
            raise UserError(f"{place}: {first['ctx']['error']}") from None
        raise UserError(f"{place}: {first['msg']} (found {repr(first['input'])[:200]})") from None


def _refuse_unknown_keys(kind: Any, values: Any, where: str) -> None:
    if dataclasses.is_dataclass(kind) and isinstance(values, dict):
        fields = typing.get_type_hints(kind)
        for key, value in values.items():
            if key not in fields:
                hint = did_you_mean(str(key), fields, f"valid keys: {', '.join(fields)}")
                raise UserError(f"{where}.{key}: unknown key; {hint}")
            _refuse_unknown_keys(fields[key], value, f"{where}.{key}")
        return
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is dict and isinstance(values, dict):
        for key, value in values.items():
            _refuse_unknown_keys(arguments[1], value, f"{where}.{key}")
    elif origin in (list, tuple) and isinstance(values, list):
        for index, value in enumerate(values):
            _refuse_unknown_keys(arguments[0], value, f"{where}[{index}]")
    elif origin in (typing.Union, types.UnionType) and values is not None:
        for option in arguments:
            if dataclasses.is_dataclass(option):
                _refuse_unknown_keys(option, values, where)

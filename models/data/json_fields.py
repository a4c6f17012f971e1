"""JSON values as dataclasses, checked: an unknown key, a missing key and a value of another type are errors."""

import dataclasses
import types
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
_Reader = Callable[[Any], Any]


class FieldError(ValueError):
    """A value that does not fit its field.

    Args:
        problem: What is wrong.
        path: The keys that lead to the value, such as `regions[0].box`; empty for the whole document.
    """

    def __init__(self, problem: str, path: str = "") -> None:
        super().__init__(f"{path}: {problem}" if path else problem)
        self.problem, self.path = problem, path


def field_values(value: Any) -> dict[str, Any]:
    """The fields of a dataclass; `dataclasses.asdict` also copies all that is in them, which takes far longer."""
    return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}


def read_fields(cls: type[T], values: Any) -> T:
    """Build the dataclass `cls` from parsed JSON.

    Args:
        cls: Its fields may be str, int, float, bool, None, tuples, lists, dicts with str keys, dataclasses, and unions
            with None. A key may be missing where the field has a default.
        values: What `json.loads` returned.

    Raises:
        FieldError: A key is unknown or missing, or a value has another type; the message names the key.
    """
    built: T = _reader(cast(Any, cls))(values)
    return built


# A file of shards holds the same few types many thousand times: each type is analysed once.
@cache
def _reader(kind: Any) -> _Reader:
    if dataclasses.is_dataclass(kind):
        return _dataclass_reader(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (types.UnionType, Union):
        (inner,) = (argument for argument in arguments if argument is not types.NoneType)
        reader = _reader(inner)
        return lambda value: None if value is None else reader(value)
    if origin is list or (origin is tuple and arguments[-1] is Ellipsis):
        return _sequence_reader(origin, arguments[0])
    if origin is tuple:
        return _fixed_reader(arguments)
    if origin is dict:
        return _mapping_reader(arguments[1])
    return _scalar_reader(kind)


def _dataclass_reader(cls: Any) -> _Reader:
    hints = get_type_hints(cls)
    readers = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(cls)}
    exact = {field.name: _exact_types(hints[field.name]) for field in dataclasses.fields(cls)}
    required = {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise FieldError(f"{value!r} is no object with keys")
        if unknown := sorted(value.keys() - readers.keys()):
            raise FieldError("unknown key", unknown[0])
        if missing := sorted(required - value.keys()):
            raise FieldError("missing key", missing[0])
        try:
            return cls(**{key: part if type(part) in exact[key] else readers[key](part) for key, part in value.items()})
        except FieldError:
            # Read again, for the keys that lead to the fault.
            return cls(**{key: _inside(readers[key], part, key) for key, part in value.items()})

    return read


def _sequence_reader(container: Any, kind: Any) -> _Reader:
    reader, exact = _reader(kind), _exact_types(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, list):
            raise FieldError(f"{value!r} is no list")
        if exact.issuperset(map(type, value)):
            return container(value)
        return container(_inside(reader, part, f"[{index}]") for index, part in enumerate(value))

    return read


def _fixed_reader(kinds: tuple[Any, ...]) -> _Reader:
    readers = [_reader(kind) for kind in kinds]
    exact = frozenset.intersection(*map(_exact_types, kinds))

    def read(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(readers):
            raise FieldError(f"{value!r} is no list of {len(readers)}")
        if exact.issuperset(map(type, value)):
            return tuple(value)
        parts = enumerate(zip(readers, value, strict=True))
        return tuple(_inside(reader, part, f"[{index}]") for index, (reader, part) in parts)

    return read


def _mapping_reader(kind: Any) -> _Reader:
    reader = _reader(kind)

    def read(value: Any) -> Any:
        if not isinstance(value, dict):
            raise FieldError(f"{value!r} is no object with keys")
        return {key: _inside(reader, part, key) for key, part in value.items()}

    return read


def _scalar_reader(kind: Any) -> _Reader:
    def read(value: Any) -> Any:
        # JSON writes 1.0 as 1 in many programs; true and false are no numbers, though Python has them as such.
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is not kind:
            raise FieldError(f"{value!r} is no {kind.__name__}")
        return value

    return read


def _exact_types(kind: Any) -> frozenset[type]:
    """Types whose values a field takes as they are, so that no reader need be called for them."""
    if get_origin(kind) in (types.UnionType, Union):
        return frozenset.union(*map(_exact_types, get_args(kind)))
    return frozenset({kind}) if kind in (str, int, float, bool, types.NoneType) else frozenset()


def _inside(reader: _Reader, value: Any, key: str) -> Any:
    try:
        return reader(value)
    except FieldError as error:
        path = f"{key}.{error.path}" if error.path and not error.path.startswith("[") else key + error.path
        raise FieldError(error.problem, path) from None

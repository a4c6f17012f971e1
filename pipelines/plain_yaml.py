"""YAML as settings need it: what PyYAML would take in silence, or grow without bound, is an error with its line."""

from typing import Any

import yaml

from pipelines.errors import text_fault

_MAX_CHARACTERS = 2**20
_MAX_VALUES = 100_000  # with those that an alias repeats: a few lines of aliases of aliases mean billions
_KEY_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "merge"))


def load(text: str) -> Any:
    """The value of a YAML document, None for an empty one.

    Raises:
        yaml.YAMLError: The text is no YAML or longer than 1 MiB of characters; a key stands twice in a mapping or is
            neither text nor a whole number; a text holds NUL or half a surrogate pair; a value contains itself, or
            aliases repeat more than 100,000 values.
    """
    if len(text) > _MAX_CHARACTERS:
        raise yaml.YAMLError(f"{len(text)} characters, at most {_MAX_CHARACTERS}")
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _count(node: yaml.Node, counted: dict[int, int]) -> int:
    """How many values a node holds with all that its aliases repeat; it is checked on the way.

    Args:
        node: A node, which several places may share.
        counted: Node's id -> its values; 0 while it is being counted.
    """
    if id(node) in counted:
        if counted[id(node)] == 0:
            raise _error(node, "a value contains itself")
        return counted[id(node)]
    counted[id(node)] = 0
    if isinstance(node, yaml.ScalarNode):
        if fault := text_fault(node.value):
            raise _error(node, fault)
        children = []
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    else:
        children = node.value
    counted[id(node)] = 1 + sum(_count(child, counted) for child in children)
    if counted[id(node)] > _MAX_VALUES:
        raise _error(node, f"aliases repeat more than {_MAX_VALUES} values")
    return counted[id(node)]


def _check_keys(node: yaml.MappingNode) -> None:
    seen = set()
    for key, _ in node.value:
        if key.tag not in _KEY_TAGS:
            found = f" ({key.value})" if isinstance(key, yaml.ScalarNode) else ""
            raise _error(key, f"a key{found} is neither text nor a whole number: put it in quotes")
        if key.value in seen:
            raise _error(key, f"the key '{key.value}' stands twice in one mapping: delete one")
        seen.add(key.value)


def _error(node: yaml.Node, what: str) -> yaml.YAMLError:
    return yaml.YAMLError(f"{what} (line {node.start_mark.line + 1})")

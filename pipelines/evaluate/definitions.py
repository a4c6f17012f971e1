"""What a task's metrics mean, for people: its plug-in says it, metrics.json carries it, pages show it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# As a list: keys of JSON objects are sorted, and the order of the definitions is that of the metrics on a page.
Definitions = Sequence[Mapping[str, str]]


def as_json(definitions: Mapping[str, str], metrics: Iterable[str]) -> list[dict[str, str]]:
    """`[{metric, text}]`: those that define one of the metrics, in the order in which the task gives them.

    Args:
        definitions: `Task.definitions`.
        metrics: Names of the metrics that a result has.
    """
    used = {name for metric in metrics if (name := _defined_as(metric, definitions)) is not None}
    return [{"metric": name, "text": text} for name, text in definitions.items() if name in used]


def definition_of(metric: str, definitions: Definitions) -> str | None:
    """What a metric means; None: its task does not say."""
    texts = {entry["metric"]: entry["text"] for entry in definitions}
    name = _defined_as(metric, texts)
    return None if name is None else texts[name]


def in_order(metrics: Iterable[str], definitions: Definitions) -> list[str]:
    """As a person reads them: in the order of their definitions, @1 before @5 before @10, @all last; others behind."""
    names = [entry["metric"] for entry in definitions]

    def key(metric: str) -> tuple[int, list[Any]]:
        name = _defined_as(metric, names)
        return (len(names) if name is None else names.index(name), _natural(metric))

    return sorted(metrics, key=key)


def _defined_as(metric: str, names: Iterable[str]) -> str | None:
    """The definition's name: the metric's own, with `@k` for a number or `all`, or without the setting before `/`."""
    general = _general(metric)
    forms = (metric, general, general.rpartition("/")[2])
    known = set(names)
    return next((form for form in forms if form in known), None)


def _general(metric: str) -> str:
    return re.sub(r"@(\d+|all)", "@k", metric)


def _natural(name: str) -> list[Any]:
    """Digits compare as numbers; words and numbers stand in turn, so that none is compared with the other."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def headline(result: Mapping[str, Any]) -> list[str]:
    """The metrics of a task's result that stand for it: of `@k` that of `@all` or the largest k; all where it has none.

    Args:
        result: Of metrics.json.
    """
    ordered = in_order(result["metrics"], result["definitions"])
    names = result["verdict"]["headline"]
    if not names:
        return ordered
    found = [[metric for metric in ordered if name in (metric, _general(metric))] for name in names]
    return [metrics[-1] for metrics in found if metrics] or ordered

"""A fair and fixed choice of examples."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

T = TypeVar("T")


def in_turns(items: Iterable[T], group: Callable[[T], Hashable]) -> list[T]:
    """The first item of every group, then the second of every group, and so on; within a turn the order stays.

    Args:
        items: In the order in which each group's items come.
        group: The group of an item.
    """
    counts: Counter[Hashable] = Counter()
    turns = []
    for item in items:
        key = group(item)
        turns.append((counts[key], item))
        counts[key] += 1
    return [item for _, item in sorted(turns, key=lambda turn: turn[0])]

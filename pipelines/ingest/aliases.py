"""Ids that turn out to name the same thing, such as two ids of one patient."""


class Aliases:
    """Names that were joined, and the one that stands for each.

    Attributes:
        joined: All names that `join` was called with.
    """

    def __init__(self) -> None:
        self._other: dict[str, str] = {}
        self.joined: set[str] = set()

    def __len__(self) -> int:
        """How many names turned out to be another one."""
        return len(self._other)

    def first(self, name: str) -> str:
        """The name that stands for all that were joined with this one: the smallest."""
        while name in self._other:
            name = self._other[name]
        return name

    def join(self, name: str, other: str) -> None:
        """From now on both are one."""
        self.joined |= {name, other}
        first, second = sorted((self.first(name), self.first(other)))
        if first != second:
            self._other[second] = first

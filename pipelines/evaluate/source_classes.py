"""The classes of a source: what its images of all splits show, not those of the scored split alone.

A method that chooses one of several classes would otherwise choose among those that the truth of the split holds.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipelines.records import NO_FINDING


@dataclass(frozen=True, kw_only=True)
class SourceClasses:
    """The classes of one source.

    Attributes:
        labels: In alphabetical order, `No Finding` among them where an image is without finding.
        exclusive: Whether each labelled image shows exactly one of them.
    """

    labels: tuple[str, ...]
    exclusive: bool


def class_set(labels: Iterable[str]) -> frozenset[str]:
    """The classes of a labelled image; that of one without finding is `No Finding`."""
    return frozenset(labels) or frozenset({NO_FINDING})


def classes_by_source(images: Iterable[tuple[str, tuple[str, ...] | None]]) -> dict[str, SourceClasses]:
    """Source -> its classes, sources in alphabetical order; those without labelled images are left out.

    Args:
        images: Source and labels of each, of all splits; None where the labels are unknown.
    """
    sets: dict[str, set[frozenset[str]]] = {}
    for source, labels in images:
        if labels is not None:
            sets.setdefault(source, set()).add(class_set(labels))
    return {
        source: SourceClasses(
            labels=tuple(sorted(frozenset[str]().union(*found))), exclusive=all(len(one) == 1 for one in found)
        )
        for source, found in sorted(sets.items())
    }

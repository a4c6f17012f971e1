"""Text that one source hides in a file is hidden in the file of every source.

Of a file in several sources one row is kept (`pipelines.split.stage`), and a source whose `burned_in` says nothing may
be the one that keeps it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pipelines.records import SplitImageRow


def hide_in_all(kept: Iterable[SplitImageRow], rows: Iterable[Mapping[Any, Any]]) -> list[SplitImageRow]:
    """The rows that are kept, with what any row of the same file hides, and the digests of those pixels.

    Args:
        kept: One row an image.
        rows: All rows of the sources that hide something: columns of the table of images by name.
    """
    hiding: dict[str, Mapping[Any, Any]] = {}
    for row in rows:
        hiding.setdefault(row["image_id"], row)
    return [_as_hidden(row, hiding[row.image_id]) if row.image_id in hiding else row for row in kept]


def _as_hidden(kept: SplitImageRow, hiding: Mapping[Any, Any]) -> SplitImageRow:
    if kept.hidden:
        return kept
    return replace(
        kept,
        burned_in=hiding["burned_in"],
        hidden=tuple((int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in hiding["hidden"]),
        pixel_sha256=hiding["pixel_sha256"],
        perceptual_hash=hiding["perceptual_hash"],
    )

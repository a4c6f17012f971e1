"""Text that one source hides in a file is hidden in the file of every source.

Of a file in several sources one row is kept (`pipelines.split.stage`), and a source whose `burned_in` says nothing may
be the one that keeps it.
"""

from collections.abc import Iterable
from typing import Any

from pipelines.images import is_near_uniform
from pipelines.records import ImageRow


def hidden_columns(kept: ImageRow, others: Iterable[ImageRow]) -> dict[str, Any]:
    """What the kept row of a file takes over of another row that hides something: its boxes, and digests of the pixels.

    Args:
        kept: The row that is kept.
        others: The rows of other sources, in the sources' order. Near-uniform ones do not count.

    Returns:
        Values by column; none where nothing changes.
    """
    if kept.hidden or kept.burned_in == "hidden":
        return {}
    hiding = (row for row in others if row.burned_in == "hidden" and not is_near_uniform(row.thumbnail))
    first = next(hiding, None)
    columns = ("burned_in", "hidden", "pixel_sha256", "perceptual_hash")
    return {} if first is None else {column: getattr(first, column) for column in columns}

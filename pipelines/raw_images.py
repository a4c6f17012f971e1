"""The image of a table's row: its file is read once, compared with the row, and decoded from these very bytes."""

from PIL import Image

from pipelines.errors import Rejected
from pipelines.images import painted_over, picture
from pipelines.opened import open_file
from pipelines.records import SplitImageRow
from pipelines.sources import Sources


def open_raw(sources: Sources, row: SplitImageRow) -> Image.Image:
    """The image of a row, as `pipelines.images.decode` gives it, with the row's hidden boxes painted over.

    Raises:
        Rejected: The file is no longer the one that was ingested (changed_since_ingest), or cannot be read; the module
            docstring of `pipelines.images` lists the other reason codes.
        OSError: The disk failed.
    """
    file = open_file(sources.roots[row.source], row.path, row.member, row.cut)
    if file.sha256 != row.sha256:
        raise Rejected("changed_since_ingest", "the file has other bytes than the table says: run `dvc repro`")
    return painted_over(picture(file, row.cut, sources.max_pixels), row.hidden)

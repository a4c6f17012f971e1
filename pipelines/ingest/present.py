"""Rows whose image is not under the root: of a large data set many people have a part, with the listings of all.

Reason code of `Rejected`: missing_file.
"""

from pipelines.archives import has_file
from pipelines.errors import Rejected
from pipelines.ingest import warning_texts
from pipelines.storage import Root


class PresentImages:
    """Which rows to take.

    Args:
        root: The source's root.
        only_present: Whether rows of missing images are left out and counted, instead of rejected one by one.
    """

    def __init__(self, root: Root, only_present: bool) -> None:
        self._root, self._only_present = root, only_present
        self._left_out = 0

    def takes(self, name: str) -> bool:
        """Whether to take the row of an image.

        Raises:
            Rejected: The image is missing, and rows of missing images are not left out; or its name leads out of the
                root.
        """
        if has_file(self._root, name):
            return True
        if not self._only_present:
            raise Rejected("missing_file", "no such image under the root: options.only_present leaves such rows out")
        self._left_out += 1
        return False

    def warnings(self) -> list[str]:
        """How many rows were left out, where there are any."""
        return [f"{warning_texts.NOT_PRESENT}{self._left_out}"] if self._left_out else []

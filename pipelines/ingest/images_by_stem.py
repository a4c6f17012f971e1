"""Images that a listing names without a suffix, as the sets of Kaggle's radiology competitions do."""

import posixpath
from collections.abc import Iterator, Mapping

from pipelines.archives import list_tree
from pipelines.errors import UserError
from pipelines.ingest.record import UnusableRow
from pipelines.storage import Root

_SUFFIXES = (".dcm", ".png", ".jpg", ".jpeg")  # of several files of one stem, the first of these counts


def images_by_stem(root: Root, folder: str) -> dict[str, str]:
    """File of each stem, sorted by stem, at any depth in a folder or archive; empty where there is none.

    A stem may have full stops in it, such as a DICOM UID. Copies in another format count where there is no DICOM file.
    """
    found: dict[str, str] = {}
    names = list_tree(root, folder)
    for suffix in _SUFFIXES:
        for name in names:
            if name.lower().endswith(suffix):
                found.setdefault(posixpath.basename(name)[: -len(suffix)], name)
    return dict(sorted(found.items()))


def listed_images(root: Root, folder: str) -> dict[str, str]:
    """`images_by_stem` of the folder whose images a listing names.

    Raises:
        UserError: There is none.
    """
    found = images_by_stem(root, folder)
    if not found:
        raise UserError(f"{root} has no images in {folder}: name their folder in options.images")
    return found


def unlisted_images(images: Mapping[str, str], listing: str) -> Iterator[UnusableRow]:
    """Images, by stem, that a listing does not name, as rejected rows (unlisted_file)."""
    for name in images.values():
        yield UnusableRow(row=name, path=name, reason="unlisted_file", detail=f"{listing} does not name it")

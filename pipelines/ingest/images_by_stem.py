"""Images that a listing names without a suffix, as the sets of Kaggle's radiology competitions do."""

import posixpath
from pathlib import Path

from pipelines.archives import list_tree

_SUFFIXES = (".dcm", ".png", ".jpg", ".jpeg")  # of several files of one stem, the first of these counts


def images_by_stem(root: Path, folder: str) -> dict[str, str]:
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

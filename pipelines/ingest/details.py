"""What a rejected row, and an error on the screen, may say about it: the column, the place and the fault, no value.

Tables of rejected rows and pages of them are passed on, and any value may be an id, a name or a date: also one that
stands in the wrong column, in the name of a folder, or in the header of a DICOM file. Allowed are numbers that were
counted or measured: sizes, frames, grey values, boxes, bytes.
"""

import posixpath
import re
from collections.abc import Iterator

# Libraries quote what they could not read. An apostrophe inside or at the end of a word opens no quotation; a quotation
# that never ends was cut off.
_QUOTED = re.compile(r"""(?<!\w)[bru]?(['"]).*?(?:\1(?!\w)|$)""", re.DOTALL)


def kind_of(value: object) -> str:
    """A value in words that do not give it away."""
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "true or false"
    kinds = {str: "a text", int: "a number", float: "a number", list: "a list", tuple: "a list", dict: "an object"}
    return next((word for kind, word in kinds.items() if isinstance(value, kind)), "another kind of value")


def without_values(detail: str, *names: str | None) -> str:
    """A detail without the given names of files, and without anything in quotation marks.

    Args:
        detail: What a decoder, an archive or a plug-in says is wrong.
        names: Names that the row gives to files; None is skipped.
    """
    paths = {path for name in names if name for path in _sub_paths(name)}
    for name in sorted(paths, key=len, reverse=True):
        detail = re.sub(rf"(?<![\w/.]){re.escape(name)}(?![\w/])", "the file", detail)
    return _QUOTED.sub("...", detail)


def _sub_paths(name: str) -> Iterator[str]:
    """A name, its parts that look like files, and all runs of several parts: an archive's message names one of them."""
    yield name
    parts = posixpath.normpath(name).split("/")
    for start in range(len(parts)):
        for end in range(start + 1, len(parts) + 1):
            if end - start > 1 or "." in parts[start].strip("."):
                yield "/".join(parts[start:end])

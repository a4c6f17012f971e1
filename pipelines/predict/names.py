"""Names of picture files: unique by the input's number, and readable."""

import posixpath
import re

from pipelines.predict.inputs import Input

_LONGEST = 60


def picture_name(number: int, item: Input, text: str) -> str:
    """Such as `000012_scan_frame003_text1`, without suffix.

    Args:
        number: Of the input.
        item: The input.
        text: Which of its texts the picture is of; empty: of none.
    """
    stem = posixpath.basename(item.member or item.file_name).partition(".")[0]
    # Letters, digits and signs that every file system and shell takes.
    parts = [f"{number:06d}", re.sub(r"[^A-Za-z0-9-]+", "_", stem).strip("_")[:_LONGEST]]
    if item.frame is not None:
        parts.append(f"frame{item.frame:03d}")
    return "_".join(part for part in (*parts, text) if part)

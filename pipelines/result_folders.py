"""Which folder a command may replace with its results: an earlier one of its own kind, and nobody else's files."""

import os
from pathlib import Path

from models.verified import SUMS, DamagedError, read_digests
from pipelines.config import PARAMS
from pipelines.errors import UserError, printable


def check_out(out: Path, marker: str, kind: str) -> None:
    """Refuse a folder that must not be replaced.

    Args:
        out: What `--out` names.
        marker: A file that each folder of such results holds.
        kind: What the results are, for the message.

    Raises:
        UserError: It lies in a study's `data`, whose folders are DVC's, or holds something else than such results.
    """
    # As it is named, too: a study's `data` may be a link to another disk.
    places = (out.absolute(), out.resolve())
    for folder in (folder for place in places for folder in (place, *place.parents)):
        if folder.name == "data" and (folder.parent / PARAMS).is_file():
            raise UserError(f"--out {out} lies in {folder}, whose folders the stages write: name a folder elsewhere")
    if not out.exists() or (out.is_dir() and not os.listdir(out)):
        return
    if not (out / marker).is_file() or not (out / SUMS).is_file():
        raise UserError(f"--out {out} holds something else than {kind}: name a new folder")
    present = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_symlink() or not path.is_dir()}
    try:
        foreign = present - {SUMS, *read_digests(out)}
    except DamagedError:
        raise UserError(f"--out {out}: its {SUMS}, which lists the results, is damaged: name a new folder") from None
    if foreign:
        raise UserError(f"--out {out} holds {printable(min(foreign))} beside {kind}: name a new folder")

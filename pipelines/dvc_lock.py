"""DVC's record of who reads and writes which output: a kill while DVC rewrites it leaves half a file.

Every later command of DVC then fails until somebody deletes it. `make run` and the flows do so before they call DVC.

Run alone   python -m pipelines.dvc_lock
"""

import json
import logging
from pathlib import Path

from pipelines.stage import command

logger = logging.getLogger(__name__)


def main() -> None:
    mend(Path())


def mend(project: Path) -> None:
    """Delete the record of a project where it is no JSON object; whoever it named is dead, or it would be whole."""
    folder = project / ".dvc" / "tmp"
    file = folder / "rwlock"
    if not file.is_file() or _is_whole(file):
        return
    # Here, for DVC's import takes a second. Under DVC's own guard nobody is within a write.
    from dvc.lock import make_lock

    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder)):
        if file.is_file() and not _is_whole(file):
            file.unlink()
            logger.warning("%s was left half written by a killed run: deleted", file)


def _is_whole(file: Path) -> bool:
    try:
        return isinstance(json.loads(file.read_bytes()), dict)
    except ValueError:
        return False


if __name__ == "__main__":
    command(main)

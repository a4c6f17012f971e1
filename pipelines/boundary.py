"""A command's last resort: what no other place handled becomes one line that says what to do.

Faults of the disk name the file or folder; those of a network or server may pass a second time. Everything else is a
defect of ours: its traceback goes to `data/logs/<command>.log`, or to standard error where that cannot be written.
"""

import errno
import os
import re
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from pipelines.config import PARAMS
from pipelines.errors import one_line, printable

LOGS = Path("data/logs")

_DO = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT), "no space left on its disk: free some space there, then run the command again"
    ),
    errno.EFBIG: "it would be larger than a file may be here: raise the limit (`ulimit -f`), then run again",
    errno.EROFS: "it lies on a disk that is read-only: make it writable, then run the command again",
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), "permission denied: give your user the right to it, then run the command again"
    ),
    **dict.fromkeys(
        (errno.EBUSY, errno.EXDEV),
        "it is a disk of its own, or in use, and cannot be replaced: mount that disk at `data` or `data/cache` instead",
    ),
    errno.EIO: "its disk cannot be read or written (input/output error): check the disk, then run the command again",
    **dict.fromkeys(
        (errno.EMFILE, errno.ENFILE), "too many open files: raise the limit (`ulimit -n`), then run the command again"
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
        "a file is where a folder should be, or the other way round: move it away, then run the command again",
    ),
}
_OF_FOLDER = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_NO_TEMPORARY = "no folder for temporary files can be written to: free some space in one, or name another in TMPDIR"
_MISSING = "not found: run `dvc repro`, which makes it, or correct its name in params.yaml"
# SQLite's and Rust's errors hold no number of the operating system, or hold it in their words alone.
_SQLITE = {
    "SQLITE_FULL": errno.ENOSPC,
    "SQLITE_IOERR": errno.EIO,
    "SQLITE_READONLY": errno.EACCES,
    "SQLITE_CANTOPEN": errno.EACCES,
    "SQLITE_PERM": errno.EACCES,
}
_IN_WORDS = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]", re.IGNORECASE)


def disk_line(error: BaseException) -> str | None:
    """One line on a fault of the disk: which file or folder, and what to do; None for any other error.

    Looked at are the error and those that it came from, for a file that cannot be closed raises in turn.
    """
    if isinstance(error, FileNotFoundError):
        if "No usable temporary directory" in str(error):  # tempfile's own words; it names no file
            return _NO_TEMPORARY
        return f"{_place([error])}: {_MISSING}"
    chain = list(_chain(error))
    for one in chain:
        number = _number(one)
        if number in _DO:
            return f"{_place([one, *chain], folder=number in _OF_FOLDER)}: {_DO[number]}"
    return None


def network_line(error: BaseException) -> str | None:
    """One line on a network or a server that failed while it was asked; None for any other error.

    An error that was only raised while one of a network was handled is a defect: the outermost must itself be one of
    the operating system's, as those of requests, urllib and aiohttp are, or MLflow's about a request.
    """
    if not isinstance(error, OSError) and type(error).__module__.partition(".")[0] != "mlflow":
        return None
    for one in _chain(error):
        # A broken pipe is that of a program that reads our output, or of a process of our own.
        if isinstance(one, ConnectionError | TimeoutError | socket.gaierror) and not isinstance(one, BrokenPipeError):
            return f"a server did not answer, or the network failed ({one_line(one)}): run the command again"
    return None


def defect_line(error: BaseException, command: str) -> str:
    """One line on a defect; its traceback is written to the command's log or, failing that, to standard error."""
    words = "".join(traceback.format_exception(error))
    file = LOGS / f"{command}.log"
    said = f"{type(error).__name__}, a defect of medregion or a plug-in"
    try:
        if PARAMS.is_file():  # elsewhere is no project, and no folder is made
            LOGS.mkdir(parents=True, exist_ok=True)
            file.write_text(words, encoding="utf-8", errors="backslashreplace")
            return f"{said}: the traceback is in {file}; please report it"
    except OSError:
        pass
    print(printable(words), end="", file=sys.stderr)
    return f"{said}: please report it with the traceback above"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        # `orig` is what SQLAlchemy, and so MLflow, wraps.
        error = getattr(error, "orig", None) or error.__cause__ or error.__context__


def _number(error: BaseException) -> int | None:
    """The operating system's number of an error; None where it has none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    name = getattr(error, "sqlite_errorname", None)
    if isinstance(name, str):
        return next((number for start, number in _SQLITE.items() if name.startswith(start)), None)
    if "inline_container.cc" in str(error):  # torch's writer says no more than where in its own code it failed
        return errno.ENOSPC
    found = _IN_WORDS.search(str(error))
    return int(found.group(1) or found.group(2)) if found else None


def _place(errors: list[BaseException], *, folder: bool = False) -> str:
    """The first file that an error names, relative to the current folder where it lies there; else that folder.

    Args:
        errors: The most telling one first.
        folder: Name the folder of a file that is not there: it could not be made.
    """
    here = Path.cwd()
    # A copy names the file that it reads first, and the one that it cannot write second.
    names = (getattr(error, "filename2", None) or getattr(error, "filename", None) for error in errors)
    name = next((os.fsdecode(name) for name in names if isinstance(name, str | bytes | os.PathLike)), None)
    if name is None:
        return printable(f"a file of {here}")
    path = here / name
    while folder and not os.path.lexists(path) and path != path.parent:
        path = path.parent
    return printable(str(path.relative_to(here) if path.is_relative_to(here) and path != here else path))

"""Atomic writes and digests: a file under its final name is always a complete one."""

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from models import verified
from pipelines.errors import UserError

# Below a study's folder `data`, or a disk mounted there: what is being written. It is no output of a stage.
TEMPORARY = "tmp"
_OWN_DIGEST = "sha256"
# How an entry there names its owner.
_OWNER = re.compile(r"(?P<host>[^~]+)~(?P<pid>\d+)~(?P<start>\d+)~")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` on success, delete it on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=_temporary_folder(path), prefix=_prefix())
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    except Exception as error:
        _name_target(error, temporary, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; seal it (`models.verified`) and put it in the place of `path`; on failure delete it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=_temporary_folder(path), prefix=_prefix()))
    new, old = scratch / "new", scratch / "old"
    new.mkdir()
    try:
        yield new
        if not (new / verified.SUMS).is_file():  # whoever knows digests already seals it
            verified.seal(new)
        if path.exists():
            path.rename(old)
        new.rename(path)
    except Exception as error:
        _name_target(error, new, path)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def scratch_folder(path: Path) -> Path:
    """Where files without a name may lie while `path` is made: on its disk, and below no output of a stage."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return _temporary_folder(path)


def sweep(data: Path) -> None:
    """Delete what processes of this machine that no longer run left in the folders `tmp` of a study's `data`."""
    _delete_left(entry for depth in ("", "*/", "*/*/") for entry in data.glob(f"{depth}{TEMPORARY}/*~*~*~*"))


def sweep_beside(path: Path) -> None:
    """Delete what killed processes of this machine left beside a file or folder that lies outside a study's `data`."""
    _delete_left(path.absolute().parent.glob("*~*~*~*"))


def _delete_left(entries: Iterable[Path]) -> None:
    for entry in entries:
        owner = _OWNER.match(entry.name)
        if owner and owner["host"] == platform.node() and not _runs(int(owner["pid"]), int(owner["start"])):
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def _temporary_folder(path: Path) -> Path:
    """`data/tmp` of the study whose `data` the path lies in, so that no output ever holds a part; else its own folder.

    Where a folder between the two is a disk of its own, its `tmp`, for a rename cannot leave a file system.
    """
    parents = list(path.absolute().parents)
    for index, folder in enumerate(parents):
        if folder.name == "data" and (folder.parent / "params.yaml").is_file():
            device = parents[0].stat().st_dev
            root = next(one for one in reversed(parents[: index + 1]) if one.stat().st_dev == device)
            (root / TEMPORARY).mkdir(exist_ok=True)
            return root / TEMPORARY
    return path.parent


def own_name(name: str) -> str:
    """A file's name for `sweep_beside`, which deletes the file once this process no longer runs."""
    return _prefix() + name


def _prefix() -> str:
    """Names the owner, for `sweep`: the machine, the process, and when it started, for numbers are used again."""
    return f"{platform.node()}~{os.getpid()}~{_start(psutil.Process())}~"


def _start(process: psutil.Process) -> int:
    return int(process.create_time())


def _runs(pid: int, start: int) -> bool:
    try:
        return _start(psutil.Process(pid)) == start
    except psutil.NoSuchProcess:
        return False


def _name_target(error: Exception, temporary: Path, path: Path) -> None:
    """Let an error name the file that was to be instead of the temporary one, or of none, as Arrow's and Rust's do."""
    name = getattr(error, "filename", None)
    if isinstance(name, str) and not Path(name).is_relative_to(temporary):
        return
    within = path / Path(name).relative_to(temporary) if isinstance(name, str) else path
    with contextlib.suppress(AttributeError):  # some errors of libraries hold no attributes
        error.filename = str(within)  # type: ignore[attr-defined]


def write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON with sorted keys; NaN is refused, for it is not JSON."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a stage's summary with a digest of its own, `sha256`: summaries of many stages lie in one folder."""
    write_json(path, {**summary, _OWN_DIGEST: digest_of(summary)})


def read_summary(path: Path) -> dict[str, Any]:
    """A summary as it was written, without its digest.

    Raises:
        UserError: It is missing, or not the one that was written.
    """
    summary = read_json(path)
    with contextlib.suppress(ValueError):  # NaN has no canonical form
        if isinstance(summary, dict) and summary.pop(_OWN_DIGEST, None) == digest_of(summary):
            return summary
    raise UserError(
        f"{path} is damaged: delete it and run `dvc repro`; if it comes back, run `python -m pipelines.verify`"
    )


def read_json(path: Path) -> Any:
    """The value in a JSON file that nobody sealed.

    Raises:
        UserError: It is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} not found: run `dvc repro`") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged: delete it and run `dvc repro`") from None


def read_output(path: Path) -> Any:
    """The value in a JSON file of a stage's output folder.

    Raises:
        UserError: It is missing.
        DamagedError: It is not the file that was written.
    """
    try:
        return json.loads(verified.read_bytes(path))
    except FileNotFoundError:
        raise UserError(f"{path} not found: run `dvc repro`") from None


def sha256_files(root: Path, paths: list[Path]) -> str:
    """One digest over the names (relative to `root`) and bytes of several files, whatever their order."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.relative_to(root).as_posix()}\0{verified.sha256_file(path)}\n".encode())
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(canonical(value).encode("utf-8")).hexdigest()


def canonical(value: Any, default: Callable[[Any], Any] | None = None) -> str:
    """A JSON value in canonical form: sorted keys, no spaces.

    Args:
        value: NaN is refused, for it is not JSON.
        default: Gives the JSON value of an object that has none of its own.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=default
    )

"""Text files of prompts that options of tasks name: which they are, where they lie, and their digests.

A name is relative to the folder of the params.yaml that has it, and that need not be the working folder:
`flows.evaluate --study` scores by the tasks of another study, and a flow may be told another project.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import Any

from models.verified import sha256_file
from pipelines.errors import UserError

FOLDER = PurePosixPath("prompts")

_STUDY: ContextVar[Path] = ContextVar("study", default=Path())


@contextmanager
def named_in(study: Path) -> Iterator[None]:
    """Within it options that are parsed are those of a study, and find the files that they name in its folder."""
    token = _STUDY.set(study)
    try:
        yield
    finally:
        _STUDY.reset(token)


def place_of(name: PurePosixPath) -> Path:
    """Where the file or folder with this name lies."""
    return _STUDY.get() / name


def prompt_files(options: Any) -> Iterator[str]:
    """The names of files below `prompts/` in some options, at any depth, so that no reader of one need say so."""
    if isinstance(options, str):
        if len(PurePosixPath(options).parts) > 1 and PurePosixPath(options).is_relative_to(FOLDER):
            yield options
    elif isinstance(options, dict | list):
        for value in options.values() if isinstance(options, dict) else options:
            yield from prompt_files(value)


def prompt_digests(names: Iterable[str], study: Path = Path()) -> dict[str, str]:
    """SHA-256 of each of these files in the folder of a study, by its name.

    Raises:
        UserError: One of them is not there.
    """
    found = {}
    for name in names:
        if not (study / name).is_file():
            raise UserError(
                f"{study / name} not found: a task under evaluate.tasks of params.yaml has it for its prompts"
            )
        found[name] = sha256_file(study / name)
    return found

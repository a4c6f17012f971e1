"""Whether the files and folders that dvc.yaml takes from params.yaml are there, told in one line; and whether weights
that DVC does not watch are still those that the stages ran with.

DVC itself would end with an `[Errno 2]` that names no key of params.yaml. `make run`, `make status` and the flows look
before they call DVC. The stage `code`, through which every `dvc repro` goes, looks too where one of these keys changed.
A plain `dvc repro` still shows DVC's own line where the same params named something that was moved away or forbidden
since, where `ingest.keys` is wrong, on which that stage itself depends, and for files inside of folders.

Run alone   python -m pipelines.code.paths
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.urls import is_url
from pipelines.code.fingerprint import FOLDER, WEIGHTS, from_text
from pipelines.config import PARAMS, load_params
from pipelines.errors import UserError
from pipelines.sources import PHANTOM, reads
from pipelines.stage import command
from pipelines.storage import RawCache, Remote, check_root, check_there, root_of
from pipelines.weights import FOLDER as WATCHED
from pipelines.weights import stage_folders, weights_sha256

# Keys of params.yaml besides the sources' roots -> what is needed there.
PATHS = {
    "audit.answers": "the file of the audit's answers, which may be empty, such as data/audit.jsonl",
    "ingest.keys": "the folder of the key for patient ids, such as keys",
    "captions.prompts": "a folder of prompts, such as prompts/findings",
    "regions.review": "the file of review labels, which may be empty, such as data/review.jsonl",
}


def main() -> None:
    check_paths(Path())
    check_weights(Path())


def check_weights(project: Path) -> None:
    """Compare weights that DVC does not watch, outside of data/weights, with those that the stages last ran with.

    Else `dvc repro` would call a stage up to date whose weights are others now: no stage would start, to refuse them.

    Args:
        project: Folder of params.yaml.

    Raises:
        UserError: Some have changed.
    """
    params = project / PARAMS
    if not params.is_file():
        return
    watched = (project / WATCHED).resolve()
    for stage, folders in stage_folders(load_params(params), project).items():
        file = project / FOLDER / f"{stage}.txt"
        recorded = from_text(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for folder in folders:
            name, place = f"{WEIGHTS}{folder}", project / folder
            if name not in recorded or place.resolve().is_relative_to(watched):
                continue
            if recorded[name] != weights_sha256(place):
                raise UserError(
                    f"{stage}: {name} changed, and DVC does not watch it: run `dvc repro --force --single-item code`, "
                    "then this command again"
                )


def check_paths(project: Path) -> None:
    """Look for all of them.

    Args:
        project: Folder of params.yaml; one without it has nothing to look for.

    Raises:
        UserError: One is missing or cannot be opened; the message names its key in params.yaml.
        TemporaryError: A source lies on storage that does not answer.
    """
    params = project / PARAMS
    if not params.is_file():
        return
    for key, value, needed in _named(load_params(params)):
        if not isinstance(value, str) or not value:
            raise UserError(f"{params}: {key} holds {value!r}; it should name {needed}")
        if is_url(value):
            _check_storage(value, f"{params}: {key.removesuffix('.root')}")
        elif fault := _fault(project / value):
            raise UserError(f"{params}: {key}: {value} {fault}; it should name {needed}")


def _check_storage(url: str, where: str) -> None:
    """Look at a source on storage, of which DVC would say in its own words that it does not answer."""
    try:
        check_root(url)
        if isinstance(root := root_of(url, RawCache()), Remote):
            check_there(root)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    except UserError as error:
        raise type(error)(f"{where}: {error}") from None  # TemporaryError stays one


def _named(params: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Key, value and what it should name; a section that is not there is for DVC and the stages to miss."""
    for key, needed in PATHS.items():
        section, _, name = key.partition(".")
        if isinstance(values := params.get(section), dict) and name in values:
            yield key, values[name], needed
    ingest = params.get("ingest")
    sources = ingest.get("sources") if isinstance(ingest, dict) else None
    for name, source in sources.items() if isinstance(sources, dict) else ():
        root = source.get("root") if isinstance(source, dict) else None
        # The phantom is drawn by a stage of its own.
        if not isinstance(root, str) or not reads([root], PHANTOM):
            yield f"ingest.sources.{name}.root", root, "the folder or archive with the source's files"


def _fault(path: Path) -> str | None:
    """Why a path cannot be read, in words; None where it can."""
    if not path.exists():
        if path.is_symlink():
            return f"is a link to {os.readlink(path)}, which is not there"
        if path.with_name(f"{path.name}.dvc").is_file():
            return "is not here, only its pointer for DVC (run `dvc checkout`, or `dvc pull` from a remote)"
        return "is not there"
    needed = os.R_OK | os.X_OK if path.is_dir() else os.R_OK
    return None if os.access(path, needed) else "cannot be opened by you (permission denied)"


if __name__ == "__main__":
    command(main)

"""The workspace of a paper's study: a git worktree at the present commit, with the study's params.yaml.

What a run commits there, params.yaml and the dvc.lock of the run before, is its own and is replaced by the next run.
What a person changed or committed there is never discarded: the run is refused.
"""

import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from pipelines.config import PARAMS
from pipelines.dvc_process import python_first
from pipelines.errors import UserError
from pipelines.studies.table import SHOWN

logger = logging.getLogger(__name__)

# What a run takes from the commit, and what it reads as it lies here.
CODE = ("dvc.yaml", "flows", "models", "pipelines", "prompts")
SETTINGS = ("params.yaml", "params", "studies")
# DVC writes it in every run; people commit theirs.
_LOCK = "dvc.lock"
# Who commits in a study's workspace, here and in scripts/workspace: what somebody else committed there is a person's.
_RUN = "study@medregion.invalid"
_AS_RUN = {f"GIT_{role}_{key}": _RUN for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}


def make_workspace(workspace: Path, raw: Path | None) -> None:
    """Make the workspace, if it is not there.

    Args:
        workspace: Folder below `workspaces`.
        raw: Folder whose entries a new workspace finds under its data/raw; None: none.

    Raises:
        UserError: Git or DVC refused, in their words; or what lies there is no workspace, or is there already and gets
            no data sets by `raw`.
    """
    # One of two runs that begin at the same time makes it.
    with FileLock(Path(".dvc/tmp", f"{workspace.name}.lock")):
        if not workspace.exists():
            # The script merges an overlay over params.yaml, here the file itself; `update` writes the study's.
            words = ["scripts/workspace", workspace.name, PARAMS.as_posix(), *([str(raw)] if raw else [])]
            _run(words, Path(), {})
        elif _top(workspace) != workspace.resolve():
            # In such a folder git speaks of this checkout.
            raise UserError(
                f"{workspace} is there and is no git worktree: move it away; --raw FOLDER links the data sets of a "
                "folder under data/raw of a new workspace"
            )
        elif raw is not None:
            raise UserError(f"{workspace} is there already: link the data sets under its data/raw, without --raw")


def update(workspace: Path, params: str) -> str:
    """Bring a workspace to the present commit with a study's params; its dvc.lock stays as its last run left it.

    Args:
        workspace: As `make_workspace` leaves it.
        params: Text of its params.yaml.

    Returns:
        The present commit of this checkout.

    Raises:
        UserError: It holds changes or commits that a person made there; or git refused, in its own words.
    """
    head, branch = _git(Path(), "rev-parse", "HEAD"), f"workspace/{workspace.name}"
    if (found := _of_a_person(workspace, branch, head)) is not None:
        raise UserError(
            f"{workspace} holds changes of its own, which a run would discard ({found}): commit them to a branch "
            f"(git -C {workspace} switch -c NAME), then git -C {workspace} switch {branch} and "
            f"git -C {workspace} reset --hard {head[:SHOWN]}"
        )
    lock = workspace / _LOCK
    files = {PARAMS.as_posix(): params.encode(), **({_LOCK: lock.read_bytes()} if lock.exists() else {})}
    commit = _commit_of(workspace, head, files)
    # First, so that what git has written when it is cut off is known to be of a run.
    _git(workspace, "update-ref", _next(workspace), commit)
    # Of a run that was killed while git wrote: no other one is at work here.
    (workspace / _git(workspace, "rev-parse", "--git-path", "index.lock")).unlink(missing_ok=True)
    _git(workspace, "reset", "--quiet", "--hard", commit)
    return head


def left_out_code(head: str) -> list[str]:
    """Files of code of this checkout that differ from its commit, so that a run goes without them; it is told."""
    found = changed_here(CODE)
    if found:
        logger.warning("the study runs the code of commit %s: not in it are %s", head[:SHOWN], ", ".join(found))
    return found


def changed_here(paths: Sequence[str]) -> list[str]:
    """Files below some paths of this checkout that differ from its commit."""
    words = ["status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *paths]
    return [line[3:] for line in _git(Path(), *words).split("\0") if line]


def _of_a_person(workspace: Path, branch: str, head: str) -> str | None:
    """What a run would discard in a workspace, for a person; None: nothing."""
    if (found := _git(workspace, "rev-parse", "--abbrev-ref", "HEAD")) != branch:
        return f"it is on the branch {found}"
    by, _, subject = _git(workspace, "log", "-1", "--no-show-signature", "--format=%ce%n%s").partition("\n")
    if by != _RUN and _git(workspace, "log", "-1", "--format=%H", "HEAD", f"^{head}"):
        return subject or "a commit without a title"
    changed = _differing(workspace, "HEAD")
    # A run that was cut off has brought some files to its own commit and left the others as they were.
    if changed and (to := _git(workspace, "for-each-ref", "--format=%(objectname)", _next(workspace))):
        changed &= _differing(workspace, to)
    return min(changed, default=None)


def _next(workspace: Path) -> str:
    return f"refs/medregion/{workspace.name}"


def _differing(workspace: Path, commit: str) -> set[str]:
    """Files of a workspace that are not as in a commit, and files that it lacks, where a run reads what lies there."""
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        _git(workspace, "read-tree", commit, more=index)
        _git(workspace, "update-index", "-q", "--refresh", more=index, may_fail=True)
        changed = _git(workspace, "diff-files", "--name-only", "-z", more=index)
        new = _git(workspace, "ls-files", "--others", "--exclude-standard", "-z", "--", *CODE, more=index)
    return {name for name in (changed + new).split("\0") if name and name != _LOCK}


def _commit_of(workspace: Path, head: str, files: Mapping[str, bytes]) -> str:
    """A commit behind `head` with some other files, on no branch yet; no hook and no signature can be in its way."""
    with TemporaryDirectory() as folder:
        index = {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        _git(workspace, "read-tree", head, more=index)
        for name, content in files.items():
            blob = _git(workspace, "hash-object", "-w", "--stdin", content=content)
            _git(workspace, "update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", more=index)
        tree = _git(workspace, "write-tree", more=index)
    return _git(workspace, "commit-tree", tree, "-p", head, "-m", f"Study {workspace.name}", more=_AS_RUN)


def _top(folder: Path) -> Path:
    """The root of the working tree that a folder is in."""
    return Path(_git(folder, "rev-parse", "--show-toplevel")).resolve()


def _git(
    folder: Path, *words: str, more: Mapping[str, str] | None = None, content: bytes = b"", may_fail: bool = False
) -> str:
    return _run(["git", *words], folder, more or {}, content=content, may_fail=may_fail).strip("\n")


def _run(
    words: list[str], folder: Path, more: Mapping[str, str], *, content: bytes = b"", may_fail: bool = False
) -> str:
    environment = {**python_first(), **more}
    done = subprocess.run(words, cwd=folder, env=environment, input=content, capture_output=True, check=False)
    if done.returncode and not may_fail:
        said = os.fsdecode(done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        fault = next((line for line in said if line.lower().startswith(("error", "fatal"))), said[-1])
        raise UserError(f"{words[0]} in {folder}: {fault}")
    return os.fsdecode(done.stdout)

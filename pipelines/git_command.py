"""What git says of a checkout."""

import subprocess
from pathlib import Path


def git(folder: Path, *words: str) -> str | None:
    """What `git` prints in a folder, without space at its end; None where it fails, or is not installed."""
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.rstrip() if done.returncode == 0 else None


def changes(folder: Path) -> str | None:
    """Tracked files that differ from the commit, a line each; None as of `git`.

    A dvc.lock that somebody commits, as docs/operations.md asks, does not count: DVC writes it in every run.
    """
    return git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":(exclude)dvc.lock")

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

"""The comment at the head of each results file: command, commit, host."""

import os
import platform
import subprocess
from pathlib import Path


def header(command: str, commit: str) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    host = f"{os.cpu_count()} cores, {platform.machine()}, {memory:.0f} GiB, no GPU used"
    return f"# command: {command}\n# commit: {commit}\n# host: {host}\n"


def last_commit(folder: Path, *paths: str) -> str:
    """The last commit of a checkout, or the last that touched some paths of it."""
    newest = ["git", "log", "-1", "--format=%H", "--", *paths]
    return subprocess.run(newest, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

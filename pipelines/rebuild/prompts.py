"""What changed in the prompts: digests in the caption tables, and the files against git's last commit."""

import difflib
import subprocess
from pathlib import Path
from typing import Any

from pipelines.records import CaptionRow


def digests(before: list[CaptionRow], after: list[CaptionRow]) -> list[dict[str, Any]]:
    """One row for each kind of item: captioners and digests of the prompt files `before` and `after`, each in order."""
    return [
        {"kind": kind, "before": _made_by(before, kind), "after": _made_by(after, kind)} for kind in ("image", "region")
    ]


def _made_by(rows: list[CaptionRow], kind: str) -> list[tuple[str, str]]:
    return sorted({(row.captioner, row.prompt_sha256) for row in rows if row.kind == kind})


def changes_since_commit(project: Path, folder: Path) -> dict[str, list[str]] | None:
    """Lines of a unified diff from git's last commit, by file, of the prompt files that differ from it.

    Args:
        project: Folder with params.yaml, in a git repository or not.
        folder: The prompt files' folder, relative to the project or absolute.

    Returns:
        None where git has no commit to compare with, or the folder lies outside its repository.
    """
    root = (project / folder).resolve()
    try:
        listed = _git(root, "ls-tree", "-r", "-z", "--name-only", "HEAD", ".")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    committed = set(filter(None, listed.split("\0")))
    present = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    diffs = {}
    for name in sorted(committed | present):
        old = _git(root, "show", f"HEAD:./{name}") if name in committed else ""
        new = (root / name).read_text(encoding="utf-8", errors="replace") if name in present else ""
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "last commit", "now", lineterm="")
        if changed := list(lines):
            diffs[name] = changed
    return diffs


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace", check=True
    )
    return done.stdout

"""Fingerprints for a study that runs a stage by its command, which refuses to start without one."""

from pathlib import Path

from models.verified import record
from pipelines.code.closure import closure
from pipelines.code.fingerprint import FOLDER, as_text


def write_fingerprint(study: Path, stage: str, package: str) -> None:
    """What the stage `code` writes, without plug-ins: `package` is that of the stage's command."""
    file = study / FOLDER / f"{stage}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(as_text(closure(f"{package}.__main__")), encoding="utf-8")
    record(file)

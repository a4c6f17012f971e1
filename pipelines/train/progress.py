"""The progress file of a training run: a JSON line for each point of its curves, while it runs.

It lies outside DVC, in data/cache/progress/<run>.jsonl of the main workspace, for an experiment's folder is deleted at
its end. `pipelines.tracking.follow`, a process of its own, shows it in MLflow; nothing in training waits for that.

Each line has its `time` in milliseconds since 1970:
    {"start": <run>, "method", "settings", "sources", "process"}    the first line, and one where the run continues
    {"curve": "steps" | "validation", ...}                          a point as in curve.json
    {"finished": <digest of the checkpoint>}                        or {"failed": <reason>}
"""

import json
import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

logger = logging.getLogger(__name__)

FOLDER = Path("data/cache/progress")


@dataclass(frozen=True)
class ProgressFile:
    """Appends to the progress file of a run. What cannot be written is warned of, and training goes on.

    Attributes:
        path: The file; absolute, for workers have another working directory.
    """

    path: Path

    def start(self, method: str, settings: dict[str, Any], sources: list[str]) -> None:
        """The run begins or continues in this process.

        Args:
            method: What is trained.
            settings: With what, as JSON: `model`, `training`, `engine`.
            sources: Those whose images it learns from.
        """
        process = psutil.Process()
        self._append(
            {
                "start": self.path.stem,
                "method": method,
                "settings": settings,
                "sources": sources,
                "process": [process.pid, process.create_time()],
            }
        )

    def point(self, curve: str, point: dict[str, Any]) -> None:
        """A point of the curve `steps` or `validation`."""
        self._append({"curve": curve, **point})

    def finished(self, checkpoint_sha256: str) -> None:
        """The checkpoint is complete."""
        self._append({"finished": checkpoint_sha256})

    def failed(self, reason: str) -> None:
        """The run ended without a checkpoint."""
        self._append({"failed": reason})

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps({"time": round(time.time() * 1000), **line})
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as stream:
                # A killed run may have left half a line.
                half = stream.tell() and (stream.seek(-1, os.SEEK_END), stream.read(1))[1] != b"\n"
                stream.write(b"\n" * bool(half) + text.encode() + b"\n")
        except OSError as error:
            _warn(self.path, str(error))


@cache
def _warn(path: Path, fault: str) -> None:
    """Once for each fault."""
    logger.warning("%s cannot be written (%s): MLflow gets the curve when training has ended", path, fault)


def follow(progress: ProgressFile) -> None:
    """Start the process that shows a progress file in MLflow: of its own session, nobody's child, at lowest priority.

    It is never waited for, and never imported, so that a change of how runs are shown trains nothing again.
    """
    command = ["setsid", "--fork", "nice", "-n", "19", sys.executable, "-m", "pipelines.tracking.follow"]
    # MLflow and numpy would start threads for all cores, which the training needs.
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    nowhere: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    try:
        subprocess.run([*command, str(progress.path)], env=environment, check=True, **nowhere)
    except (OSError, subprocess.CalledProcessError) as error:
        logger.warning("training is not shown in MLflow while it runs (%s)", error)

"""What a progress file says (`pipelines.train.progress` writes it)."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil


@dataclass(kw_only=True)
class Progress:
    """A training run so far. Times are in milliseconds since 1970.

    Attributes:
        run: Its name.
        method: What is trained.
        settings: With what: `model`, `training`, `engine`.
        sources: Those whose images it learns from; None: the file does not say.
        process: Number of the process that trains, and when it started, in seconds since 1970.
        start: When the run began.
        parts: Start and last line of each part: a run that was killed and continued has several.
        points: The points of a curve, `steps` or `validation`, by step, each with its `time`. Where a continued run
            repeats a step, the first.
        finished: Digest of the checkpoint.
        failed: Why there will be none.
    """

    run: str
    method: str
    settings: dict[str, Any]
    sources: list[str] | None
    process: tuple[int, float]
    start: int
    parts: list[list[int]]
    points: dict[str, dict[int, dict[str, Any]]] = field(default_factory=lambda: {"steps": {}, "validation": {}})
    finished: str | None = None
    failed: str | None = None

    @property
    def end(self) -> int:
        """Time of the last line."""
        return self.parts[-1][1]

    @property
    def seconds(self) -> float:
        """How long it trained; the time between two parts does not count."""
        return sum(end - start for start, end in self.parts) / 1000

    @property
    def runs(self) -> bool:
        """Whether the process that trains is still there and has not said that it ended."""
        if self.finished or self.failed:
            return False
        try:
            process = psutil.Process(self.process[0])
            same = abs(process.create_time() - self.process[1]) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def read_progress(path: Path) -> Progress | None:
    """The run in a progress file; None where there is none, or not yet a line. Lines that were cut off are left out."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    progress: Progress | None = None
    for text in lines:
        try:
            line = json.loads(text)
            progress = _add(progress, line, line["time"])
        except (ValueError, KeyError, TypeError):
            continue
    return progress


def _add(progress: Progress | None, line: dict[str, Any], time: int) -> Progress | None:
    if "start" in line:
        process = (line["process"][0], line["process"][1])
        if progress is None:
            return Progress(
                run=line["start"],
                method=line["method"],
                settings=line["settings"],
                sources=line.get("sources"),
                process=process,
                start=time,
                parts=[[time, time]],
            )
        progress.process, progress.finished, progress.failed = process, None, None
        progress.parts.append([time, time])
    elif progress is not None:
        if "curve" in line:
            progress.points[line["curve"]].setdefault(line["step"], line)
        progress.finished, progress.failed = line.get("finished"), line.get("failed")
        progress.parts[-1][1] = time
    return progress

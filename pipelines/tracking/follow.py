"""Show a training run in MLflow while it runs, from its progress file.

The stage `train` starts it as a process of its own and never waits for it. MLflow's import and its first answers take
seconds of a core, which a short training would feel: the process asks for none of it before the training has lasted
`tracking.live_after` seconds, and of one that ends earlier `pipelines.tracking.sync` makes the run. Where MLflow is
down, locked or damaged it tries again, ever more rarely, and gives up some time after the training ended;
`data/logs/follow.log` says so, and `sync` makes the run from the same file later. The file is deleted once the run is
complete.

Reads: a progress file of data/cache/progress/, params.yaml, and the inputs of the training for their digests.
Writes: the MLflow store that params.yaml (tracking) names.
Run alone: python -m pipelines.tracking.follow FILE
"""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from pipelines.config import load
from pipelines.errors import UserError
from pipelines.stage import command
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.progress import read_progress
from pipelines.workspace import main_workspace

LOG = Path("data/logs/follow.log")
# Seconds between two looks at the file, at most after faults, and how many faults after the end are enough.
_EVERY, _LONGEST, _FAULTS = 10.0, 60.0, 3


def follow(file: Path, config: TrackingConfig, project: Path, every: float = _EVERY) -> None:
    """Bring the run of a progress file up to date until the training has ended.

    Args:
        file: The progress file.
        config: Where the store is.
        project: Folder in which it trains.
        every: Seconds between two looks at the file.
    """
    # Here, for their import is what short trainings are spared.
    from pipelines.tracking.runs import log_progress
    from pipelines.tracking.store import experiment_id, locked_store

    faults, pause, logged = 0, every, -1
    while (progress := read_progress(file)) is not None:
        ended = not progress.runs
        if ended:  # lines that were written before it ended, and after they were read
            progress = read_progress(file) or progress
        try:
            if ended or progress.end != logged:
                here = project if (project / "params.yaml").is_file() else None
                with locked_store(config, project, patience=5 * every) as client:
                    log_progress(client, experiment_id(client, config, project), progress, here)
                logged = progress.end
            faults, pause = 0, every
        except Exception as error:  # noqa: BLE001 - whatever MLflow raises; each fault is a line of the log
            faults, pause = faults + 1, min(2 * pause, _LONGEST)
            _note(project, f"{progress.run}: {type(error).__name__}: {error}")
            if ended and faults >= _FAULTS:
                _note(project, f"{progress.run}: given up: `python -m pipelines.tracking` makes its run")
                return
        else:
            if ended:
                if progress.finished or progress.failed:
                    file.unlink(missing_ok=True)
                return
        time.sleep(pause)


def lasts(file: Path, seconds: float, every: float = 0.5) -> bool:
    """Wait until a training has lasted so long; False where it ended, one way or another, before."""
    end = time.monotonic() + seconds
    while (progress := read_progress(file)) is not None and progress.runs:
        if time.monotonic() >= end:
            return True
        time.sleep(min(every, seconds))
    return False


def _note(project: Path, line: str) -> None:
    try:
        log = main_workspace(project) / LOG
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {' '.join(line.split())[:500]}\n")
    except OSError:
        pass  # there is no other place to say it


def main(file: str) -> None:
    progress, project = Path(file).resolve(), Path.cwd()
    # Calls to a server that went down end within seconds. MLflow reads these at each call.
    os.environ |= {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
    try:
        config = load(TrackingConfig, "tracking", project / "params.yaml")
    except UserError as error:
        _note(project, f"{progress.stem}: {error}")
        raise
    # An experiment's folder is deleted at its end.
    os.chdir(main_workspace(project))
    if lasts(progress, config.live_after):
        follow(progress, config, project)


if __name__ == "__main__":
    command(main)

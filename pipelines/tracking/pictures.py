"""Pictures of a study, of all its methods side by side, with the run of each of these methods."""

from collections.abc import Sequence
from pathlib import Path

from models import checkpoint as checkpoints
from pipelines.files import sha256_files
from pipelines.tracking import runs
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.names import PICTURES
from pipelines.tracking.store import experiment_id, locked_store

# Folder among a run's artifacts.
ARTIFACTS = "study"


def log_pictures(config: TrackingConfig, project: Path, folder: Path, methods: Sequence[str]) -> int:
    """Log the files of a folder to the run of each method's present checkpoint, unless they are there.

    Args:
        config: Where the store is.
        project: The study's workspace, of whose checkpoints there are runs.
        folder: The pictures; it may be absent.
        methods: Trained there.

    Returns:
        How many runs got pictures.

    Raises:
        UserError: The store is damaged, locked or down.
    """
    files = sorted(path for path in folder.glob("*") if path.is_file())
    if not files:
        return 0
    digest = sha256_files(folder, files)
    logged = 0
    with locked_store(config, project) as client:
        experiment = experiment_id(client, config, project)
        for method in methods:
            run = runs.find_run(client, experiment, checkpoints.digest(project / "data/checkpoints" / method))
            if run is None or run.data.tags.get(PICTURES) == digest:
                continue
            client.log_artifacts(run.info.run_id, str(folder), ARTIFACTS)
            # Last: what was cut off is logged again.
            runs.log_tags(client, run.info.run_id, {PICTURES: digest})
            logged += 1
    return logged

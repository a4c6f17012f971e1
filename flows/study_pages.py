"""What `flows.study` writes beside a table: its pages and pictures, the list of studies, and runs in MLflow."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pipelines.config import PARAMS, load
from pipelines.errors import UserError
from pipelines.evaluate.scoring import METRICS
from pipelines.evaluate.stage import EVALUATIONS
from pipelines.report.inputs import Paths
from pipelines.report.plots import plot_texts
from pipelines.studies.answers import answered
from pipelines.studies.definition import DataSet
from pipelines.studies.made import MadeTable
from pipelines.studies.page import Shelf, figures_of, not_known_of, study_files, write_index
from pipelines.studies.pictures import FOLDER, pictures, retrieval_examples, retrieval_rule
from pipelines.studies.table import write_table
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.pictures import log_pictures
from pipelines.tracking.sync import sync

logger = logging.getLogger(__name__)


def write_with_pages(made: MadeTable, data: dict[str, DataSet], workspace: Path, entries: Sequence[str]) -> list[str]:
    """Write the table with its page at once, and again with pictures; then the list of all studies.

    Args:
        made: The table.
        data: All data sets.
        workspace: Where the study ran.
        entries: Those of `train.methods` that are up to date there.

    Returns:
        Those of them that were evaluated.
    """
    _write(made, data, workspace, Shelf(pending=True))
    write_index(made.folder.parent)
    scored = [entry for entry in entries if (workspace / EVALUATIONS / entry / METRICS).is_file()]
    _write(made, data, workspace, _shelf(made, workspace, scored))
    return scored


def _write(made: MadeTable, data: dict[str, DataSet], workspace: Path, shelf: Shelf) -> None:
    files = study_files(made, data, workspace, shelf)
    write_table(made.folder, made.study, made.name, made.scale, made.code, made.found, files)


def _shelf(made: MadeTable, workspace: Path, scored: Sequence[str]) -> Shelf:
    # Of rows of one entry the first gives the name.
    names = {entry: next(row.name for row in made.study.rows if row.entry == entry) for entry in scored}
    found = answered(workspace, scored)
    paths = Paths(data=workspace / "data", params=workspace / PARAMS)
    return Shelf(
        pictures=pictures(names, workspace, found),
        examples=retrieval_examples(names, found),
        rule=retrieval_rule(found),
        figures=figures_of(workspace, scored),
        not_known=not_known_of(workspace, scored),
        plots=plot_texts(paths, scored) if scored else {},
    )


def track(workspace: Path, folder: Path, entries: Sequence[str]) -> None:
    """Bring the workspace's MLflow runs up to date, and keep the study's pictures with those of its methods.

    A store that cannot be written is a warning: the table is there.
    """
    if not entries:
        return
    try:
        config = load(TrackingConfig, "tracking", workspace / PARAMS)
        counts = sync(config, workspace)
        counts["pictures_logged"] = log_pictures(config, workspace, folder / FOLDER, entries)
    except UserError as error:
        logger.warning("MLflow is not up to date with the study: %s", error)
        return
    logger.info("tracking: %s", ", ".join(f"{name} {count}" for name, count in counts.items()))

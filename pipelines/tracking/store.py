"""The MLflow store: made whole or not at all, by one process at a time, and refused where it is damaged."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from pipelines.errors import UserError
from pipelines.files import atomic_path
from pipelines.tracking.config import TrackingConfig

logger = logging.getLogger(__name__)


@contextmanager
def locked_store(config: TrackingConfig, project: Path) -> Iterator[MlflowClient]:
    """A client of the store, while no other process of this machine makes runs in it: others wait.

    Raises:
        UserError: Its database is damaged.
    """
    # It logs the traceback of what it raises, too.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    file = config.lock_file(project)
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("tracking: waiting for another process that holds %s", file)
        lock.acquire()
    try:
        database = config.database(project)
        if database is not None and not database.exists():
            _make_database(database, config.artifact_location(project))
        elif database is not None:
            _check_database(database)
        yield MlflowClient(tracking_uri=config.tracking_uri(project))
    finally:
        lock.release()


def connect(config: TrackingConfig, project: Path) -> MlflowClient:
    """A client of the store that params.yaml names, for reading and for single writes; raises as `locked_store`."""
    with locked_store(config, project) as client:
        return client


def _make_database(file: Path, artifacts: str | None) -> None:
    """MLflow's tables take seconds to make: they are made in memory, and the file appears complete."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    store = SqlAlchemyStore("sqlite://", artifacts or "./mlruns")
    try:
        with store.engine.connect() as connection:
            database: sqlite3.Connection = connection.connection.driver_connection
            content = database.serialize()
    finally:
        store.engine.dispose()
    with atomic_path(file) as temporary:
        temporary.write_bytes(content)


def _check_database(file: Path) -> None:
    try:
        # Read and write: what a killed process left half-done is taken back first.
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", timeout=60, uri=True)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            (page,) = database.execute("PRAGMA page_size").fetchone()
            if file.stat().st_size % page:
                found = "it ends within a page"
            if found == "ok":
                database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise UserError(
            f"{file} is damaged ({' '.join(found.split())}): move it away and run `python -m pipelines.tracking`, "
            "which makes the runs of the present checkpoints anew; older runs are in that file alone"
        )

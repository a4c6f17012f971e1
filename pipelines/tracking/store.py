"""The MLflow store: made whole or not at all, by one process at a time, and refused where it is damaged or down."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from filelock import FileLock, Timeout
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from pipelines.errors import TemporaryError, UserError
from pipelines.files import atomic_path
from pipelines.tracking.config import TrackingConfig
from pipelines.tracking.paths import without_machine_paths

logger = logging.getLogger(__name__)

# Of `make ui`.
_MAKE_UI = f"http://127.0.0.1:{os.environ.get('MLFLOW_PORT', '5000')}"
# Tags of the experiment. Without the first MLflow's page asks what it is, and may open as one of agents and prompts.
_EXPERIMENT = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": (
        "A run is one training of a method. `training_run` names it, `checkpoint_sha256` the checkpoint that it gave. "
        "Scores are metrics `<task>/<metric>` (test split) and `validation/<task>/<metric>`; a run's table "
        "`scores.json` has them with intervals, chance and trivial baselines."
    ),
}


@contextmanager
def locked_store(config: TrackingConfig, project: Path, patience: float = 60) -> Iterator[MlflowClient]:
    """A client of the store, while no other process of this machine makes runs in it: others wait.

    Args:
        config: Where the store is.
        project: The study's folder.
        patience: Seconds for which another program may hold the database, or a server may be silent.

    Raises:
        UserError: Its database is damaged.
        TemporaryError: It is locked by another program, or its server does not answer.
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
            artifacts = config.artifact_location(project)
            assert artifacts is not None  # of a database it never is
            _make_database(database, artifacts)
        elif database is not None:
            _check_database(database, patience)
        else:
            _check_server(config.uri, patience)
        yield MlflowClient(tracking_uri=config.tracking_uri(project))
    finally:
        lock.release()


def connect(config: TrackingConfig, project: Path) -> MlflowClient:
    """A client of the store that params.yaml names, for reading and for single writes; raises as `locked_store`."""
    with locked_store(config, project) as client:
        return client


def _make_database(file: Path, artifacts: str) -> None:
    """MLflow's tables take seconds to make: they are made in memory, and the file appears complete."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    store = SqlAlchemyStore("sqlite://", artifacts)
    try:
        with store.engine.connect() as connection:
            database: sqlite3.Connection = connection.connection.driver_connection
            content = database.serialize()
    finally:
        store.engine.dispose()
    with atomic_path(file) as temporary:
        temporary.write_bytes(content)


def experiment_id(client: MlflowClient, config: TrackingConfig, project: Path) -> str:
    """That of the study's experiment, which is made where there is none; its page opens as model training."""
    known = client.get_experiment_by_name(config.experiment)
    if known is None:
        made = str(client.create_experiment(config.experiment, config.artifact_location(project), _EXPERIMENT))
        return made
    for name, value in _EXPERIMENT.items():
        if name not in known.tags:
            client.set_experiment_tag(known.experiment_id, name, value)
    return str(known.experiment_id)


def experiment_page(config: TrackingConfig, project: Path) -> str:
    """Where a browser shows the study's experiment; without a server, on the one of `make ui`.

    MLflow 3.17 opens every experiment as one of agents and prompts, whatever its kind, unless the address says more
    or its switch `Model training` was used once in this browser.
    """
    server = without_machine_paths(config.uri.rstrip("/")) if config.database(project) is None else _MAKE_UI
    number = experiment_id(connect(config, project), config, project)
    return f"{server}/#/experiments/{number}?workflowType=machine_learning"


def _check_server(uri: str, patience: float) -> None:
    """MLflow itself would ask a server that is down again and again, for minutes."""
    if not uri.startswith("http"):
        return
    try:
        urlopen(uri, timeout=patience).close()
    except HTTPError:
        pass  # an answer, if only that it wants a login
    except OSError:
        address = without_machine_paths(uri)
        raise TemporaryError(f"MLflow's server {address} does not answer: start it, or change tracking.uri") from None


def _check_database(file: Path, patience: float) -> None:
    try:
        # Read and write: what a killed process left half-done is taken back first.
        address = f"{file.resolve().as_uri()}?mode=rw"
        with closing(sqlite3.connect(address, timeout=patience, uri=True)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
            (page,) = database.execute("PRAGMA page_size").fetchone()
            if file.stat().st_size % page:
                found = "it ends within a page"
            if found == "ok":
                database.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            raise TemporaryError(f"{file} is locked by another program: end it, then run the command again") from None
        found = str(error)
    if found != "ok":
        raise UserError(
            f"{file} is damaged ({' '.join(found.split())}): move it away and run `python -m pipelines.tracking`, "
            "which makes the runs of the present checkpoints anew; older runs are in that file alone"
        )

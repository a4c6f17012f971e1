"""Where runs and model versions are kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipelines.errors import UserError
from pipelines.workspace import main_workspace

_SQLITE = "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class SignatureConfig:
    """Which signature a registered model must have to be loaded.

    Attributes:
        public_key: File of the public key (PEM); a relative path counts from the project's folder.
    """

    public_key: str


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Section `tracking` of params.yaml.

    Relative paths count from the main workspace: an experiment of DVC in a folder of its own has the same store.

    Attributes:
        uri: Tracking server, or a sqlite file; such as sqlite:///data/mlflow/mlflow.db.
        artifacts: Folder (or URI) of the runs' files, used when the experiment is made; null: the server decides; of a
            sqlite file it is the folder `artifacts` beside it.
        experiment: Name of the experiment.
        model: Name of the registered model; studies never share one.
        live_after: Seconds that a training has lasted when MLflow begins to show it; the run of a shorter one is made
            when it has ended (`python -m pipelines.tracking`).
        signature: What a registered model's files are compared with when they are loaded; null: nothing but digests.
    """

    uri: str
    artifacts: str | None
    experiment: str
    model: str
    live_after: Annotated[float, Field(ge=0)] = 60
    signature: SignatureConfig | None = None

    def database(self, project: Path) -> Path | None:
        """The sqlite file, absolute; None: `uri` names a server."""
        if self.uri.startswith(_SQLITE):
            return (main_workspace(project) / self.uri.removeprefix(_SQLITE)).resolve()
        if "://" not in self.uri:
            raise UserError(f"params.yaml: tracking.uri is '{self.uri}': write sqlite:///<file> or http://<server>")
        return None

    def tracking_uri(self, project: Path) -> str:
        """`uri` with a relative sqlite path made absolute."""
        database = self.database(project)
        return self.uri if database is None else f"{_SQLITE}{database}"

    def lock_file(self, project: Path) -> Path:
        """Held by whoever writes runs: studies that share a database share the lock."""
        database = self.database(project) or main_workspace(project) / "data/mlflow/server"
        return database.with_name(f"{database.name}.lock")

    def artifact_location(self, project: Path) -> str | None:
        """`artifacts` as a URI; None: the server decides."""
        if self.artifacts is None:
            # MLflow would put the files into the folder that a command happens to run in.
            database = self.database(project)
            return None if database is None else (database.parent / "artifacts").as_uri()
        if "://" in self.artifacts:
            return self.artifacts
        return (main_workspace(project) / self.artifacts).resolve().as_uri()

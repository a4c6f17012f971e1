"""Where runs and model versions are kept."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError

_SQLITE = "sqlite:///"


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Section `tracking` of params.yaml.

    Attributes:
        uri: Tracking server, or a sqlite file; a relative path counts from the project's folder.
        artifacts: Folder (or URI) of the runs' files, used when the experiment is made; null: the server decides.
        experiment: Name of the experiment.
        model: Name of the registered model; studies never share one.
    """

    uri: str
    artifacts: str | None
    experiment: str
    model: str

    def tracking_uri(self, project: Path) -> str:
        """`uri` with a relative sqlite path made absolute; its folder is made."""
        if not self.uri.startswith(_SQLITE):
            if "://" not in self.uri:
                raise UserError(f"params.yaml: tracking.uri is '{self.uri}': write sqlite:///<file> or http://<server>")
            return self.uri
        file = (project / self.uri.removeprefix(_SQLITE)).resolve()
        file.parent.mkdir(parents=True, exist_ok=True)
        return f"{_SQLITE}{file}"

    def artifact_location(self, project: Path) -> str | None:
        """`artifacts` as a URI."""
        if self.artifacts is None or "://" in self.artifacts:
            return self.artifacts
        return (project / self.artifacts).resolve().as_uri()

"""Settings of the stage: section `train` of params.yaml."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.data.fetch import check_same_manifest
from models.data.format import EXTENSIONS
from models.training.config import EngineConfig, TrainingConfig
from models.urls import check_location, is_url


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """One method to train, under the name that is its key.

    Attributes:
        model: Settings of the method's own `Config`.
        training: Phases and optimiser.
        method: The plug-in; None: the one of the entry's name. Several entries of one plug-in, such as the rows of an
            ablation, are trained beside each other under names of their own.
    """

    model: dict[str, Any]
    training: TrainingConfig
    method: str | None = None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All methods and how runs are carried out.

    Attributes:
        engine: For every method.
        methods: By name.
        shards_from: Folder or URL of a copy of data/shards from which the reader `stream` takes the tars; None:
            data/shards itself. It decides no result, for each tar is compared with the manifest in data/shards.
    """

    engine: EngineConfig
    methods: dict[str, MethodConfig]
    shards_from: str | None = None

    def __post_init__(self) -> None:
        if self.shards_from is None:
            return
        if self.engine.reader != "stream":
            raise ValueError("shards_from is for engine.reader stream alone: choose that reader, or remove it")
        try:
            check_location(self.shards_from)
        except ValueError as error:
            raise ValueError(f"shards_from: {error}") from None


def copy_of_shards(config: TrainConfig, shards: Path) -> str | None:
    """Where the reader `stream` finds the tars, for workers in other folders too; None: in `shards` itself.

    Raises:
        ShardError: Other shards are there, or none.
        ConnectionError: It cannot be reached.
    """
    if config.shards_from is None:
        return None
    place = config.shards_from
    location = place.rstrip("/") if is_url(place) else str(Path(place).resolve())
    for family in EXTENSIONS:
        check_same_manifest(shards.resolve() / family, f"{location}/{family}")
    return location

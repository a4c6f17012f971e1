"""The section `workers` of params.yaml. No result depends on it, so that no stage of dvc.yaml has it as a parameter."""

from dataclasses import dataclass
from pathlib import Path

from pipelines.config import PARAMS, load


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """Section `workers` of params.yaml: one place for all stages that work item by item.

    Attributes:
        processes: How many workers a stage may have: a number, or `all` for one on each core of this host, or on each
            CPU of the cluster that RAY_ADDRESS names. Where workers need GPUs, `all` is as many as the GPUs are enough
            for. 1: the stage's own process does the work, and so it does where there are few items
            (`pipelines.workers.engine`).
    """

    processes: int | str

    def __post_init__(self) -> None:
        if self.processes != "all" and (isinstance(self.processes, str) or self.processes < 1):
            raise ValueError(f"processes is {self.processes!r}: choose 'all' or a number of at least 1")

    @property
    def number(self) -> int | None:
        """How many; None for `all`."""
        return None if isinstance(self.processes, str) else self.processes


THIS_PROCESS = WorkersConfig(processes=1)


def load_workers(path: Path = PARAMS) -> WorkersConfig:
    """The section of params.yaml."""
    return load(WorkersConfig, "workers", path)

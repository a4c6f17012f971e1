"""The DVC graph: stage names and what each depends on, in an order in which they can run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx

from pipelines.code.paths import check_paths
from pipelines.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Stage:
    """One stage of dvc.yaml.

    Attributes:
        name: As DVC addresses it, such as `ingest@phantom`.
        upstream: Names of the stages whose outputs it reads, in order.
    """

    name: str
    upstream: tuple[str, ...]

    @property
    def summary(self) -> Path:
        """Where it leaves its counts, relative to the project."""
        return Path("data/summaries") / f"{self.name.replace('@', '-')}.json"


def read_graph(project: Path, targets: Sequence[str] = ()) -> list[Stage]:
    """The stages to run, each after all that it depends on; among equals in the order of dvc.yaml.

    Args:
        project: Folder with dvc.yaml.
        targets: Stages, or groups of a `foreach` or `matrix`; with all that they depend on. Empty: all stages.

    Raises:
        UserError: There is no graph, it cannot be read, it has no such target, or a path that params.yaml names for
            it is not there.
    """
    # Here, for `--help` should not wait for it.
    from dvc.repo import Repo

    if not (project / "dvc.yaml").is_file():
        raise UserError(f"{project.resolve()} has no dvc.yaml: run from the folder of the project, or name it")
    check_paths(project)
    with dvc_boundary(), Repo(str(project)) as repo:
        stages = {stage: number for number, stage in enumerate(repo.index.stages) if stage.cmd}
        graph = repo.index.graph.subgraph(stages).copy()
    order = [
        Stage(
            _address(stage), tuple(_address(other) for other in sorted(graph.successors(stage), key=stages.__getitem__))
        )
        for stage in networkx.lexicographical_topological_sort(graph.reverse(), key=stages.__getitem__)
    ]
    return _needed(order, targets)


@contextmanager
def dvc_boundary() -> Iterator[None]:
    """What DVC cannot read of dvc.yaml, dvc.lock or params.yaml is one line.

    Raises:
        UserError: In DVC's words.
    """
    from dvc.exceptions import DvcException

    try:
        yield
    except DvcException as error:
        raise UserError(f"dvc.yaml cannot be used: {' '.join(str(error).split())}") from None


def _address(stage: Any) -> str:
    # DVC's own `addressing` depends on the working directory.
    return stage.name if stage.path_in_repo == "dvc.yaml" else f"{stage.path_in_repo}:{stage.name}"


def _needed(order: list[Stage], targets: Sequence[str]) -> list[Stage]:
    if not targets:
        return order
    known = {stage.name for stage in order} | {stage.name.partition("@")[0] for stage in order}
    needed: set[str] = set()
    for target in targets:
        if target not in known:
            hint = did_you_mean(target, known, f"choose from {', '.join(sorted(known))}")
            raise UserError(f"dvc.yaml has no stage '{target}': {hint}")
        needed |= {stage.name for stage in order if target in (stage.name, stage.name.partition("@")[0])}
    for stage in reversed(order):
        if stage.name in needed:
            needed |= set(stage.upstream)
    return [stage for stage in order if stage.name in needed]

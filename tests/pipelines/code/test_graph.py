"""The order of the stages, and which ones a target needs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.code.graph import read_graph
from pipelines.errors import UserError

# Written against the order in which the stages can run.
GRAPH = """
stages:
  report:
    cmd: cat joined > report
    deps:
      - joined
    outs:
      - report
  join:
    cmd: cat o/x o/y > joined
    deps:
      - o/y
      - o/x
    outs:
      - joined
  ingest:
    foreach: [x, y]
    do:
      cmd: cat raw.txt > o/${item}
      deps:
        - raw.txt
      outs:
        - o/${item}
  alone:
    cmd: echo 1 > alone
    outs:
      - alone
"""


@pytest.fixture
def project(dvc_project: Callable[[str], Path]) -> Path:
    return dvc_project(GRAPH)


def test_each_stage_comes_after_what_it_reads_and_else_as_written(project: Path) -> None:
    stages = read_graph(project)
    assert [stage.name for stage in stages] == ["ingest@x", "ingest@y", "join", "report", "alone"]
    assert {stage.name: stage.upstream for stage in stages} == {
        "ingest@x": (),
        "ingest@y": (),
        "join": ("ingest@x", "ingest@y"),
        "report": ("join",),
        "alone": (),
    }
    assert stages[0].summary == Path("data/summaries/ingest-x.json")


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["join"], ["ingest@x", "ingest@y", "join"]),
        (["ingest"], ["ingest@x", "ingest@y"]),
        (["ingest@y", "alone"], ["ingest@y", "alone"]),
    ],
)
def test_targets_bring_what_they_depend_on(project: Path, targets: list[str], names: list[str]) -> None:
    assert [stage.name for stage in read_graph(project, targets)] == names


def test_mistakes_are_one_clear_line(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(UserError, match=r"no stage 'jion': did you mean 'join'\?"):
        read_graph(project, ["jion"])
    with pytest.raises(UserError, match=r"has no dvc.yaml"):
        read_graph(tmp_path_factory.mktemp("empty"))
    (project / "dvc.yaml").write_text("stages:\n  a:\n    comand: x\n")
    with pytest.raises(UserError, match=r"^dvc.yaml cannot be used: [^\n]*$"):
        read_graph(project)

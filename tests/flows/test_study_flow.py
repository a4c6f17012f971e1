"""A study as a flow: what its page in Prefect shows, on a real server and a workspace of git and DVC."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.states import State

from flows.study_flow import as_artifact, study
from models.verified import verify_folder
from tests.pipelines.studies.test_definition import DATA, STUDY
from tests.pipelines.studies.test_page import made


def test_the_artifact_is_the_table_and_no_text_of_it_is_markup(tmp_path: Path) -> None:
    lines = as_artifact(made(tmp_path)).split("\n")
    assert lines[0] == r"A paper, Table 1: Two \<i\>scores\<\/i\>"
    assert lines[4:] == [
        r"|  | R\@1 | Parameters |",
        "|---|---|---|",
        r"| Ours \<b\> | 25\.00 \(15\.00 to 35\.00\) \[50\], \-25\.00 | \(1\) \[3\] |",
        r"| Theirs | \(2\) \[40\] | \(2\) |",
        r"| chance | 1\.00 |  |",
        "",
        r"- (1) no task \<parrots\>",
        "- (2) not implemented",
    ]


@pytest.fixture
def project(empty_dvc_project: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one study, of which printed values alone are known: nothing has to be trained."""
    folder = shutil.copytree(empty_dvc_project, tmp_path / "project")
    for name in (
        "scripts/workspace",
        "params.yaml",
        "params/pretraining.yaml",
        "studies/scales/demo.yaml",
        ".gitignore",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, folder / name)
    (folder / "studies/data.yaml").write_text(yaml.safe_dump(DATA))
    rows = [{"name": "Theirs", "printed": [40.0, 3.0]}]
    (folder / "studies/try.yaml").write_text(yaml.safe_dump(STUDY | {"rows": rows}))
    for words in (
        ("config", "user.name", "a"),
        ("config", "user.email", "a@b.c"),
        ("add", "-A"),
        ("commit", "-qm", "One"),
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return folder


def artifacts(state: State) -> dict[str, Any]:
    with get_client(sync_client=True) as client:
        found = client.read_artifacts()
    return {one.key: one.data for one in found if one.flow_run_id == state.state_details.flow_run_id}


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_run_makes_the_table_and_shows_it_and_a_mistyped_name_is_one_line(project: Path) -> None:
    state = study("try", return_state=True)
    assert (state.is_completed(), state.message) == (True, "table: data/studies/try-demo")
    verify_folder(project / "data/studies/try-demo")
    shown = artifacts(state)
    assert r"| Theirs | \(1\) \[40\] | \(1\) \[3\] |" in shown["study"]
    assert "/studies/try-demo/index.html" in shown["study-page"]
    assert 'href="try-demo/index.html"' in (project / "data/studies/index.html").read_text()
    # The workspace is its own; here nothing changed.
    assert subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True).stdout == ""

    for parameters, message in (
        ({"name": "tri"}, "there is no study 'tri': did you mean 'try'?"),
        ({"name": "try", "raw": str(project)}, "workspaces/try-demo is there already: link the data sets"),
    ):
        state = study(**parameters, return_state=True)
        assert state.is_failed()
        assert message in str(state.message)
        assert artifacts(state) == {}

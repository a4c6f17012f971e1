"""What `flows.study --dry` says, what it refuses, and the workspaces that it leaves alone."""

import logging
import subprocess
from pathlib import Path

import pytest

from flows.study import SETTINGS, _changed_here, main, set_params, update
from pipelines.errors import UserError
from pipelines.studies.definition import study_names


@pytest.fixture(autouse=True)
def _at_home(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


def test_dry_lists_every_study_with_its_rows_and_missing_data(capsys: pytest.CaptureFixture[str]) -> None:
    main("--dry", "--scale", "paper")
    lines = capsys.readouterr().out.splitlines()
    names = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert names == study_names()
    assert "  missing data: MS-CXR is not in data/raw/ms_cxr: " in "\n".join(lines)
    assert any(line.startswith("  CLIP: ") for line in lines)
    assert any(line.endswith(": printed values alone") for line in lines)


def test_one_study_and_what_is_no_study(capsys: pytest.CaptureFixture[str]) -> None:
    main("001_table3", "--dry")
    text = capsys.readouterr().out
    assert text.startswith("001_table3: RegionMed-CLIP")
    assert "RegionMed-CLIP: 6 of 6 cells" in text
    with pytest.raises(UserError, match="there is no study '001_tabel3': did you mean '001_table3'"):
        main("001_tabel3")
    with pytest.raises(UserError, match="name a study: 000_"):
        main()
    with pytest.raises(UserError, match="--raw is for a run"):
        main("001_table3", "--dry", "--raw", "somewhere")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a workspace as `scripts/workspace` leaves it; the working folder."""
    for name in ("models/method.py", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("seed: 1\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    for name in ("user.name", "user.email"):
        git(tmp_path, "config", name, "someone@example.org")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "First")
    git(tmp_path, "worktree", "add", "--quiet", "-B", "workspace/one", "workspaces/one", "HEAD")
    git(tmp_path / "workspaces/one", "commit", "--quiet", "--allow-empty", "-m", "Workspace one: params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_workspace_follows_the_present_commit(project: Path) -> None:
    workspace = Path("workspaces/one")
    assert update(workspace) == git(project, "rev-parse", "HEAD") == git(project / workspace, "rev-parse", "HEAD")
    set_params(workspace, {"seed": 2})
    # Other than the last one: as after `git commit --amend`.
    git(project, "commit", "--quiet", "--amend", "-m", "Another first")
    assert update(workspace) == git(project, "rev-parse", "HEAD") == git(project / workspace, "rev-parse", "HEAD")
    assert (workspace / "params.yaml").read_text() == "seed: 1\n"


def test_what_a_person_changed_in_a_workspace_is_kept(project: Path) -> None:
    workspace = Path("workspaces/one")
    set_params(workspace, {"seed": 2})
    (workspace / "params.yaml").write_text("seed: 3\n")
    with pytest.raises(UserError, match=r"workspaces/one holds changes of its own, .* \(M params\.yaml\)") as caught:
        update(workspace)
    assert "\n" not in str(caught.value)
    assert (workspace / "params.yaml").read_text() == "seed: 3\n"
    git(project / workspace, "commit", "--quiet", "-am", "Another seed")
    with pytest.raises(UserError, match=r"\(Another seed\)"):
        update(workspace)
    # As the message says.
    git(project / workspace, "switch", "--quiet", "-c", "mine")
    git(project / workspace, "switch", "--quiet", "workspace/one")
    git(project / workspace, "reset", "--quiet", "--hard", git(project, "rev-parse", "HEAD"))
    update(workspace)
    assert git(project, "show", "mine:params.yaml") == "seed: 3"


@pytest.mark.parametrize("committed", [True, False])
def test_the_lock_of_a_workspace_is_that_of_its_last_run(project: Path, committed: bool) -> None:
    """DVC writes dvc.lock in every run, and whoever follows docs/operations.md has committed theirs."""
    workspace = Path("workspaces/one")
    if committed:
        (project / "dvc.lock").write_text("stages: {}\n")
        git(project, "add", "dvc.lock")
        git(project, "commit", "--quiet", "-m", "The lock of this checkout")
    update(workspace)
    assert (workspace / "dvc.lock").exists() == committed
    set_params(workspace, {"seed": 2})
    for run in ("first", "second"):
        (workspace / "dvc.lock").write_text(f"stages: {{{run}: {{}}}}\n")
        update(workspace)
        assert (workspace / "dvc.lock").read_text() == f"stages: {{{run}: {{}}}}\n"
        set_params(workspace, {"seed": 2})
    # A lock that only this checkout has changed since is no reason to give up the workspace's.
    (project / "dvc.lock").write_text("stages: {here: {}}\n")
    git(project, "add", "dvc.lock")
    git(project, "commit", "--quiet", "-m", "Another lock of this checkout")
    update(workspace)
    assert (workspace / "dvc.lock").read_text() == "stages: {second: {}}\n"


def test_code_that_is_not_committed_is_told(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        update(Path("workspaces/one"))
        assert not caplog.records
        (project / "models/method.py").write_text("seed: 9\n")
        head = update(Path("workspaces/one"))
    assert f"the study runs the code of commit {head[:10]}: not in it are models/method.py" in caplog.text
    assert (project / "workspaces/one/models/method.py").read_text() == "seed: 1\n"


def test_settings_that_are_not_committed_are_named(project: Path) -> None:
    assert _changed_here(SETTINGS) == []
    (project / "params.yaml").write_text("seed: 4\n")
    (project / "studies").mkdir()
    (project / "studies/mine.yaml").write_text("rows: []\n")
    assert _changed_here(SETTINGS) == ["params.yaml", "studies/mine.yaml"]

"""The workspaces of studies: what a run brings to the present commit, and what it never discards."""

import logging
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.study_workspace import CODE, SETTINGS, changed_here, left_out_code, make_workspace, update
from pipelines.errors import UserError

WORKSPACE = Path("workspaces/one")


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with the workspace of a study that was run once; the working folder."""
    for name in ("models/method.py", "models/other.py", "params.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("seed: 1\n")
    git(tmp_path, "init", "--quiet", "--initial-branch", "main")
    for name in ("user.name", "user.email"):
        git(tmp_path, "config", name, "someone@example.org")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "First")
    git(tmp_path, "worktree", "add", "--quiet", "-B", "workspace/one", "workspaces/one", "HEAD")
    monkeypatch.chdir(tmp_path)
    update(WORKSPACE, "seed: 2\n")
    return tmp_path


def test_a_workspace_follows_the_present_commit_with_params_of_its_own(project: Path) -> None:
    assert git(WORKSPACE, "status", "--porcelain") == ""
    assert git(WORKSPACE, "rev-parse", "HEAD^") == git(project, "rev-parse", "HEAD")
    # Other than the last one: as after `git commit --amend`.
    (project / "models/method.py").write_text("seed: 9\n")
    git(project, "commit", "--quiet", "--amend", "-am", "Another first")
    assert update(WORKSPACE, "seed: 3\n") == git(project, "rev-parse", "HEAD") == git(WORKSPACE, "rev-parse", "HEAD^")
    assert git(WORKSPACE, "status", "--porcelain") == ""
    assert [(WORKSPACE / name).read_text() for name in ("models/method.py", "params.yaml")] == [
        "seed: 9\n",
        "seed: 3\n",
    ]
    assert (project / "params.yaml").read_text() == "seed: 1\n"


def test_hooks_of_a_person_are_in_no_way(project: Path) -> None:
    for name in ("pre-commit", "prepare-commit-msg", "commit-msg"):
        hook = project / ".git/hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
    git(project, "config", "log.showSignature", "true")
    git(project, "config", "commit.gpgSign", "true")
    for seed in (3, 4):
        update(WORKSPACE, f"seed: {seed}\n")
        assert (WORKSPACE / "params.yaml").read_text() == f"seed: {seed}\n"


def _changes_params(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("seed: 3\n")


def _commits(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("seed: 3\n")
    git(workspace, "commit", "--quiet", "-am", "Another seed")


def _amends(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("seed: 3\n")
    git(workspace, "commit", "--quiet", "--amend", "--no-edit", "-a")


def _commits_without_a_title(workspace: Path) -> None:
    git(workspace, "commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", "")


def _adds_a_prompt(workspace: Path) -> None:
    (workspace / "prompts").mkdir()
    (workspace / "prompts/mine ü.txt").write_text("seed: 3\n")


def _deletes(workspace: Path) -> None:
    (workspace / "models/other.py").unlink()


def _leaves_the_branch(workspace: Path) -> None:
    git(workspace, "switch", "--quiet", "-c", "mine")


@pytest.mark.parametrize(
    ("does", "named"),
    [
        (_changes_params, r"\(params\.yaml\)"),
        (_commits, r"\(Another seed\)"),
        (_amends, r"\(Study one\)"),
        (_commits_without_a_title, r"\(a commit without a title\)"),
        (_adds_a_prompt, r"\(prompts/mine ü\.txt\)"),
        (_deletes, r"\(models/other\.py\)"),
        (_leaves_the_branch, r"\(it is on the branch mine\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_a_person_does_in_a_workspace_is_kept(project: Path, does: object, named: str) -> None:
    assert callable(does)
    does(WORKSPACE)
    before = git(WORKSPACE, "rev-parse", "HEAD"), git(WORKSPACE, "status", "--porcelain")
    with pytest.raises(UserError, match=rf"workspaces/one holds changes of its own, .* {named}") as caught:
        update(WORKSPACE, "seed: 4\n")
    assert "\n" not in str(caught.value)
    assert before == (git(WORKSPACE, "rev-parse", "HEAD"), git(WORKSPACE, "status", "--porcelain"))


def test_the_words_of_the_refusal_lead_out_of_it(project: Path) -> None:
    _changes_params(WORKSPACE)
    with pytest.raises(UserError):
        update(WORKSPACE, "seed: 4\n")
    git(WORKSPACE, "switch", "--quiet", "-c", "mine")
    git(WORKSPACE, "commit", "--quiet", "-am", "Another seed")
    git(WORKSPACE, "switch", "--quiet", "workspace/one")
    git(WORKSPACE, "reset", "--quiet", "--hard", git(project, "rev-parse", "HEAD"))
    update(WORKSPACE, "seed: 4\n")
    assert git(project, "show", "mine:params.yaml") == "seed: 3"


def test_a_run_that_was_cut_off_while_git_wrote_files_goes_on(project: Path) -> None:
    """Some files are as in the commit that it went to and others as before; one is new, and git knows it not yet."""
    before = git(WORKSPACE, "rev-parse", "HEAD")
    for name in ("models/method.py", "models/new.py"):
        (project / name).write_text("seed: 9\n")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "Second")
    update(WORKSPACE, "seed: 3\n")
    git(WORKSPACE, "reset", "--quiet", before)
    (WORKSPACE / git(WORKSPACE, "rev-parse", "--git-path", "index.lock")).touch()
    (WORKSPACE / "params.yaml").write_text("seed: 2\n")
    assert len(git(WORKSPACE, "status", "--porcelain").splitlines()) == 2
    (WORKSPACE / "models/other.py").write_text("of a person\n")
    with pytest.raises(UserError, match=r"\(models/other\.py\)"):
        update(WORKSPACE, "seed: 3\n")
    (WORKSPACE / "models/other.py").write_text("seed: 1\n")
    update(WORKSPACE, "seed: 3\n")
    assert git(WORKSPACE, "status", "--porcelain") == ""
    assert (WORKSPACE / "models/new.py").read_text() == "seed: 9\n"


@pytest.mark.parametrize("committed", [True, False])
def test_the_lock_of_a_workspace_is_that_of_its_last_run(project: Path, committed: bool) -> None:
    """DVC writes dvc.lock in every run, and whoever follows docs/operations.md has committed theirs."""
    if committed:
        (project / "dvc.lock").write_text("stages: {}\n")
        git(project, "add", "dvc.lock")
        git(project, "commit", "--quiet", "-m", "The lock of this checkout")
    update(WORKSPACE, "seed: 2\n")
    assert (WORKSPACE / "dvc.lock").exists() == committed
    for run in ("first", "second"):
        (WORKSPACE / "dvc.lock").write_text(f"stages: {{{run}: {{}}}}\n")
        update(WORKSPACE, "seed: 2\n")
        assert (WORKSPACE / "dvc.lock").read_text() == f"stages: {{{run}: {{}}}}\n"
    # A lock that only this checkout has changed since is no reason to give up the workspace's.
    (project / "dvc.lock").write_text("stages: {here: {}}\n")
    git(project, "add", "dvc.lock")
    git(project, "commit", "--quiet", "-m", "Another lock of this checkout")
    update(WORKSPACE, "seed: 2\n")
    assert (WORKSPACE / "dvc.lock").read_text() == "stages: {second: {}}\n"


def test_a_folder_that_is_no_workspace_is_no_reason_to_touch_this_checkout(project: Path) -> None:
    """Git speaks of the checkout around it: data sets were laid there, or half a workspace was deleted."""
    shutil.rmtree(WORKSPACE)
    (WORKSPACE / "data/raw").mkdir(parents=True)
    (project / "models/method.py").write_text("edited\n")
    for raw in (None, project):
        with pytest.raises(UserError, match="workspaces/one is there and is no git worktree: move it away"):
            make_workspace(WORKSPACE, raw)
    assert (project / "models/method.py").read_text() == "edited\n"
    assert (WORKSPACE / "data/raw").is_dir()


def test_what_git_refuses_is_one_line(project: Path) -> None:
    (project / ".git/refs/medregion").rename(project / "elsewhere")
    (project / ".git/refs/medregion").write_text("in the way\n")
    with pytest.raises(UserError, match=r"^git in workspaces/one: fatal: ") as caught:
        update(WORKSPACE, "seed: 3\n")
    assert "\n" not in str(caught.value)


def test_code_that_is_not_committed_is_told(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert left_out_code(update(WORKSPACE, "seed: 2\n")) == []
        assert not caplog.records
        (project / "models/method.py").write_text("seed: 9\n")
        head = update(WORKSPACE, "seed: 2\n")
        assert left_out_code(head) == ["models/method.py"]
    assert f"the study runs the code of commit {head[:10]}: not in it are models/method.py" in caplog.text
    assert (WORKSPACE / "models/method.py").read_text() == "seed: 1\n"


def test_files_that_are_not_committed_are_named_as_they_are(project: Path) -> None:
    assert changed_here((*SETTINGS, *CODE)) == []
    (project / "params.yaml").write_text("seed: 4\n")
    (project / "studies").mkdir()
    (project / "studies/die äußere.yaml").write_text("rows: []\n")
    git(project, "mv", "models/other.py", "models/with space.py")
    assert set(changed_here(SETTINGS)) == {"params.yaml", "studies/die äußere.yaml"}
    assert set(changed_here(CODE)) == {"models/other.py", "models/with space.py"}

"""What the other tests here start from."""

import sys
from pathlib import Path

import pytest

from tests.lifecycle.study import run

pytestmark = pytest.mark.lifecycle


def test_the_study_is_up_to_date_and_committed(study: Path) -> None:
    assert run("git", "status", "--porcelain", cwd=study) == ""
    assert "up to date" in run("dvc", "status", cwd=study)


def test_a_copy_has_its_own_model_and_runs_nothing_again(fresh_study: Path) -> None:
    assert "Running stage" not in run("dvc", "repro", cwd=fresh_study)
    told = run(sys.executable, "-m", "pipelines.tracking", cwd=fresh_study)
    assert "runs_made 0, runs_completed 0, versions_made 0" in told

"""DVC's record of who reads and writes, left half written by a kill."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.dvc_lock import mend
from tests.conftest import dvc


@pytest.mark.slow
def test_dvc_runs_again_after_a_kill_within_its_own_write(
    dvc_project: Callable[[str], Path],
) -> None:
    project = dvc_project("stages:\n  copy:\n    cmd: cp raw.txt made.txt\n    deps: [raw.txt]\n    outs: [made.txt]\n")
    record = project / ".dvc/tmp/rwlock"
    record.parent.mkdir(exist_ok=True)
    for half in ("", '{"write": {'):
        record.write_text(half)
        with pytest.raises(subprocess.CalledProcessError):
            dvc(project, "repro")
        mend(project)
        assert not record.exists()
    dvc(project, "repro")
    assert (project / "made.txt").read_text() == "raw\n"


def test_a_whole_record_stays(tmp_path: Path) -> None:
    record = tmp_path / ".dvc/tmp/rwlock"
    mend(tmp_path)
    record.parent.mkdir(parents=True)
    record.write_text('{"read": {}, "write": {}}')
    mend(tmp_path)
    assert record.exists()

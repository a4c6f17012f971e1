"""dvc.lock as it is read."""

from pathlib import Path

import pytest

from pipelines.dvc_stages import locked_stages
from pipelines.errors import UserError


def test_the_entries_of_the_stages_are_read(tmp_path: Path) -> None:
    assert locked_stages(tmp_path) == {}
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  split:\n    cmd: python -m pipelines.split\n")
    assert locked_stages(tmp_path) == {"split": {"cmd": "python -m pipelines.split"}}
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages:\n  other:\n    cmd: x\n")
    assert locked_stages(tmp_path) == {"other": {"cmd": "x"}}


@pytest.mark.parametrize("text", [b"stages: {", b"\xff\xfe\x00", b"- a list", b"stages:\n- a list\n", b""])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "dvc.lock").write_bytes(text)
    with pytest.raises(UserError, match=r"dvc\.lock is damaged: bring it back from git"):
        locked_stages(tmp_path)

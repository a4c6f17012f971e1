"""Which folder a command may replace."""

from pathlib import Path

import pytest

from models.verified import seal
from pipelines.errors import UserError
from pipelines.result_folders import check_out


def results(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "mine.json").write_text("{}")
    seal(folder)
    return folder


def test_earlier_results_empty_folders_and_new_names_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for out in (results(tmp_path / "old"), tmp_path / "empty", tmp_path / "new"):
        check_out(out, "mine.json", "results")
    check_out(results(tmp_path / "data/old"), "mine.json", "results")  # no study's


def test_what_somebody_else_put_there_is_refused(tmp_path: Path) -> None:
    out = results(tmp_path / "old")
    (out / "sub").mkdir()
    (out / "sub/thesis.txt").write_text("years")
    with pytest.raises(UserError, match=r"holds sub/thesis\.txt beside results: name a new folder"):
        check_out(out, "mine.json", "results")
    (out / "SHA256SUMS").write_text("")
    with pytest.raises(UserError, match="which lists the results, is damaged"):
        check_out(out, "mine.json", "results")
    (tmp_path / "file").touch()
    for other in (results(tmp_path / "other"), tmp_path / "file"):
        with pytest.raises(UserError, match="holds something else than results"):
            check_out(other, "yours.json", "results")


def test_folders_of_a_study_are_refused(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study/params.yaml").touch()
    (tmp_path / "disk").mkdir()
    (tmp_path / "study/data").symlink_to(tmp_path / "disk")
    results(tmp_path / "study/data/evaluation/clip")
    for name in ("evaluation/clip", "new", ""):
        with pytest.raises(UserError, match="whose folders the stages write"):
            check_out(tmp_path / "study/data" / name, "mine.json", "results")

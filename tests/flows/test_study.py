"""What `flows.study --dry` says, and what it refuses."""

import shutil
from pathlib import Path

import pytest

from flows.study import main
from pipelines.errors import UserError
from pipelines.studies.definition import study_names


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command reads of a checkout, and none of the data sets that somebody may have laid into this one."""
    for name in ("params", "studies", "prompts"):
        shutil.copytree(repository / name, tmp_path / name)
    shutil.copy(repository / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)


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

"""Which command is which stage, and what a stage refuses to run with."""

from pathlib import Path

import pytest

from models.verified import record
from pipelines.code.closure import closure
from pipelines.code.fingerprint import FOLDER, as_text, check, from_text, stage_name
from pipelines.errors import UserError


@pytest.mark.parametrize(
    ("module", "arguments", "stage"),
    [
        ("pipelines.phantom.stage", [], "phantom"),
        ("pipelines.ingest.stage", ["phantom"], "ingest@phantom"),
        ("pipelines.shards.stage", ["images"], "image_shards"),
        ("pipelines.shards.stage", ["captions"], "caption_shards"),
        ("pipelines.train.stage", ["clip"], "train@clip"),
        ("pipelines.evaluate.stage", ["clip"], "evaluate@clip"),
        ("pipelines.shards.stage", ["texts"], None),
        ("pipelines.code.stage", [], None),
        ("pipelines.tracking.sync", [], None),
        ("pipelines.regions.review", ["export"], None),
        ("flows.reproduce", ["captions"], None),
        ("__main__", [], None),
    ],
)
def test_the_stage_that_a_command_is(module: str, arguments: list[str], stage: str | None) -> None:
    assert stage_name(module, arguments) == stage


def test_a_fingerprint_is_sorted_text_that_reads_back() -> None:
    digests = {"pipelines/b.py": "2" * 64, "my_package @ my-package==1.0": "1" * 64}
    text = as_text(digests)
    assert text == f"my_package @ my-package==1.0: {'1' * 64}\npipelines/b.py: {'2' * 64}\n"
    assert from_text(text) == digests


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("phantom: {}\n")
    (tmp_path / FOLDER).mkdir(parents=True)
    return tmp_path


def test_a_stage_with_the_code_of_its_fingerprint_may_run(study: Path) -> None:
    (study / FOLDER / "split.txt").write_text(as_text(closure("pipelines.split.__main__")))
    record(study / FOLDER / "split.txt")
    check("split")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"pipelines/split/groups.py": "0" * 64}, "split: pipelines/split/groups.py changed since"),
        ({"pipelines/gone.py": "0" * 64}, "split: pipelines/gone.py changed since"),
        ({"pipelines/gone.py": "0" * 64, "pipelines/split/stage.py": "0" * 64}, "pipelines/gone.py and 1 more changed"),
        ({"away @ not-installed==1.0": "0" * 64}, "split: away @ not-installed==1.0 changed since"),
    ],
)
def test_a_stage_with_other_code_is_one_line(study: Path, change: dict[str, str], line: str) -> None:
    (study / FOLDER / "split.txt").write_text(as_text(closure("pipelines.split.__main__") | change))
    record(study / FOLDER / "split.txt")
    with pytest.raises(UserError) as caught:
        check("split")
    assert line in str(caught.value)
    assert str(caught.value).endswith("changed since `dvc repro code`: run `dvc repro code`")


def test_a_stage_without_a_fingerprint_is_one_line(study: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"^data/code/train@clap\.txt not found: where .* run `dvc repro code`",
    ):
        check("train@clap")
    # Where there is no study, the stage's own message says so.
    (study / "params.yaml").unlink()
    check("split")

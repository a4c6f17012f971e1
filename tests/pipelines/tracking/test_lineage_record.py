"""What a checkpoint came from, out of a real dvc.lock, and what of it is still there."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq
import pytest
import yaml

from models.verified import seal
from pipelines.code.fingerprint import from_text
from pipelines.dvc_digests import Digests
from pipelines.errors import UserError
from pipelines.tracking.lineage import record, without_key_path
from pipelines.tracking.lineage_comparison import StageComparison, compare
from tests.pipelines.tracking.lineage_world import git, make, repro

STAGES = ["evaluate@clip", "train@clip", "captions", "ingest@clinic"]


@pytest.fixture(scope="module")
def made(empty_dvc_project: Path, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    return make(empty_dvc_project, tmp_path_factory.mktemp("lineage") / "study", repository)


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "study", symlinks=True))


def md5(text: str | bytes) -> str:
    return hashlib.md5(text if isinstance(text, bytes) else text.encode(), usedforsecurity=False).hexdigest()


def stage(found: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in found["stages"] if one["stage"] == name)


def changes(stages: list[StageComparison]) -> dict[str, dict[str, str]]:
    """Stage -> path -> state of the files that are not the same."""
    files = {one.stage: {file.path: file.state for file in one.files if file.state != "same"} for one in stages}
    return {name: states for name, states in files.items() if states}


def edit_params(project: Path, section: str, key: str, value: object) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text())
    params[section][key] = value
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))


def test_digests_are_those_that_dvc_documents(project: Path) -> None:
    listed = [{"md5": md5(name), "relpath": f"{name}.png"} for name in "ab"]
    folder = f"{md5(json.dumps(listed))}.dir"
    with Digests(project) as digests:
        assert digests.of("raw/a.png") == md5("a")
        assert digests.of("raw") == folder
        assert digests.of("raw/c.png") is None
        captions = digests.of("data/captions")
        assert captions is not None
        assert digests.cached(captions)
        table = md5((project / "data/captions/captions.parquet").read_bytes())
        assert (digests.members(captions) or {})["captions.parquet"] == table
        assert not digests.cached(folder)  # DVC keeps outputs alone


def test_a_record_has_every_stage_with_its_files_settings_and_code(project: Path) -> None:
    found = record(project, "clip")
    assert [one["stage"] for one in found["stages"]] == STAGES
    assert (found["fault"], [one["fault"] for one in found["stages"]]) == (None, [None] * 4)
    assert (found["commit"], found["dirty"]) == (git(project, "rev-parse", "HEAD"), "false")
    output, prompts = stage(found, "captions")["files"]
    sums = (project / "data/captions/SHA256SUMS").read_bytes()
    assert (output["path"], output["sha256"]) == ("data/captions", hashlib.sha256(sums).hexdigest())
    assert output["rows"] == {"captions": 2}  # a table and a prompt
    assert (prompts["path"], prompts["kind"], prompts["setting"]) == ("prompts", "input", "captions.prompts")
    assert prompts["members"] == {"region.txt": hashlib.sha256(b"Which?").hexdigest()}
    source = stage(found, "ingest@clinic")
    assert source["licence"] == "CC0-1.0"
    raw = source["files"][1]
    assert (raw["files"], raw["bytes"], "members" in raw) == (2, 2, False)
    assert stage(found, "train@clip")["params"] == {"train.methods.clip": {"epochs": 3}}
    text = (project / "data/code/train@clip.txt").read_text()
    assert stage(found, "train@clip")["code"] == from_text(text)
    json.dumps(found)


def test_a_record_holds_no_path_of_the_machine(project: Path, repository: Path) -> None:
    (project / "raw").rename(project.parent / "outside")
    sources = yaml.safe_load((project / "params.yaml").read_text())["ingest"]["sources"]
    sources["clinic"]["root"] = str(project.parent / "outside")
    edit_params(project, "ingest", "sources", sources)
    repro(project, repository)
    found = record(project, "clip")
    assert str(project.parent) not in json.dumps(found)
    assert stage(found, "ingest@clinic")["files"][1]["path"] == "outside"
    assert changes(compare(found["stages"], project)) == {}
    key = {"patient key /home/me/keys/patient.key": "1" * 64, "a.py": "2" * 64}
    assert without_key_path(key) == {"patient key": "1" * 64, "a.py": "2" * 64}


def test_a_stage_that_ran_again_since_is_not_told_as_that_of_the_checkpoint(project: Path, repository: Path) -> None:
    before = record(project, "clip")
    (project / "prompts/region.txt").write_text("Where?")
    repro(project, repository, "captions")
    found = record(project, "clip")
    captions = stage(found, "captions")
    assert "not known" in captions["fault"]
    # What training read is known all the same.
    (read,) = captions["files"]
    assert (read["path"], read["md5"]) == ("data/captions", stage(before, "captions")["files"][0]["md5"])
    assert (captions["params"], captions["code"]) == ({}, None)
    assert [one["stage"] for one in found["stages"]] == STAGES[:3]
    assert stage(found, "train@clip") == stage(before, "train@clip")


def test_the_lock_says_how_things_were_named_not_params_of_today(project: Path, repository: Path) -> None:
    before = record(project, "clip")
    (project / "raw").rename(project / "moved")
    source = {"adapter": "table", "root": "moved", "licence": "MIT", "patient_ids": "public"}
    edit_params(project, "ingest", "sources", {"clinic": source})
    found = stage(record(project, "clip"), "ingest@clinic")
    assert (found["licence"], found["files"][1]["setting"]) == ("CC0-1.0", "ingest.sources.clinic.root")
    # The walk looks for the files where the source has them now.
    assert changes(compare(before["stages"], project)) == {}


def test_a_commit_is_told_only_of_the_code_that_trained(project: Path, repository: Path) -> None:
    fingerprint = project / "data/code/train@clip.txt"
    fingerprint.write_text(f"models/gone.py: {'0' * 64}\n{fingerprint.read_text()}")
    repro(project, repository)
    found = record(project, "clip")
    assert (found["fault"], found["commit"], found["dirty"]) == (None, "unknown", "unknown")


def test_scores_on_other_captions_than_those_of_the_training_are_told(project: Path) -> None:
    lock = yaml.safe_load((project / "dvc.lock").read_text())
    dependencies = lock["stages"]["evaluate@clip"]["deps"]
    dependencies.append({"path": "data/captions", "hash": "md5", "md5": f"{'0' * 32}.dir"})
    (project / "dvc.lock").write_text(yaml.safe_dump(lock))
    found = record(project, "clip")
    assert found["stages"][0]["fault"] == "it scored on other shards than those that training read"
    assert [one["fault"] for one in found["stages"][1:]] == [None] * 3


def test_a_checkpoint_that_dvc_did_not_train_has_no_lineage(project: Path) -> None:
    (project / "data/checkpoints/clip/config.json").write_text("by hand")
    found = record(project, "clip")
    assert (found["fault"], found["stages"]) == (
        "dvc.lock is of another checkpoint than the one in data/checkpoints/clip",
        [],
    )
    (project / "dvc.lock").unlink()
    assert "trained without DVC" in record(project, "clip")["fault"]


def test_nothing_differs_from_an_untouched_workspace(project: Path) -> None:
    stages = compare(record(project, "clip")["stages"], project)
    assert [(one.stage, one.same) for one in stages] == [(name, True) for name in STAGES]
    assert [one.licence for one in stages] == [None, None, None, "CC0-1.0"]


def test_a_changed_prompt_is_named_and_so_is_what_it_changed(project: Path, repository: Path) -> None:
    stages = record(project, "clip")["stages"]
    (project / "prompts/region.txt").write_text("Where?")
    (project / "prompts/new.txt").write_text("More.")
    assert changes(compare(stages, project)) == {"captions": {"prompts": "changed"}}
    repro(project, repository, "captions")
    found = compare(stages, project)
    assert changes(found) == {"captions": {"data/captions": "changed", "prompts": "changed"}}
    table, prompts = found[2].files
    assert prompts.members == {"new.txt": "added", "region.txt": "changed"}
    assert (table.then["rows"], table.now["rows"]) == ({"captions": 2}, {"captions": 3})
    assert table.now["md5"] != table.then["md5"]
    assert table.now["sha256"] != table.then["sha256"]
    assert (table.cached, prompts.cached) == (True, False)
    assert [one.same for one in found] == [True, True, False, True]


def test_what_is_gone_is_told_with_whether_the_cache_has_it(project: Path) -> None:
    stages = record(project, "clip")["stages"]
    shutil.rmtree(project / "data/checkpoints/clip")
    shutil.rmtree(project / "raw")
    found = compare(stages, project)
    assert changes(found) == {
        "train@clip": {"data/checkpoints/clip": "missing"},
        "ingest@clinic": {"raw": "missing"},
    }
    assert found[1].files[0].cached is True
    shutil.rmtree(project / ".dvc/cache")
    assert compare(stages, project)[1].files[0].cached is False


def test_settings_sources_and_code_that_changed_are_named(project: Path) -> None:
    stages = record(project, "clip")["stages"]
    edit_params(project, "captions", "seed", 1)
    edit_params(project, "train", "methods", {"clip": {"epochs": 3, "batch_size": 8}})
    code = stages[1]["code"]
    code[next(iter(code))] = "0" * 64
    code["models/gone.py"] = "0" * 64
    found = compare(stages, project)
    assert found[2].params == {"captions.seed": ["0", "1"]}
    assert found[1].params == {"train.methods.clip.batch_size": [None, "8"]}
    assert found[1].code == {next(iter(code)): "changed", "models/gone.py": "missing"}
    # A source of this study that is no more: its rows and its settings.
    edit_params(project, "ingest", "sources", {"other": {"adapter": "table", "root": "raw"}})
    source = compare(stages, project)[3]
    assert source.fault == "params.yaml has no such stage now"
    assert {file.path: file.state for file in source.files} == {"data/ingest/clinic": "same", "raw": "missing"}
    assert source.params["ingest.sources.clinic.licence"] == ["CC0-1.0", None]
    assert not source.same


def test_a_table_whose_list_of_digests_is_damaged_is_compared_all_the_same(project: Path) -> None:
    stages = record(project, "clip")["stages"]
    folder = project / "data/captions"
    pq.write_table(pyarrow.table({"digest": ["x"]}), folder / "captions.parquet")
    seal(folder)
    (folder / "SHA256SUMS").unlink()
    (table,) = [file for file in compare(stages, project)[2].files if file.kind == "output"]
    assert (table.state, table.now["rows"], "sha256" in table.now) == ("changed", {"captions": 1}, False)


def test_a_folder_that_is_no_workspace_is_one_line(project: Path, tmp_path: Path) -> None:
    stages = record(project, "clip")["stages"]
    shutil.copy(project / "params.yaml", tmp_path)
    with pytest.raises(UserError, match=r"^[^\n]*DVC[^\n]*$"):
        compare(stages, tmp_path)

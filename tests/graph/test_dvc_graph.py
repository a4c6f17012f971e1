"""The graph of dvc.yaml, run for real on a handful of images: what reruns, what does not, and that bytes come back."""

import json
import re
import shutil
import sys
from pathlib import Path

import pandas
import pytest
from PIL import Image

from pipelines.code.fingerprint import FOLDER, from_text, stage_name
from tests.graph.project import FIRST_KEY, METHODS, SECOND_KEY, Project

pytestmark = pytest.mark.slow

TRAINED = {f"{stage}@{method}" for stage in ("train", "evaluate") for method in METHODS}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Project:
    project = Project(tmp_path_factory.mktemp("graph") / "first", repository)
    ran = project.repro()
    expected = {"code", "phantom", "ingest@phantom", "ingest@mine", "split", "proposals", "regions", "captions"}
    assert ran == expected | {"image_shards", "caption_shards", "report"} | TRAINED
    return project


def test_counts_add_up_in_every_stage(project: Project) -> None:
    summaries = [json.loads(file.read_text()) for file in (project.folder / "data" / "summaries").glob("*.json")]
    assert len(summaries) == 15
    for summary in summaries:
        assert summary["inputs"] == sum(summary[name] for name in ("ok", "rejected", "failed", "duplicates")), summary
    assert (project.folder / "data" / "report" / "index.html").is_file()


def test_what_each_stage_imported_stands_in_its_fingerprint(project: Project) -> None:
    imported = {file.name: set(file.read_text().splitlines()) for file in project.notes.iterdir()}
    faults, stages = [], set()
    for command, files in imported.items():
        package, *arguments = command.split("@")
        if (stage := stage_name(f"{package}.stage", arguments)) is None:
            assert package == "pipelines.code"
            continue
        stages.add(stage)
        listed = from_text((project.folder / FOLDER / f"{stage}.txt").read_text())
        # The registry says where a plug-in is found, never what it does.
        ours = {file for file in files if file.startswith(("pipelines/", "models/"))} - {"pipelines/registry.py"}
        faults += [f"{stage} imports {file}" for file in ours - listed.keys()]
    assert len(stages) == 14
    assert not sorted(faults)


def test_a_second_run_does_nothing_and_deleted_shards_come_back(project: Project) -> None:
    before = project.digests()
    assert project.repro() == set()
    assert project.stale() == set()
    shutil.rmtree(project.folder / "data" / "shards")
    assert project.repro() == set()
    assert project.digests() == before


def test_two_runs_from_nothing_give_the_same_bytes(project: Project, repository: Path) -> None:
    second = Project(project.folder.parent / "second", repository)
    second.repro()
    first = project.digests()
    assert {Path(name).suffix for name in first} == {".parquet", ".tar", ".safetensors", ".json", ".png"}
    assert second.digests() == first


def edited(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


def test_a_methods_module_reruns_that_method_alone(project: Project) -> None:
    before = project.digests()
    edited(project.folder / "models" / "clip" / "model.py", "\n# A comment changes no weight.\n")
    assert project.stale() == {"code"}
    assert project.status() == {
        "code": "models modified",
        "train@clip": "models/clip/model.py changed",
        "evaluate@clip": "models/clip/model.py changed",
        "report": "if train@clip writes other bytes; if evaluate@clip writes other bytes",
    }
    assert project.repro() == {"code", "train@clip", "evaluate@clip"}
    assert project.digests() == before
    assert project.status() == {}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("models/losses.py", TRAINED),
        ("models/words.py", set()),
        ("models/segmentation/blocks.py", set()),
        ("pipelines/chat/client.py", set()),
        ("prompts/findings/report.txt", {"captions"}),
    ],
)
def test_an_edit_makes_stale_what_runs_it(project: Project, file: str, stages: set[str]) -> None:
    path = project.folder / file
    original = path.read_text()
    path.write_text(f"{original}# Nothing new.\n")
    project.repro("code")
    assert project.stale() == stages
    assert {stage for stage, why in project.status().items() if not why.startswith("if ")} == stages
    path.write_text(original)


def test_a_stage_refuses_code_that_its_fingerprint_does_not_list(project: Project) -> None:
    assert project.repro() == set()
    before = project.digests()
    module = project.folder / "pipelines" / "phantom" / "text.py"
    original = module.read_text()
    edited(module, "\n# Another phantom.\n")
    line = "error: phantom: pipelines/phantom/text.py changed since `dvc repro code`: run `dvc repro code`\n"
    assert line in project.fails("dvc", "repro", "--force", "--single-item", "phantom")
    module.write_text(original)
    assert project.repro() == set()
    assert project.digests() == before


def test_a_prompt_reruns_captions_and_what_reads_them(project: Project) -> None:
    before = project.digests()
    prompt = project.folder / "prompts" / "findings" / "report.txt"
    original = prompt.read_text()
    prompt.write_text(original.rstrip("\n") + " Reviewed by nobody.\n")
    assert project.stale() == {"captions"}
    assert project.repro("captions", "caption_shards") == {"captions", "caption_shards"}
    changed = {name for name, digest in project.digests().items() if before[name] != digest}
    assert {Path(name).parts[1:3] for name in changed} == {("captions", "captions.parquet"), ("shards", "captions")}
    assert project.stale() == TRAINED | {"report"}
    # Taking the change back computes nothing.
    prompt.write_text(original)
    assert project.repro("captions", "caption_shards") == set()
    assert project.digests() == before


def test_another_patient_key_changes_the_column_patient_alone_and_is_in_no_store(project: Project) -> None:
    before, columns = project.digests(), {}
    tables = [project.folder / "data" / name / "images.parquet" for name in ("ingest/mine", "split")]
    for key in (FIRST_KEY, SECOND_KEY):
        (project.folder / "keys" / "patient.key").write_bytes(key)
        project.repro("image_shards", "caption_shards")
        columns[key] = [pandas.read_parquet(table) for table in tables]
    changed = {name for name, digest in project.digests().items() if before[name] != digest}
    assert changed == {table.relative_to(project.folder).as_posix() for table in tables}
    for first, second in zip(columns[FIRST_KEY], columns[SECOND_KEY], strict=True):
        mine = first["source"] == "mine"
        assert mine.any()
        assert (first["patient"] != second["patient"])[mine].all()
        assert first.drop(columns="patient").equals(second.drop(columns="patient"))
    # Equal shards: no method is trained again.
    assert project.stale() == {"report"}
    stored = [file for file in (project.folder / ".dvc").rglob("*") if file.is_file()]
    assert stored
    assert not [file for file in stored if SECOND_KEY in file.read_bytes()]
    assert "patient.key" not in project.run("git", "ls-files", "keys")

    (project.folder / "keys" / "patient.key").unlink()
    line = "error: keys/patient.key not found, which confidential patient ids are hashed with: copy it here if"
    assert line in project.fails("dvc", "repro", "ingest@mine")
    (project.folder / "keys" / "patient.key").write_bytes(FIRST_KEY)
    project.repro("report")
    assert project.digests() == before


def test_no_raw_file_is_named_outside_the_tables(project: Project) -> None:
    project.run(sys.executable, "-m", "pipelines.tracking")
    names = [file.name.encode() for file in (project.folder / "data" / "raw").rglob("*") if file.is_file()]
    # Every sealed folder has a file of this name, the phantom's too.
    names = [name for name in names if name != b"SHA256SUMS"]
    shared = [
        file
        for folder in ("report", "shards", "mlflow", "checkpoints", "evaluation", "scores", "plots")
        for file in (project.folder / "data" / folder).rglob("*")
        if file.is_file()
    ]
    assert len(names) > 40
    assert len(shared) > 20
    # Whole names alone: 3.png of a source is the end of others.
    pattern = re.compile(rb"(?<![\w.-])(?:" + b"|".join(map(re.escape, names)) + rb")(?![\w-])")
    assert {file: found[0] for file in shared if (found := pattern.search(file.read_bytes()))} == {}


def test_a_raw_image_reruns_its_source_and_what_follows(project: Project) -> None:
    picture = project.folder / "data" / "raw" / "mine" / "scans" / "3.png"
    Image.effect_mandelbrot((48, 40), (-1, -0.5, 0.5, 0.5), 30).save(picture)
    assert project.stale() == {"ingest@mine"}
    before = project.digests()
    ran = project.repro("image_shards", "caption_shards")
    assert ran == {
        "ingest@mine",
        "split",
        "proposals",
        "regions",
        "captions",
        "image_shards",
        "caption_shards",
    }
    assert project.stale() == TRAINED | {"report"}
    after = project.digests()
    untouched = {name for name in before if name.startswith(("data/raw/phantom", "data/ingest/phantom"))}
    assert all(after[name] == before[name] for name in untouched)
    assert after["data/ingest/mine/images.parquet"] != before["data/ingest/mine/images.parquet"]

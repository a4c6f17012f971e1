"""The graph of dvc.yaml, run for real on a handful of images: what reruns, what does not, and that bytes come back."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
import yaml
from PIL import Image

from models.verified import sha256_file
from pipelines.code.fingerprint import FOLDER, from_text, stage_name

pytestmark = pytest.mark.slow

METHODS = ("clip", "regionmed_clip")
FIRST_KEY, SECOND_KEY = (hashlib.sha256(word).digest() for word in (b"first", b"second"))
TRAINED = {f"{stage}@{method}" for stage in ("train", "evaluate") for method in METHODS}

# Python imports this module at every start. It notes which modules of the project a stage had imported when it ended.
NOTE_IMPORTS = """
import atexit, os, sys
if "-m" in sys.orig_argv and (name := sys.orig_argv[sys.orig_argv.index("-m") + 1]).startswith("pipelines."):
    stage = "@".join([name, *sys.orig_argv[sys.orig_argv.index("-m") + 2:]])
    def note():
        here = os.getcwd() + os.sep
        files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
        with open(os.path.join(os.environ["NOTES"], stage), "w") as notes:
            notes.write("\\n".join(sorted(file.removeprefix(here) for file in files if file.startswith(here))))
    atexit.register(note)
"""


class Project:
    """A copy of the repository's files with settings for a few seconds of work."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=repository,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if not name.startswith(("tests/", "benchmarks/", "docs/")) and (repository / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(repository / name, folder / name)
        (folder / "params.yaml").write_text(yaml.safe_dump(tiny(folder / "params.yaml"), sort_keys=False))
        self.notes, site = folder.parent / f"{folder.name}-notes", folder.parent / f"{folder.name}-site"
        self.notes.mkdir()
        site.mkdir()
        (site / "sitecustomize.py").write_text(NOTE_IMPORTS)
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(site),
            "NOTES": str(self.notes),
        }
        write_own_source(folder / "data" / "raw" / "mine")
        (folder / "keys" / "patient.key").write_bytes(FIRST_KEY)
        self.run("git", "init", "--quiet")
        self.run("git", "add", "--all")

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def fails(self, *command: str) -> str:
        """What a command that fails writes on standard error."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def repro(self, *targets: str) -> set[str]:
        """`dvc repro`; the stages whose command ran."""
        return set(re.findall(r"^Running stage '(.+)':$", self.run("dvc", "repro", *targets), re.MULTILINE))

    def stale(self) -> set[str]:
        """The stages that `dvc status` finds changed."""
        return set(json.loads(self.run("dvc", "status", "--json")))

    def status(self) -> dict[str, str]:
        """`make status`: the stages that would run, each with why."""
        lines = self.run(sys.executable, "-m", "pipelines.code", "status").splitlines()
        return {} if lines == ["everything is up to date"] else dict(line.split(": ", 1) for line in lines)

    def digests(self) -> dict[str, str]:
        """Every table, shard and checkpoint file."""
        files = [file for file in (self.folder / "data").rglob("*") if file.is_file() and "cache" not in file.parts]
        kept = {".parquet", ".tar", ".safetensors", ".json", ".png"}
        return {
            file.relative_to(self.folder).as_posix(): sha256_file(file)
            for file in sorted(files)
            if file.suffix in kept and not {"summaries", "report"} & set(file.parts)
        }


def tiny(file: Path) -> dict[str, Any]:
    params = yaml.safe_load(file.read_text())
    params["phantom"] |= {"images": 40, "size": 64}
    params["ingest"]["sources"]["mine"] = {"adapter": "table", "root": "data/raw/mine"}
    params["proposals"]["workers"] = 0
    params["split"]["fractions"] = {"train": 0.6, "validation": 0.1, "test": 0.3}
    params["shards"] |= {"image_size": 32, "crop_size": 16, "samples_per_shard": 16}
    params["train"]["engine"] |= {"num_workers": 0, "threads": 1}
    # Two methods show what one would not, and a third costs half a minute.
    params["train"]["methods"] = {name: params["train"]["methods"][name] for name in METHODS}
    for method in params["train"]["methods"].values():
        method["model"]["image_encoder"]["architecture"]["image_size"] = 32
        for phase in method["training"]["phases"].values():
            phase |= {"epochs": 1, "batch_size": 8, "warmup_steps": 0}
    params["evaluate"]["bootstrap"]["samples"] = 20
    return params


def write_own_source(folder: Path) -> None:
    (folder / "scans").mkdir(parents=True)
    rows = ["file_name,text,patient_id,modality"]
    for number in range(6):
        picture = Image.effect_mandelbrot((48, 40), (-2 + number / 3, -1, 0.5 + number / 9, 1), 30)
        picture.save(folder / "scans" / f"{number}.png")
        rows.append(f"scans/{number}.png,Picture {number} of a fractal.,P{number},other")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")


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
        ("pipelines/captions/captioners/vllm/client.py", set()),
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

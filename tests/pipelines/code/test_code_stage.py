"""The stage `code`: a fingerprint for each stage that params name, and plug-ins of installed packages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.code.config import load_code
from pipelines.code.fingerprint import FOLDER, from_text
from pipelines.code.stage import fingerprints
from pipelines.errors import UserError

READER = "from models import losses\nclass Reader:\n    pass\n"


@pytest.fixture
def study(tmp_path: Path, repository: Path) -> Path:
    shutil.copy(repository / "params.yaml", tmp_path / "params.yaml")
    # What the stage looks for besides.
    for folder in ("keys", "prompts/findings", "data/raw"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/review.jsonl").touch()
    (tmp_path / "data/audit.jsonl").touch()
    return tmp_path


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """What pip leaves of a package with a source, and another module beside it."""
    folder = tmp_path / "site"
    files = {
        "theirs/__init__.py": READER,
        "theirs/words.txt": "a",
        "helper.py": "",
        "theirs-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n",
        "theirs-1.0.dist-info/entry_points.txt": "[medregion.sources]\ntheirs = theirs:Reader\n",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    record = "".join(f"{name},,\n" for name in [*files, "../../../bin/theirs", "theirs/__pycache__/__init__.pyc"])
    (folder / "theirs-1.0.dist-info" / "RECORD").write_text(record)
    return folder


def run(study: Path, repository: Path, *words: str, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, filter(None, (site, repository))))
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=study,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def change(study: Path, **sections: Any) -> None:
    params = yaml.safe_load((study / "params.yaml").read_text())
    (study / "params.yaml").write_text(yaml.safe_dump(params | sections))


def listed(study: Path, stage: str) -> dict[str, str]:
    return from_text((study / FOLDER / f"{stage}.txt").read_text())


def test_each_stage_that_params_name_has_a_fingerprint(study: Path, repository: Path) -> None:
    change(study, train={"methods": {"siglip": {}}}, evaluate={"tasks": {"grounding": {}}})
    done = run(study, repository, "pipelines.code")
    assert done.returncode == 0, done.stderr
    names = {file.stem for file in (study / FOLDER).glob("*.txt")}
    single = {"phantom", "split", "proposals", "regions", "captions", "image_shards", "caption_shards", "report"}
    assert names == single | {"ingest@phantom", "train@siglip", "evaluate@siglip"}
    assert "models/siglip/model.py" in listed(study, "train@siglip")
    assert "models/clip/model.py" not in listed(study, "evaluate@siglip")
    assert "pipelines/evaluate/tasks/grounding.py" in listed(study, "evaluate@siglip")
    assert "pipelines/evaluate/tasks/zero_shot.py" not in listed(study, "evaluate@siglip")
    # The annotations always run beside the proposers that params name.
    assert "pipelines/proposals/proposers/annotations.py" in listed(study, "proposals")
    before = {file.name: file.read_bytes() for file in (study / FOLDER).iterdir()}
    run(study, repository, "pipelines.code")
    assert {file.name: file.read_bytes() for file in (study / FOLDER).iterdir()} == before


def test_it_imports_neither_torch_nor_pandas(study: Path, repository: Path) -> None:
    code = "import sys; from pipelines.code.stage import main; main(); print({'torch', 'pandas'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=study,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("set()\n")


def test_a_plug_in_of_an_installed_package_must_stand_in_params_as_it_is(
    study: Path, repository: Path, site: Path
) -> None:
    source = {"adapter": "theirs", "root": "data/raw"}
    change(study, ingest={"sources": {"mine": source}})
    refused = run(study, repository, "pipelines.code", site=site)
    assert (refused.returncode, refused.stdout) == (1, "")
    (entry,) = re.findall(
        r"^error: 'theirs' of the sources is not listed in params.yaml; write under plugins: `(theirs: \{.*\})`$",
        refused.stderr,
    )
    plugins = yaml.safe_load(entry)
    assert plugins["theirs"] | {"sha256": ""} == {"package": "theirs", "version": "1.0", "sha256": ""}

    change(study, plugins=plugins)
    done = run(study, repository, "pipelines.code", site=site)
    assert done.returncode == 0, done.stderr
    found = listed(study, "ingest@mine")
    assert found["theirs @ theirs==1.0"] == plugins["theirs"]["sha256"]
    # What it imports of ours decides its rows too, compiled Python and names of scripts do not.
    assert "models/losses.py" in found

    # Data of the package and its other modules count; a stage that starts without `dvc repro code` notices.
    (site / "helper.py").write_text("changed = True\n")
    line = "ingest@mine: theirs @ theirs==1.0 changed since `dvc repro code`: run `dvc repro code`"
    assert run(study, repository, "pipelines.ingest", "mine", site=site).stderr == f"error: {line}\n"
    refused = run(study, repository, "pipelines.code", site=site)
    assert "'theirs' of the sources is not installed as it is listed in params.yaml; write under" in refused.stderr


def test_a_package_without_a_list_of_files_counts_with_its_top_level_package(
    study: Path, repository: Path, site: Path
) -> None:
    """An editable install lists a path file alone."""
    (site / "theirs-1.0.dist-info" / "RECORD").write_text("__editable__.theirs.pth,,\n")
    change(study, ingest={"sources": {"mine": {"adapter": "theirs", "root": "data/raw"}}})

    def sha256() -> str:
        return re.findall(r'sha256: "(\w{64})"', run(study, repository, "pipelines.code", site=site).stderr)[0]

    first = sha256()
    (site / "helper.py").write_text("outside = True\n")
    assert sha256() == first
    (site / "theirs" / "words.txt").write_text("b")
    assert sha256() != first


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"ingest": {"sources": {"a": {"adapter": "tabel", "root": "data/raw"}}}},
            "'tabel' is not one of the sources: choose from",
        ),
        ({"train": {"methods": {"clap": {}}}}, "'clap' is not one of the methods: choose from ariadne"),
    ],
)
def test_a_plug_in_that_does_not_exist_is_one_line(
    study: Path, repository: Path, sections: dict[str, Any], message: str
) -> None:
    change(study, **sections)
    done = run(study, repository, "pipelines.code")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"error: {message}")
    assert not (study / FOLDER).exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"ingest": {"sources": {"a": {"root": "x"}}}}, r"has no ingest\.sources\.a\.adapter: see"),
        ({"ingest": {}}, r"has no ingest\.sources: see"),
        ({"proposals": {"proposers": "saliency"}}, r"proposals\.proposers holds 'saliency'; it should hold a list"),
        ({"plugins": {"a": {"package": "a", "version": "1", "sha": ""}}}, r"plugins\.a\.sha: unknown key"),
    ],
)
def test_mistakes_in_params_are_one_line(study: Path, sections: dict[str, Any], message: str) -> None:
    change(study, **sections)
    with pytest.raises(UserError, match=message):
        load_code(study / "params.yaml")


def test_an_entry_runs_the_code_of_the_method_that_it_names(study: Path) -> None:
    params = yaml.safe_load((study / "params.yaml").read_text())
    params["train"]["methods"] = {"clip": {}, "two_steps": {"method": "plan"}, "plan": None}
    (study / "params.yaml").write_text(yaml.safe_dump(params))
    config = load_code(study / "params.yaml")
    assert config.methods == {"clip": "clip", "two_steps": "plan", "plan": "plan"}
    found = fingerprints(config)
    for stage in ("train", "evaluate"):
        assert found[f"{stage}@two_steps"] == found[f"{stage}@plan"] != found[f"{stage}@clip"]
        assert "models/plan/model.py" in found[f"{stage}@two_steps"]
    params["train"]["methods"]["two_steps"]["method"] = 3
    (study / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.raises(UserError, match=r"methods\.two_steps: Input should be a valid string"):
        load_code(study / "params.yaml")


def test_params_without_a_section_for_plug_ins_are_valid(study: Path) -> None:
    params = yaml.safe_load((study / "params.yaml").read_text())
    del params["plugins"]
    (study / "params.yaml").write_text(yaml.safe_dump(params))
    assert load_code(study / "params.yaml").plugins == {}


def test_an_unknown_action_is_one_line(study: Path, repository: Path) -> None:
    done = run(study, repository, "pipelines.code", "stauts")
    assert done.stderr == "error: 'stauts' is no action: python -m pipelines.code, or python -m pipelines.code status\n"


def test_the_phantoms_fingerprint_says_whether_a_source_reads_it(study: Path, repository: Path) -> None:
    def line(**sources: Any) -> str:
        change(study, ingest={"sources": sources, "max_pixels": 1000})
        done = run(study, repository, "pipelines.code")
        assert done.returncode == 0, done.stderr
        return listed(study, "phantom")["read by a source"]

    mine = {"adapter": "table", "root": "data/raw/../raw"}
    (study / "other").mkdir()
    assert line(phantom={"adapter": "table", "root": "./data/raw/phantom/"}) == "yes"
    assert line(part={"adapter": "table", "root": "data/raw/phantom/images"}) == "yes"
    assert line(all=mine) == "yes"
    assert line(other=mine | {"root": "other"}) == "no"
    assert line(other=mine | {"root": "other", "limit": 3}) == "no"


def test_the_phantom_is_not_drawn_where_no_source_reads_it(study: Path, repository: Path) -> None:
    (study / "other").mkdir()
    change(study, ingest={"sources": {"a": {"adapter": "table", "root": "other"}}, "max_pixels": 1000})
    for stage in ("pipelines.code", "pipelines.phantom"):
        done = run(study, repository, stage)
        assert done.returncode == 0, done.stderr
    assert "no source of params.yaml reads data/raw/phantom: nothing is drawn" in done.stderr
    assert [file.name for file in (study / "data/raw/phantom").iterdir()] == ["SHA256SUMS"]
    # Now one reads it: without `dvc repro code` the stage refuses to run.
    change(study, ingest={"sources": {"a": {"adapter": "table", "root": "data/raw/phantom"}}, "max_pixels": 1000})
    assert (
        "phantom: read by a source changed since `dvc repro code`" in run(study, repository, "pipelines.phantom").stderr
    )

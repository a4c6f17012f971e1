"""What params.yaml names for dvc.yaml and is not there: one line that names the key."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.code.graph import read_graph
from pipelines.code.paths import check_paths
from pipelines.errors import TemporaryError, UserError
from tests.s3_server import BUCKET, S3Server

GRAPH = "stages: {a: {cmd: 'true'}}\n"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study whose paths are all there: a folder, an archive and the phantom, which a stage draws."""
    for folder in ("keys", "prompts", "raw/folder"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("audit.jsonl", "review.jsonl", "raw/archive.zip"):
        (tmp_path / file).touch()
    write(tmp_path)
    return tmp_path


def write(study: Path, key: str = "", value: Any = None) -> None:
    """params.yaml with one key changed."""
    roots = {"a": "raw/folder", "b": "raw/archive.zip", "phantom": "data/raw/phantom"}
    params: dict[str, Any] = {
        "ingest": {"keys": "keys", "sources": {name: {"root": root} for name, root in roots.items()}},
        "captions": {"prompts": "prompts"},
        "regions": {"review": "review.jsonl"},
        "audit": {"answers": "audit.jsonl"},
    }
    *sections, name = key.split(".")
    place = params
    for section in sections:
        place = place[section]
    if key:
        place[name] = value
    (study / "params.yaml").write_text(yaml.safe_dump(params))


def line(study: Path) -> str:
    with pytest.raises(UserError) as caught:
        check_paths(study)
    return str(caught.value).removeprefix(f"{study}/")


def test_paths_that_are_there_pass_and_so_does_a_folder_without_params(study: Path, tmp_path: Path) -> None:
    check_paths(study)
    (study / "params.yaml").write_text("phantom: {}\n")
    check_paths(study)
    (study / "params.yaml").unlink()
    check_paths(study)


@pytest.mark.parametrize(
    ("key", "needed"),
    [
        ("ingest.sources.a.root", "the folder or archive with the source's files"),
        ("ingest.sources.b.root", "the folder or archive with the source's files"),
        ("ingest.keys", "the folder of the key for patient ids, such as keys"),
        ("captions.prompts", "a folder of prompts, such as prompts/findings"),
        ("regions.review", "the file of review labels, which may be empty, such as data/review.jsonl"),
        ("audit.answers", "the file of the audit's answers, which may be empty, such as data/audit.jsonl"),
    ],
)
def test_each_key_is_named_with_what_is_wrong(study: Path, key: str, needed: str) -> None:
    write(study, key, "gone")
    assert line(study) == f"params.yaml: {key}: gone is not there; it should name {needed}"
    (study / "gone").symlink_to("nowhere")
    assert f"params.yaml: {key}: gone is a link to nowhere, which is not there; " in line(study)
    (study / "gone").unlink()
    (study / "gone.dvc").touch()
    assert f"params.yaml: {key}: gone is not here, only its pointer for DVC (run `dvc checkout`" in line(study)
    write(study, key, 7)
    assert line(study) == f"params.yaml: {key} holds 7; it should name {needed}"
    write(study, key, None)
    assert f"params.yaml: {key} holds None; it should name" in line(study)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_forbidden_folder_is_one_line(study: Path) -> None:
    (study / "raw/folder").chmod(0)
    assert "raw/folder cannot be opened by you (permission denied)" in line(study)


def test_the_graph_is_not_read_without_them(study: Path) -> None:
    (study / "dvc.yaml").write_text(GRAPH)
    write(study, "ingest.sources.a.root", "gone")
    with pytest.raises(UserError, match=r"ingest\.sources\.a\.root: gone is not there"):
        read_graph(study)


def test_a_source_on_storage_is_asked_for(
    study: Path, s3: S3Server, forget: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.storage().pipe_file(f"{BUCKET}/paths/a.png", b"a")
    write(study, "ingest.sources.a.root", f"s3://{BUCKET}/paths")
    check_paths(study)
    for root, said in (
        (f"s3://{BUCKET}/other", f"s3://{BUCKET}/other is not there: see the names of bucket and folder"),
        ("ftp://host/raw", "root: ftp is no storage that can be read: choose from s3, http, https"),
        ("s3://key:secret@bucket/raw", "root: the URL holds a login: remove it"),
    ):
        write(study, "ingest.sources.a.root", root)
        assert line(study).startswith(f"params.yaml: ingest.sources.a: {said}")
        assert "secret" not in line(study)
    monkeypatch.setattr("pipelines.storage.WAITS_S", (0.01,))
    write(study, "ingest.sources.a.root", "http://127.0.0.1:9/raw.zip")
    with pytest.raises(TemporaryError, match=r"ingest\.sources\.a: .*does not answer"):
        check_paths(study)

"""What DVC sees of a source in a bucket: its names and ETags, by a listing, without its bytes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipelines.dvc_digests import Digests
from pipelines.dvc_stages import digest_in, locked_stages
from tests.s3_server import BUCKET, S3Server

# As the stage `ingest` in the project's dvc.yaml.
GRAPH = {
    "stages": {
        "ingest": {
            "foreach": "${sources}",
            "do": {
                "cmd": "echo ran > ${key}.txt",
                "deps": ["${item.root}"],
                "outs": [{"${key}.txt": {"cache": False}}],
            },
        }
    }
}


def dvc(project: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_dvc_reruns_what_reads_a_folder_or_archive_that_changed(
    tmp_path: Path, s3: S3Server, forget: Callable[[], None]
) -> None:
    top = f"{BUCKET}/{tmp_path.name}"
    for name in ("raw/a.png", "raw/in/b.png", "raw.zip"):
        s3.storage().pipe_file(f"{top}/{name}", name.encode())
    folder, archive = f"s3://{top}/raw", f"s3://{top}/raw.zip"
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(GRAPH))
    sources = {"folder": {"root": folder}, "archive": {"root": archive}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"sources": sources}))
    dvc(tmp_path, "init", "--no-scm")
    dvc(tmp_path, "repro")
    assert json.loads(dvc(tmp_path, "status", "--json")) == {}
    locked = {name: entry["deps"][0] for name, entry in locked_stages(tmp_path).items()}
    assert (locked["ingest@folder"]["nfiles"], locked["ingest@folder"]["size"]) == (2, 21)
    with Digests(tmp_path) as digests:
        for url, name in ((folder, "ingest@folder"), (archive, "ingest@archive")):
            assert digests.of(url) == digest_in(locked[name])
        assert digests.of("s3://elsewhere/raw") is None
    s3.storage().pipe_file(f"{top}/raw/in/b.png", b"other bytes!!")
    assert list(json.loads(dvc(tmp_path, "status", "--json"))) == ["ingest@folder"]
    s3.storage().pipe_file(f"{top}/raw.zip", b"another")
    assert sorted(json.loads(dvc(tmp_path, "status", "--json"))) == ["ingest@archive", "ingest@folder"]

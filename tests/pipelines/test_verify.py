"""`python -m pipelines.verify` on a small DVC project with a damaged disk."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.files import write_summary
from tests.conftest import dvc


def flip(file: Path, at: int) -> None:
    """One bit, and the times stay, as on a bad disk."""
    status, data = file.stat(), bytearray(file.read_bytes())
    data[at] ^= 1
    file.chmod(0o644)
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def verify(project: Path, repository: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(repository)}
    words = [sys.executable, "-m", "pipelines.verify"]
    return subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def project(dvc_project: Callable[[str], Path], repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    script = (
        "from pathlib import Path; from pipelines.files import atomic_folder\n"
        "with atomic_folder(Path('data/made')) as folder: (folder / 'values.txt').write_text('0123456789' * 100)\n"
    )
    made = dvc_project(
        f"stages:\n  make:\n    cmd: {sys.executable} make.py\n    deps: [raw.txt]\n    outs: [data/made]\n"
    )
    (made / "make.py").write_text(script)
    dvc(made, "repro")
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "text"), [("params.yaml", "\tx"), ("dvc.yaml", "stages: ["), ("dvc.lock", "schema: '2")]
)
def test_what_dvc_cannot_read_is_one_line(project: Path, repository: Path, file: str, text: str) -> None:
    graph = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(f"vars: [params.yaml]\n{graph}")
    (project / "params.yaml").write_text("a: 1\n")
    (project / file).write_text(text)
    found = verify(project, repository)
    assert found.returncode == 1
    assert found.stderr.startswith("error: dvc.yaml cannot be used: ")
    assert found.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_damaged_summary_is_named(project: Path, repository: Path) -> None:
    write_summary(project / "data/summaries/make.json", {"stage": "make", "ok": 3})
    assert verify(project, repository).returncode == 0
    file = project / "data/summaries/make.json"
    file.write_text(file.read_text().replace("3", "4", 1))
    found = verify(project, repository)
    assert found.returncode == 1
    assert found.stdout.splitlines()[1:] == ["data/summaries/make.json has other content than was written"]


@pytest.mark.slow
def test_a_damaged_object_of_the_cache_is_named_and_made_anew(project: Path, repository: Path) -> None:
    sound = verify(project, repository)
    # Of the folder: the file, its digests, and DVC's list of both.
    assert sound.returncode == 0
    assert sound.stdout == "1 folders of outputs and 3 objects of DVC's cache hashed, 0 damaged\n"

    whole = (project / "data/made/values.txt").read_bytes()
    (cached,) = (file for file in (project / ".dvc/cache/files/md5").glob("??/*") if file.read_bytes() == whole)
    flip(cached, 500)
    shutil.rmtree(project / "data/made")
    dvc(project, "repro")
    assert (project / "data/made/values.txt").read_bytes() != whole  # DVC checked the damaged object out
    found = verify(project, repository)
    assert found.returncode == 1
    named = found.stdout.splitlines()[1:]
    assert [line.partition(" has other bytes")[0] for line in named] == [
        str(project.resolve() / "data/made/values.txt"),
        str(cached.resolve()),
    ]
    assert found.stderr.count("\n") == 1
    assert found.stderr.startswith("error: delete each file that is named above")

    cached.unlink()
    shutil.rmtree(project / "data/made")
    dvc(project, "repro")
    assert (project / "data/made/values.txt").read_bytes() == whole
    assert verify(project, repository).returncode == 0

"""Commands on a disk that is full, limited or forbidden, and defects: one line, exit code 1, and the next run is fine.

Each runs in a process of its own. A limit on the size of files stands for a full disk: the system refuses the write.
"""

import errno
import os
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException

from pipelines.boundary import disk_line, network_line
from pipelines.files import atomic_folder

# A stage of the study's own folders, which writes as all of them do.
STAGE = """
import sys
from pathlib import Path
from pipelines.files import atomic_folder, write_json
from pipelines.records import REJECTED, RejectedRow

def main(kind: str = "table") -> None:
    if kind == "defect":
        raise ZeroDivisionError("a defect")
    if kind == "missing":
        Path("data/split/images.parquet").read_bytes()
    rows = [RejectedRow(source="s", row=str(n), path=None, reason="r", detail=str(hash(str(n)))) for n in range(20_000)]
    if kind == "table":
        REJECTED.write(Path("data/demo.parquet"), rows)
    if kind == "folder":
        with atomic_folder(Path("data/demo")) as folder:
            REJECTED.write(folder / "rejected.parquet", rows)
    if kind == "json":
        write_json(Path("data/demo.json"), list(range(20_000)))
    if kind == "tar":
        import tarfile
        with atomic_folder(Path("data/demo")) as folder, tarfile.open(folder / "a.tar", "w") as archive:
            archive.add(sys.executable, "python")
    if kind == "weights":
        import torch
        with atomic_folder(Path("data/demo")) as folder:
            torch.save({"a": torch.zeros(20_000)}, folder / "a.pt")
    if kind == "safetensors":
        import numpy, safetensors.numpy
        with atomic_folder(Path("data/demo")) as folder:
            safetensors.numpy.save_file({"a": numpy.zeros(20_000)}, folder / "a.safetensors")
"""
LIMITED = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "


@pytest.fixture
def study(tmp_path: Path) -> Path:
    package = tmp_path / "demo"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "stage.py").write_text(STAGE)
    (package / "__main__.py").write_text('from pipelines.stage import command\n\ncommand("demo.stage")\n')
    (tmp_path / "params.yaml").write_text("split: {}\n")
    (tmp_path / "data").mkdir()
    return tmp_path


def run(repository: Path, folder: Path, *words: str, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    # Python itself ignores SIGXFSZ, so that a file beyond the limit is an error and not the end.
    start = LIMITED.format(limit=limit) if limit is not None else "import runpy; "
    code = f"{start}import sys; sys.argv = {['', *words[1:]]!r}; runpy.run_module({words[0]!r}, run_name='__main__')"
    path = os.pathsep.join([str(repository), str(folder)])
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *said: str) -> None:
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert [words for words in said if words not in lines[0]] == [], lines[0]


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("table", "data/demo.parquet"),
        ("folder", "data/demo/rejected.parquet"),
        ("json", "data/demo.json"),
        ("tar", "data/demo"),
        ("safetensors", "data/demo"),
    ],
)
def test_a_file_beyond_the_limit_is_one_line_and_the_next_run_is_fine(
    repository: Path, study: Path, kind: str, named: str
) -> None:
    done = run(repository, study, "demo", kind, limit=8192)
    assert_one_line(done, "larger than a file may be here", "ulimit -f", named)
    assert [path for path in (study / "data").rglob("*") if path.is_file()] == []
    assert run(repository, study, "demo", kind).returncode == 0


def test_a_stage_of_ours_on_a_limited_disk_is_one_line(repository: Path, tmp_path: Path) -> None:
    text = (repository / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text)
    for folder in ("keys", "prompts/findings", "data"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "data/review.jsonl").touch()
    (tmp_path / "data/audit.jsonl").touch()
    code = run(repository, tmp_path, "pipelines.code", limit=200)
    assert_one_line(code, "larger than a file may be here", "data/code")


@pytest.mark.parametrize(
    ("imports", "said"),
    [
        ("import tempfile; tempfile.gettempdir()", "no folder for temporary files can be written to"),  # as torch does
        ("import no_such_package", "ModuleNotFoundError, a defect"),
    ],
)
def test_what_the_import_of_a_stage_raises_is_one_line(repository: Path, study: Path, imports: str, said: str) -> None:
    (study / "demo/stage.py").write_text(f"{imports}\n{STAGE}")
    done = run(repository, study, "demo", "json", limit=0)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {said}")


def test_a_copy_names_the_file_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    error = OSError(errno.ENOSPC, "No space left on device", "source.bin", None, "full/copy.bin")
    assert str(disk_line(error)).startswith("full: no space left on its disk")


def test_an_output_that_is_a_disk_of_its_own_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    line = str(disk_line(OSError(errno.EBUSY, "Device or resource busy", "out")))
    assert line.startswith("out: it is a disk of its own, or in use, and cannot be replaced")


def test_an_error_of_a_library_without_a_file_gets_the_one_that_was_to_be(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught, atomic_folder(tmp_path / "out"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert str(disk_line(caught.value)).startswith(f"{tmp_path}: no space left on its disk")


@pytest.mark.parametrize(
    ("error", "cause", "temporary"),
    [
        (ConnectionResetError("reset"), None, True),
        (TimeoutError("timed out"), None, True),
        (socket.gaierror(-3, "Temporary failure in name resolution"), None, True),
        (requests.ConnectionError("pool"), ConnectionRefusedError(111, "refused"), True),
        (MlflowException("API request failed"), ConnectionRefusedError(111, "refused"), True),
        (MlflowException("no such model"), None, False),
        (ValueError("a defect while a server was down"), ConnectionRefusedError(111, "refused"), False),
        (BrokenPipeError(32, "the reader of our output ended"), None, False),
        (FileNotFoundError(2, "No such file"), None, False),
    ],
)
def test_a_server_or_network_that_failed_is_told_from_a_defect(
    error: Exception, cause: Exception | None, temporary: bool
) -> None:
    error.__context__ = cause  # as of an error that is raised while another is handled
    line = network_line(error)
    assert (line is not None) == temporary
    assert line is None or line.endswith("run the command again")


def test_a_file_in_the_place_of_a_folder_is_one_line(repository: Path, study: Path) -> None:
    (study / "data" / "demo.parquet").mkdir()
    (study / "data" / "demo.parquet" / "x").touch()
    assert_one_line(run(repository, study, "demo", "table"), "data/demo.parquet", "move it away")


def test_a_missing_input_is_one_line_with_the_command_that_makes_it(repository: Path, study: Path) -> None:
    done = run(repository, study, "demo", "missing")
    assert_one_line(done, "data/split/images.parquet: not found: run `dvc repro`")


def test_a_defect_is_one_line_and_its_traceback_in_the_log(repository: Path, study: Path) -> None:
    assert_one_line(run(repository, study, "demo", "defect"), "ZeroDivisionError", "data/logs/demo.log")
    text = (study / "data" / "logs" / "demo.log").read_text()
    assert text.startswith("Traceback")
    assert text.endswith("ZeroDivisionError: a defect\n")


def test_a_defect_whose_log_cannot_be_written_keeps_its_traceback_on_the_terminal(
    repository: Path, study: Path
) -> None:
    (study / "data" / "logs").touch()
    done = run(repository, study, "demo", "defect")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "ZeroDivisionError: a defect\nerror: ZeroDivisionError" in done.stderr


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EIO, "check the disk"),
        (errno.EMFILE, "ulimit -n"),
    ],
)
def test_each_fault_of_the_disk_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    line = disk_line(OSError(number, os.strerror(number), str(tmp_path / "data" / "new" / "a.tar")))
    assert line is not None
    assert line.startswith("data")
    assert words in line
    assert "\n" not in line


def test_errors_of_libraries_about_the_disk_are_known() -> None:
    full = sqlite3.connect(":memory:")
    full.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError) as caught:
        full.execute("CREATE TABLE a (b)")
    assert "free some space" in str(disk_line(caught.value))
    assert "free some space" in str(disk_line(RuntimeError("I/O error: No space left on device (os error 28)")))
    # What was being done when the disk was full, raised by a writer that could not close its file.
    error = RuntimeError("unexpected pos 64 vs 0")
    error.__context__ = OSError(errno.ENOSPC, "No space left on device", "/nowhere/a.pt")
    assert "free some space" in str(disk_line(error))
    assert disk_line(ZeroDivisionError()) is None
    assert disk_line(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) is None


def test_a_checkpoint_that_torch_cannot_write_is_one_line(repository: Path, study: Path) -> None:
    assert_one_line(run(repository, study, "demo", "weights", limit=8192), "free some space")

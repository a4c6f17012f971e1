"""Atomic writes: the new file whole, or the old one untouched. Digests against values made by hand."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models.verified import sha256_file
from pipelines.errors import UserError
from pipelines.files import (
    atomic_folder,
    atomic_path,
    digest_of,
    read_json,
    read_summary,
    sha256_files,
    sweep,
    sweep_beside,
    write_json,
    write_summary,
    write_text,
)


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


def fail_half_way(path: Path, error: type[BaseException]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def fail_half_way_in_a_folder(path: Path, error: type[BaseException]) -> None:
    with atomic_folder(path) as temporary:
        (temporary / "half.txt").write_text("half")
        raise error


def test_a_file_appears_whole_in_folders_that_it_makes(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent  # else the rename would be a copy
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error):
        fail_half_way(path, error)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_failed_first_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail_half_way(tmp_path / "file.txt", RuntimeError)
    assert names(tmp_path) == []


def test_a_folder_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "old.txt").write_text("old")
    with atomic_folder(path) as temporary:
        (temporary / "new.txt").write_text("new")
        assert (path / "deep" / "old.txt").read_text() == "old"
    assert names(path) == ["SHA256SUMS", "new.txt"]
    assert names(tmp_path) == ["folder"]
    assert path.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_folder_leaves_the_old_one_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old.txt").write_text("old")
    with pytest.raises(error):
        fail_half_way_in_a_folder(path, error)
    assert names(path) == ["old.txt"]
    assert names(tmp_path) == ["folder"]


def test_json_has_sorted_keys_and_keeps_its_letters(tmp_path: Path) -> None:
    path = tmp_path / "values.json"
    write_json(path, {"b": [1, None, 0.1], "a": "Größe"})
    assert path.read_text(encoding="utf-8") == ('{\n  "a": "Größe",\n  "b": [\n    1,\n    null,\n    0.1\n  ]\n}\n')
    assert read_json(path) == {"a": "Größe", "b": [1, None, 0.1]}


def test_a_summary_is_checked_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    write_summary(path, {"stage": "split", "ok": 3, "share": 0.1})
    # echo -n '{"ok":3,"share":0.1,"stage":"split"}' | sha256sum
    assert json.loads(path.read_text())["sha256"] == hashlib.sha256(b'{"ok":3,"share":0.1,"stage":"split"}').hexdigest()
    assert read_summary(path) == {"stage": "split", "ok": 3, "share": 0.1}
    whole = path.read_text()
    for damaged in (
        "{}",
        "[1]",
        "NaN",
        '{"ok": NaN}',
        "3",
        whole[:-5],
        whole.replace("3", "4", 1),
        whole.replace("0.1", "1e999"),
    ):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"split\.json is damaged: delete it and run `dvc repro`"):
            read_summary(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_cannot_say_is_refused_and_the_old_file_stays(tmp_path: Path, value: float) -> None:
    path = tmp_path / "values.json"
    write_text(path, "{}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"score": [value]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of({"score": value})
    assert path.read_text() == "{}\n"
    assert names(tmp_path) == ["values.json"]


def test_the_digest_of_a_file_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_digest_of_files_covers_names_and_bytes_and_no_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    one, two = tmp_path / "sub" / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    lines = f"sub/one\0{hashlib.sha256(b'1').hexdigest()}\ntwo\0{hashlib.sha256(b'2').hexdigest()}\n"
    expected = hashlib.sha256(lines.encode()).hexdigest()
    assert sha256_files(tmp_path, [one, two]) == expected
    assert sha256_files(tmp_path, [two, one]) == expected
    one.write_bytes(b"2")
    two.write_bytes(b"1")
    assert sha256_files(tmp_path, [one, two]) != expected


def test_the_digest_of_a_value_is_of_its_canonical_json() -> None:
    text = '{"a":[1,null,"ä"],"b":{"x":0.5,"y":true}}'
    assert digest_of({"b": {"y": True, "x": 0.5}, "a": [1, None, "ä"]}) == hashlib.sha256(text.encode()).hexdigest()
    assert json.loads(text)["a"][2] == "ä"


def test_what_is_written_into_a_study_lies_in_its_temporary_folder(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    output = tmp_path / "data" / "checkpoints" / "clip"
    with atomic_folder(output) as temporary:
        (temporary / "model.bin").write_bytes(b"new")
        assert temporary.is_relative_to(tmp_path / "data" / "tmp")
        assert names(output.parent) == []
    assert names(output.parent) == ["clip"]
    with atomic_path(tmp_path / "data" / "table.parquet") as file:
        assert file.parent == tmp_path / "data" / "tmp"
    assert names(tmp_path / "data" / "tmp") == []


KILLED = """
import os, signal
from pathlib import Path
from pipelines.files import atomic_folder, atomic_path
with atomic_folder(Path("data/made")) as folder, atomic_path(Path("data/one.txt")) as file:
    (folder / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_swept_and_that_of_a_running_one_stays(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "params.yaml").write_text("")
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert names(tmp_path / "data") == ["tmp"]
    assert len(names(tmp_path / "data" / "tmp")) == 2
    with atomic_path(tmp_path / "data" / "mine.txt") as file:
        sweep(tmp_path / "data")
        assert names(tmp_path / "data" / "tmp") == [file.name]


def test_what_a_killed_process_left_outside_of_a_study_is_swept_by_the_next(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "my~own~4~file").touch()
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path / "data")) == 3
    with atomic_path(tmp_path / "data" / "mine.txt") as file:
        sweep_beside(tmp_path / "data" / "made")
        assert names(tmp_path / "data") == sorted([file.name, "my~own~4~file"])


def test_a_disk_mounted_below_data_has_a_folder_of_its_own_for_what_is_written() -> None:
    """As a study's data/cache often is; a mount needs a namespace, so the commands run in one."""
    words = next(
        (
            words
            for words in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"])
            if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0
        ),
        None,
    )
    if words is None:
        pytest.skip("mounts are not allowed here")
    script = """
set -e
cd "$(mktemp -d)"; touch params.yaml; mkdir -p data/cache
mount -t tmpfs none data/cache
"$0" - <<'PYTHON'
from pathlib import Path
from pipelines.files import atomic_folder, sweep, write_text
write_text(Path("data/cache/train/state"), "a")
with atomic_folder(Path("data/cache/train/tokenizer")) as folder:
    (folder / "b").write_text("b")
print(sorted(str(path) for path in Path("data").rglob("*")))
import platform
left = Path("data/cache/tmp") / f"{platform.node()}~999999999~1~x"
left.touch()
sweep(Path("data"))
print(left.exists())
PYTHON
"""
    done = subprocess.run(
        [*words, "bash", "-c", script, sys.executable],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    files = ["cache", "cache/tmp", "cache/train", "cache/train/state", "cache/train/tokenizer"]
    files += ["cache/train/tokenizer/SHA256SUMS", "cache/train/tokenizer/b"]
    assert done.stdout.splitlines() == [str([f"data/{file}" for file in files]), "False"]

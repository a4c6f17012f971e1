"""Sealed folders: every flipped byte is noticed, and the list is one that `sha256sum` reads."""

import random
import subprocess
from pathlib import Path

import pytest

from models.verified import SUMS, DamagedError, open_verified, read_bytes, record, seal, verified_sha256, verify_folder

NAMES = ("a.bin", "deep/b.bin")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    for number, name in enumerate(NAMES):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(random.Random(number).randbytes(3000))
    seal(made)
    return made


def test_the_list_is_one_that_sha256sum_checks(folder: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "a.bin: OK\ndeep/b.bin: OK\n"
    assert done.stderr == ""


@pytest.mark.parametrize("name", [*NAMES, SUMS])
def test_a_flipped_bit_anywhere_is_noticed_by_every_reader_of_the_file(folder: Path, name: str) -> None:
    file = folder / name
    whole = file.read_bytes()
    for seed in range(60):
        place = random.Random(seed).randrange(8 * len(whole))
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        file.write_bytes(data)
        with pytest.raises(DamagedError, match=r"delete .*made and run `dvc repro`"):
            verify_folder(folder)
        if name == SUMS:
            with pytest.raises(DamagedError, match="SHA256SUMS is damaged"):
                read_bytes(folder / "a.bin")
            continue
        with pytest.raises(DamagedError, match="has other bytes"):
            read_bytes(file)
        with pytest.raises(DamagedError, match="has other bytes"):
            verified_sha256(file)
        with pytest.raises(DamagedError, match="has other bytes"), open_verified(file):
            pass
    file.write_bytes(whole)
    verify_folder(folder)
    with open_verified(folder / "a.bin") as stream:
        assert stream.read() == read_bytes(folder / "a.bin") == random.Random(0).randbytes(3000)


def test_missing_and_new_files_are_named(folder: Path) -> None:
    (folder / "new.bin").write_bytes(b"new")
    with pytest.raises(DamagedError, match=r"new\.bin is not listed"):
        verify_folder(folder)
    with pytest.raises(DamagedError, match=r"new\.bin is not listed"):
        read_bytes(folder / "new.bin")
    (folder / "new.bin").unlink()
    (folder / "a.bin").unlink()
    with pytest.raises(DamagedError, match=r"a\.bin is missing"):
        verify_folder(folder)
    with pytest.raises(FileNotFoundError):
        read_bytes(folder / "a.bin")
    (folder / SUMS).unlink()
    with pytest.raises(DamagedError, match=r"SHA256SUMS not found: .* was not completed"):
        read_bytes(folder / "deep/b.bin")


def test_a_recorded_file_stands_beside_the_others(folder: Path) -> None:
    (folder / "c.bin").write_bytes(b"c")
    record(folder / "c.bin")
    assert read_bytes(folder / "c.bin") == b"c"
    assert sorted(verify_folder(folder)) == ["a.bin", "c.bin", "deep/b.bin"]

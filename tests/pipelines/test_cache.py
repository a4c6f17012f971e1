"""The result cache: what is put in comes out, or nothing does."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.cache import ResultCache


def test_values_outlive_the_object(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "results.sqlite"
    store = ResultCache(file)
    store.put("a", "caption/image", {"text": "µm ‹ \n", "list": [1, None, 0.5]})
    store.put("a", "caption/image", {"text": "newer"})
    store.put("b", "caption/region", ["x"])
    store.close()
    store = ResultCache(file)
    assert (store.get("a"), store.get("b"), store.get("c")) == ({"text": "newer"}, ["x"], None)
    assert store.corrupt == 0


@pytest.mark.parametrize("damage", ["value = '\"other\"'", "checksum = 'x'", "value = replace(value, 'y', 'z')"])
def test_a_damaged_row_counts_as_absent_until_it_is_replaced(tmp_path: Path, damage: str) -> None:
    file = tmp_path / "results.sqlite"
    store = ResultCache(file)
    store.put("a", "kind", "y")
    store.put("b", "kind", "y")
    with sqlite3.connect(file) as database:
        database.execute(f"UPDATE items SET {damage} WHERE key = 'a'")
    assert (store.get("a"), store.get("b"), store.corrupt) == (None, "y", 1)
    store.put("a", "kind", "y")
    assert store.get("a") == "y"


def test_a_value_under_another_key_counts_as_absent(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    store = ResultCache(file)
    store.put("a", "kind", "of a")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE items SET key = 'b'")
    assert (store.get("b"), store.corrupt) == (None, 1)


def test_threads_and_objects_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    stores = [ResultCache(file), ResultCache(file)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: stores[n % 2].put(f"{n}", "kind", n), range(200)))
        assert list(pool.map(lambda n: stores[(n + 1) % 2].get(f"{n}"), range(200))) == list(range(200))


def test_what_was_put_survives_a_kill(tmp_path: Path, repository: Path) -> None:
    file = tmp_path / "results.sqlite"
    code = (
        "import os, signal, sys; from pathlib import Path; from pipelines.cache import ResultCache\n"
        "ResultCache(Path(sys.argv[1])).put('a', 'kind', 1); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, file], cwd=repository, check=False)
    assert done.returncode == -9
    assert ResultCache(file).get("a") == 1


def filled(file: Path, count: int) -> bytes:
    store = ResultCache(file)
    for number in range(count):
        store.put(f"{number:04d}", "kind", "x" * 200 + str(number))
    store.close()
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file.read_bytes()


def garbage(whole: bytes) -> bytes:
    return b"not a database, but long enough to be looked into " * (len(whole) // 50)


def truncated(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def wrecked_pages(whole: bytes) -> bytes:
    middle = len(whole) // 8192 * 4096
    return (
        whole[:middle] + bytes(byte ^ 0x5A for byte in whole[middle : middle + 3 * 4096]) + whole[middle + 3 * 4096 :]
    )


@pytest.mark.parametrize(("damage", "least"), [(garbage, 0), (truncated, 0), (wrecked_pages, 400)])
def test_a_damaged_file_is_set_aside_and_what_can_be_read_is_saved(
    tmp_path: Path, damage: Callable[[bytes], bytes], least: int, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "results.sqlite"
    damaged = damage(filled(file, 1000))
    file.write_bytes(damaged)
    store = ResultCache(file)
    saved = [store.get(f"{number:04d}") for number in range(1000)]
    assert {value for number, value in enumerate(saved) if value != "x" * 200 + str(number)} <= {None}
    assert least <= sum(value is not None for value in saved) < 1000
    assert store.counts()["caches_set_aside"] == 1
    (aside,) = tmp_path.glob("results-damaged-*.sqlite")
    assert len(caplog.messages) == 1
    assert aside.name in caplog.messages[0]
    store.put("0500", "kind", "anew")
    store.close()
    again = ResultCache(file)
    assert (again.get("0500"), again.counts()) == ("anew", {"corrupt_in_cache": 0, "caches_set_aside": 0})


def test_several_values_are_put_at_once(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    store = ResultCache(file)
    store.put_many([])
    store.put_many((f"{number}", "kind", {"n": number}) for number in range(50))
    with pytest.raises(ValueError, match="JSON"):
        store.put_many([("50", "kind", 1), ("51", "kind", float("nan"))])
    other = ResultCache(file)
    assert [other.get(f"{number}") for number in range(52)] == [{"n": number} for number in range(50)] + [None, None]


def test_two_that_share_a_damaged_file_go_on_with_one_new_one(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    file.write_bytes(wrecked_pages(filled(file, 1000)))
    stores = [ResultCache(file), ResultCache(file)]
    for number in range(1000):
        for store in stores:
            assert store.get(f"{number:04d}") in ("x" * 200 + str(number), None)
    assert [store.counts()["caches_set_aside"] for store in stores] == [1, 0]
    stores[0].put("a", "kind", "of the first")
    stores[1].put_many([("b", "kind", "of the second")])
    assert [store.get(key) for store in reversed(stores) for key in "ab"] == ["of the first", "of the second"] * 2
    assert len(list(tmp_path.glob("results-damaged-*.sqlite"))) == 1


def test_a_turned_bit_in_the_header_of_a_row_gives_no_value_of_another_key(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    store = ResultCache(file)
    for number in range(30):
        store.put(f"key {number}", "kind", f"answer {number}")
    store.close()
    whole = file.read_bytes()
    place = whole.index(b"key 1kind")
    for bit in range(8 * (place - 12), 8 * place):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        file.write_bytes(data)
        store = ResultCache(file)
        values = [store.get(f"key {number}") for number in range(30)]
        store.close()
        assert {value for number, value in enumerate(values) if value != f"answer {number}"} <= {None}
        for rest in tmp_path.iterdir():
            rest.unlink()


def test_a_value_that_is_no_text_counts_as_absent(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    store = ResultCache(file)
    store.put("a", "kind", "y")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE items SET value = CAST(X'22ff22' AS TEXT)")
    assert (store.get("a"), store.corrupt) == (None, 1)


FULL = """
import resource, signal, sys
from pathlib import Path
from pipelines.cache import ResultCache
from pipelines.errors import UserError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = ResultCache(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
try:
    for number in range(10_000):
        store.put(str(number), "kind", "x" * 1000)
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_that_advises_no_deletion(tmp_path: Path, repository: Path) -> None:
    file = tmp_path / "results.sqlite"
    words = [sys.executable, "-c", FULL, file]
    done = subprocess.run(words, cwd=repository, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith(f"{file}: ")
    assert done.stdout.endswith("run again; the answers in it are kept\n")
    assert done.stdout.count("\n") == 1
    assert ResultCache(file).get("0") == "x" * 1000
    assert list(tmp_path.glob("*damaged*")) == []

"""The result cache: what is put in comes out, or nothing does."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipelines.cache import ResultCache
from pipelines.errors import UserError


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


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    file.write_text("not a database, but long enough to be looked into " * 30)
    with pytest.raises(UserError, match=r"results\.sqlite cannot be used as the result cache"):
        ResultCache(file)

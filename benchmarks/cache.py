"""What the result cache costs as it fills: an answer kept, one found and one missed, up to 20 million answers.

Builds  WORK/results.sqlite, a cache of made-up captions, in ever larger steps; a killed run goes on where it stopped
Writes  benchmarks/results/cache.csv: a row a step as it ends; those with a row are not measured again
Run     PYTHONPATH=. python benchmarks/cache.py WORK [ROWS ...], with nothing else running on the host

The steps are filled many rows at a time, past the cache's own `put`; what is measured then goes through it. 20 million
answers are those of 500,000 images with 20 proposals, 10 captions and as many answers thrown away with old prompts.
"""

import hashlib
import random
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from header import header, last_commit
from runs import REPOSITORY, RESULTS, append, read

from pipelines.cache import ResultCache
from pipelines.stage import command

STEPS = (100_000, 1_000_000, 5_000_000, 20_000_000)
MEASURED = 2_000
AT_ONCE = 200_000
KIND = "caption/region"


def main(work: str, *steps: str) -> None:
    folder, output = Path(work), RESULTS / "cache.csv"
    done = {int(row["rows"]) for row in read(output)}
    place = folder / "results.sqlite"
    for rows in map(int, steps or STEPS):
        if rows in done:
            continue
        cache = ResultCache(place)
        began = time.perf_counter()
        fill(place, rows)
        filled = time.perf_counter() - began
        append(output, [measure(cache, place, rows) | {"seconds_to_fill": round(filled, 1)}], head())
        cache.close()
        print(rows, flush=True)


def fill(place: Path, rows: int) -> None:
    """Add rows until there are so many; their keys are digests, which fall anywhere in the index."""
    database = sqlite3.connect(place)
    database.execute("PRAGMA synchronous=OFF")
    # Those that an earlier step kept to be timed are of another kind.
    (count,) = database.execute("SELECT count(*) FROM items WHERE kind = ?", (KIND,)).fetchone()
    for start in range(count, rows, AT_ONCE):
        with database:
            # Sorted, a page is written once for all rows that fall into it.
            batch = sorted(answers(start, min(rows, start + AT_ONCE)))
            database.executemany("INSERT OR REPLACE INTO items VALUES (?, ?, ?, ?)", batch)
    database.close()


def answers(first: int, last: int) -> Iterator[tuple[str, str, str, str]]:
    for number in range(first, last):
        key = key_of(number)
        value = f'{{"caption": "round opacity in the upper left, number {number}", "negatives": ["{key[:40]}"]}}'
        checksum = hashlib.sha256(key.encode() + b"\n" + value.encode()).hexdigest()
        yield key, KIND, value, checksum


def key_of(number: int) -> str:
    return hashlib.sha256(f"answer {number}".encode()).hexdigest()


def measure(cache: ResultCache, place: Path, rows: int) -> dict[str, float]:
    """Microseconds of one call, each through the cache's own methods."""
    numbers = random.Random(rows).sample(range(rows), MEASURED)
    seconds = {}
    for name, keys in (("found", [key_of(n) for n in numbers]), ("missed", [key_of(-n - 1) for n in numbers])):
        began = time.perf_counter()
        values = [cache.get(key) for key in keys]
        seconds[name] = time.perf_counter() - began
        assert all((value is None) == (name == "missed") for value in values)
    began = time.perf_counter()
    for number in range(MEASURED):
        cache.put(key_of(10**12 + rows + number), "caption/timed", {"caption": "kept", "number": number})
    seconds["kept"] = time.perf_counter() - began
    microseconds = {f"{name}_microseconds": round(1e6 * spent / MEASURED, 1) for name, spent in seconds.items()}
    return {"rows": rows, **microseconds, "gigabytes": round(place.stat().st_size / 1e9, 2)}


def head() -> str:
    return header("python benchmarks/cache.py WORK", last_commit(REPOSITORY, "pipelines/cache.py"))


if __name__ == "__main__":
    command(main)

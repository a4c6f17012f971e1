"""One target, tried by hypothesis: sound inputs with changed bytes, and values of any kind in the place of sound ones.

Run     python -m fault_parts.properties TARGET FOLDER RUNS SECONDS SEED, with the project and benchmarks/ on PYTHONPATH

Where atheris follows the code, this follows the form: JSON, rows and parameters that parse, with one value replaced.
"""

import copy
import csv
import io
import json
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from .fuzz_targets import Target, Targets
from .fuzz_watch import Watch

_CHUNK = 200

_Edit = tuple[float, int, bytes]

# Any text that JSON can spell, halves of surrogate pairs too.
_TEXTS = st.text(st.characters(exclude_categories=()), max_size=20) | st.sampled_from(
    ["", "NaN", "1e999", "\ud800", "\0", "../../etc/passwd", "a" * 300, "No Finding", "=1+1", "[]", "{}"]
)
_NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 10**400, float("inf"), -0.0])
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)
_EDITS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), st.binary(min_size=1, max_size=4)), max_size=6)


def inputs(name: str, seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Inputs of a target: changed bytes of its seeds, and for those that hold values other values in their place."""
    changed = st.builds(_edited, st.sampled_from(seeds), _EDITS)
    if name in ("reviews", "answers"):
        start = {"reviews": b"", "answers": b"c"}[name]
        sound = [
            json.loads(data.removeprefix(start)) for data in seeds if data.startswith(start) and data[-1:] in b"}]"
        ]
        return changed | st.builds(lambda value: start + _json(value), _replaced(sound))
    if name == "tables":
        row = json.loads(next(data for data in seeds if data[:1] == b"j")[1:].splitlines()[0])
        return (
            changed | st.builds(lambda value: b"j" + _json(value), _replaced([row])) | st.builds(_csv, _replaced([row]))
        )
    if name == "params":
        sections = [yaml.safe_load(data) for data in seeds if not data.startswith(b"a: &b")]
        return changed | st.builds(_yaml, _replaced(sections))
    if name in ("run_lengths", "templates"):
        return changed | st.builds(lambda text: text.encode("utf-8", "surrogatepass"), _TEXTS)
    return changed


def run(watch: Watch, strategy: st.SearchStrategy[bytes], runs: int, seconds: float, number: int) -> None:
    """Give a target about `runs` inputs, fewer where the time is over before."""
    end = time.monotonic() + seconds
    chunk = 0
    # Hypothesis knows no limit of time: many short runs end soon after it.
    while watch.counts["inputs"] < runs and time.monotonic() < end:
        _chunk(watch, strategy, min(_CHUNK, runs), 10_000 * number + chunk)
        chunk += 1
    watch.write()


def _chunk(watch: Watch, strategy: st.SearchStrategy[bytes], examples: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(data: bytes) -> None:
        watch.run(data)

    each()


def _edited(data: bytes, edits: list[_Edit]) -> bytes:
    """Bytes replaced, put in or cut off."""
    for place, kind, new in edits:
        at = int(place * len(data))
        if kind == 0:
            data = data[:at] + new + data[at + len(new) :]
        elif kind == 1:
            data = data[:at] + new + data[at:]
        else:
            data = data[:at]
    return data


@st.composite
def _replaced(draw: st.DrawFn, sound: list[Any]) -> Any:
    """One of some values, with one value inside it replaced."""
    value = copy.deepcopy(draw(st.sampled_from(sound)))
    places = list(_places(value))
    if not places:
        return draw(_VALUES)
    holder, key = draw(st.sampled_from(places))
    holder[key] = draw(_VALUES)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries):
        yield value, key
        yield from _places(inner)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _yaml(value: Any) -> bytes:
    return yaml.safe_dump(value, allow_unicode=True, sort_keys=False).encode("utf-8", "surrogatepass")


def _csv(row: Any) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    writer.writerow(row)
    writer.writerow([value if isinstance(value, str | int | float) else json.dumps(value) for value in row.values()])
    return b"c" + stream.getvalue().encode("utf-8", "surrogatepass")


def target_of(name: str, root: Path, scratch: Path) -> tuple[Target, list[bytes]]:
    """A target and its seeds."""
    targets = Targets(root, scratch)
    return targets.target(name), targets.seeds(name)


def main(name: str, folder: str, runs: str, seconds: str, number: str) -> None:
    # Columns that nobody uses are a warning, thousands of them.
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory(dir=scratch_folder(), ignore_cleanup_errors=True) as scratch:
        target, seeds = target_of(name, Path.cwd(), Path(scratch))
        run(Watch(name, target, Path(folder)), inputs(name, seeds), int(runs), float(seconds), int(number))


def scratch_folder() -> str | None:
    """Memory, where there is a folder of it: some readers get each input as a file."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A byte of a file is another: the reader notices, or the result is the very same. Never another result.

Readers are called in this process, on a copy of a study in which one bit of one byte of one file is turned. Whole
stages run on such a copy as commands.
"""

import dataclasses
import json
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import checkpoint
from models.clip.model import Clip
from models.data.format import ShardError
from models.data.shards import ShardSet
from models.verified import DamagedError
from pipelines import records
from pipelines.cache import ResultCache
from pipelines.code import fingerprint
from pipelines.config import load
from pipelines.errors import Rejected, UserError
from pipelines.report.inputs import read_results
from pipelines.shards import images as image_shards
from pipelines.shards.checks import check_families
from pipelines.shards.config import ShardsConfig
from pipelines.sources import Sources
from pipelines.tables import Table

from .trials import Row
from .workspace import STAGES, copy, difference, digests, run

NOTICED = (UserError, DamagedError, ShardError, Rejected)

Reader = Callable[[Path], Any]

_TABLES: dict[str, Table[Any]] = {
    "data/ingest/phantom/images.parquet": records.IMAGES,
    "data/ingest/phantom/annotations.parquet": records.ANNOTATIONS,
    "data/ingest/phantom/questions.parquet": records.QUESTIONS,
    "data/ingest/phantom/rejected.parquet": records.REJECTED,
    "data/split/images.parquet": records.SPLIT_IMAGES,
    "data/split/near_duplicates.parquet": records.NEAR_DUPLICATES,
    "data/proposals/proposals.parquet": records.PROPOSALS,
    "data/regions/regions.parquet": records.REGIONS,
    "data/captions/captions.parquet": records.CAPTIONS,
}
VERIFY = "verify DVC's cache"
_CACHE = "data/cache/flips.sqlite"


@dataclass(frozen=True)
class Kind:
    """Files of one kind, and what reads them: a function of the study whose value holds all that was read."""

    name: str
    files: tuple[str, ...]
    read: Reader


KINDS: tuple[Kind, ...] = (
    Kind("tables", tuple(_TABLES), lambda study: [repr(table.read(study / name)) for name, table in _TABLES.items()]),
    Kind("tars", ("data/shards/images/*/*.tar", "data/shards/captions/*/*.tar"), lambda study: _samples(study)),
    Kind("manifests", ("data/shards/*/manifest.json",), lambda study: _samples(study)),
    Kind("SHA256SUMS", ("data/**/SHA256SUMS",), lambda study: _sealed(study)),
    Kind("checkpoints", ("data/checkpoints/clip/*[!S]",), lambda study: _checkpoint(study)),
    Kind("metrics", ("data/evaluation/clip/metrics.json",), lambda study: _metrics(study)),
    Kind("result cache", (_CACHE,), lambda study: _cached(study)),
    Kind("code fingerprints", ("data/code/*.txt",), lambda study: _fingerprints(study)),
    Kind("raw images", ("data/raw/phantom/images/*",), lambda study: _from_raw(study)),
)


def prepare(study: Path, to: Path) -> Path:
    """A copy of a study with a result cache that holds answers."""
    copy(study, to)
    cache = ResultCache(to / _CACHE)
    for number in range(30):
        cache.put(f"key {number}", "caption/region", {"content": f"answer {number}" * 20, "reason": None})
    cache.close()
    # In the file itself, not in the journal beside it.
    _checkpoint_journal(to / _CACHE)
    return to


class Readers:
    """The readers, each with what it makes of the sound study, read once."""

    def __init__(self, study: Path) -> None:
        self._study = study
        self._lock = threading.Lock()
        self._sound: dict[str, Any] = {}

    def trial(self, kind: Kind, number: int) -> Row:
        """Turn one bit in one file of a kind, read, and put the file back."""
        with self._lock:
            return self._trial(kind, number)

    def _trial(self, kind: Kind, number: int) -> Row:
        drawn = random.Random(f"{kind.name} {number}")
        begun = time.monotonic()
        files = _files(kind, self._study)
        if not files:
            raise FileNotFoundError(f"{self._study} has no {', '.join(kind.files)}")
        if kind.name not in self._sound:
            self._sound[kind.name] = kind.read(self._study)
        file = drawn.choice(files)
        sound = file.read_bytes()
        what = f"{file.relative_to(self._study)}: {turn(file, drawn)}"
        outcome, equal, seen = "ok", True, "without effect"
        try:
            equal = kind.read(self._study) == self._sound[kind.name]
            outcome = "ok" if equal else "another result"
        except NOTICED as error:
            seen = str(error)
        except Exception as error:  # noqa: BLE001 - the row says which
            outcome, seen = "no clear line", f"{type(error).__name__}: {error}"
        finally:
            _restore(file, sound)
        return Row(
            kind="flip",
            stage=f"reading {kind.name}",
            trial=number,
            outcome=outcome,
            equal_bytes=equal,
            left_overs=0,
            seconds=time.monotonic() - begun,
            detail=f"{what}; {seen}",
        )


def stage_trial(study: Path, scratch: Path, number: int) -> Row:
    """Turn one bit in an input of a stage, and run the stage."""
    drawn = random.Random(f"stage {number}")
    name = stage_of(number)
    begun = time.monotonic()
    here = copy(study, scratch / "flipped")
    files = sorted({file for pattern in _INPUTS[name] for file in here.glob(pattern) if file.is_file()})
    file = drawn.choice(files)
    what = f"{file.relative_to(here)}: {turn(file, drawn)}"
    (chosen,) = (one for one in STAGES if one.name == name)
    done = run(here, chosen.command)
    before, after = digests(study), digests(here)
    # The flipped file itself is another, of course.
    other = [name for name in difference(before, after) if name.startswith(f"{chosen.output}/")]
    outcome, detail = "ok", f"{what}; {'without effect' if done.code == 0 else done.text.strip()[-200:]}"
    if done.code == 0 and other:
        outcome = "another result"
    elif done.code != 0 and done.problem:
        outcome, detail = "no clear line", f"{what}; {done.problem}"
    shutil.rmtree(here)
    return Row(
        kind="flip",
        stage=name,
        trial=number,
        outcome=outcome,
        equal_bytes=not other,
        left_overs=0,
        seconds=time.monotonic() - begun,
        detail=detail,
    )


def stage_of(number: int) -> str:
    """The stage of a trial: each in turn."""
    return list(_INPUTS)[number % len(_INPUTS)]


def dvc_trial(study: Path, scratch: Path, number: int) -> Row:
    """Turn one bit in an object of DVC's cache; `pipelines.verify` names it.

    Args:
        study: As `kills.with_dvc` makes it.
        scratch: Folder for a copy.
        number: Of the trial.
    """
    drawn = random.Random(f"dvc {number}")
    begun = time.monotonic()
    here = copy(study, scratch / "flipped")
    objects = sorted(file for file in (here / ".dvc/cache/files").rglob("*") if file.is_file())
    file = drawn.choice(objects)
    file.chmod(0o644)
    what = f"{file.relative_to(here)}: {turn(file, drawn)}"
    verified = run(here, [sys.executable, "-m", "pipelines.verify"])
    named = file.parent.name + file.name in verified.text or str(file.relative_to(here)) in verified.text
    outcome, detail = "ok", f"{what}; {verified.text.strip()[-200:]}"
    if verified.problem or not named:
        outcome = "not named" if not verified.problem else "no clear line"
        detail = f"{what}; {verified.problem or ''} {verified.text.strip()[-200:]}"
    shutil.rmtree(here)
    return Row(
        kind="flip",
        stage=VERIFY,
        trial=number,
        outcome=outcome,
        equal_bytes=outcome == "ok",
        left_overs=0,
        seconds=time.monotonic() - begun,
        detail=detail,
    )


# What each stage reads, but for what a person edits.
_INPUTS: dict[str, tuple[str, ...]] = {
    "split": ("data/ingest/phantom/*",),
    "proposals": ("data/split/*", "data/raw/phantom/images/*"),
    "regions": ("data/proposals/*", "data/split/images.parquet"),
    "captions": ("data/regions/*", "data/split/images.parquet"),
    "image_shards": ("data/regions/*", "data/raw/phantom/images/*"),
    "caption_shards": ("data/captions/*", "data/split/questions.parquet", "data/shards/images/manifest.json"),
    "train": ("data/shards/*/*", "data/shards/*/*/*"),
    "evaluate": ("data/checkpoints/clip/*", "data/shards/*/test/*"),
    "report": (
        "data/evaluation/clip/metrics.json",
        "data/evaluation/clip/items.parquet",
        "data/captions/*",
        "data/checkpoints/clip/curve.json",
    ),
}


def turn(file: Path, drawn: random.Random) -> str:
    """Turn one bit of a file; which one."""
    data = bytearray(file.read_bytes())
    place, bit = drawn.randrange(len(data)), drawn.randrange(8)
    data[place] ^= 1 << bit
    _restore(file, bytes(data))
    return f"bit {bit} of byte {place} of {len(data)}"


def _files(kind: Kind, study: Path) -> list[Path]:
    return sorted({file for pattern in kind.files for file in study.glob(pattern)})


def _restore(file: Path, data: bytes) -> None:
    file.unlink()
    file.write_bytes(data)


def _sealed(study: Path) -> Any:
    """All that is read from output folders; a study may end before the checkpoints."""
    kinds = [kind for kind in KINDS if kind.name in ("tables", "tars", "checkpoints", "metrics", "code fingerprints")]
    return [kind.read(study) for kind in kinds if _files(kind, study)]


def _samples(study: Path) -> Any:
    shards = study / "data/shards"
    check_families(shards)
    sets = [ShardSet(shards / "images", shards / "captions", split) for split in records.SPLITS]
    samples = [sample for one in sets for sample in one.samples()]
    return [(sample.key, repr(sample.meta), repr(sample.captions), sample.members) for sample in samples]


def _checkpoint(study: Path) -> Any:
    model, tokenizer = checkpoint.load(study / "data/checkpoints/clip", Clip)
    weights = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    curve = read_results(study / "data/checkpoints", checkpoint.CURVE, ["clip"])
    return weights, dataclasses.asdict(model.config), tokenizer("a round mass in the left lung")["input_ids"], curve


def _metrics(study: Path) -> Any:
    return read_results(study / "data/evaluation", "metrics.json", ["clip"])


def _cached(study: Path) -> Any:
    """A value that does not fit its checksum counts as absent, and is asked for anew: no other result."""
    cache = ResultCache(study / _CACHE)
    try:
        found = [cache.get(f"key {number}") for number in range(30)]
    finally:
        cache.close()
        for suffix in ("-wal", "-shm"):
            (study / f"{_CACHE}{suffix}").unlink(missing_ok=True)
    wrong = [value for number, value in enumerate(found) if value not in (None, _answer(number))]
    return json.dumps(wrong)


def _answer(number: int) -> Any:
    return {"content": f"answer {number}" * 20, "reason": None}


def _fingerprints(study: Path) -> Any:
    for file in sorted((study / "data/code").glob("*.txt")):
        fingerprint.check(file.stem, study / "data/code")
    return None


def _from_raw(study: Path) -> Any:
    """Image shards, for which every raw image is read by its row."""
    config = load(ShardsConfig, "shards", study / "params.yaml")
    sources = Sources(roots={"phantom": study / "data/raw/phantom"}, max_pixels=10**6)
    output = study / "data/flipped_shards"
    tables = study / "data/split/images.parquet", study / "data/regions/regions.parquet"
    try:
        image_shards.run(config, sources, *tables, output, study / "data/flipped_summaries")
        return {file.name: file.read_bytes() for file in sorted(output.rglob("*")) if file.is_file()}
    finally:
        shutil.rmtree(output, ignore_errors=True)


def _checkpoint_journal(file: Path) -> None:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode=DELETE")

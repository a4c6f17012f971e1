"""A finished study of 40 images, copies of it, and what is compared between them."""

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.config import load_params
from pipelines.params import merge

ROOT = Path(__file__).resolve().parents[2]

_ENCODER = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_PHASE = {"epochs": 2, "batch_size": 8, "learning_rate": 0.001, "losses": ["report"]}
_OVERLAY: dict[str, Any] = {
    "phantom": {"images": 40, "size": 64},
    "workers": {"processes": 1},
    "proposals": {"labelled_images": 12},
    "regions": {"min_labelled": 10, "risk_control": {"min_calibration_images": 4}},
    "shards": {"image_size": 32, "crop_size": 16, "samples_per_shard": 8},
    "split": {"fractions": {"train": 0.6, "validation": 0.15, "test": 0.25}},
    "train": {
        "engine": {"num_workers": 0, "threads": 1, "checkpoint_every": 2},
        "methods": {
            "clip": {
                "model": {
                    "embedding_size": 16,
                    "image_encoder": {
                        "architecture": {"model_type": "vit", "image_size": 32, "patch_size": 8} | _ENCODER
                    },
                    "text_encoder": {"architecture": {"model_type": "bert", "max_position_embeddings": 64} | _ENCODER},
                },
                "training": {"phases": {"global": _PHASE}, "vocabulary_size": 200, "max_length": 48},
            },
            "regionmed_clip": None,
            "plan": None,
        },
    },
    "evaluate": {
        "tasks": {"retrieval": {"ks": [1, 5]}, "region_retrieval": None, "grounding": None, "zero_shot": None},
        "bootstrap": {"samples": 20},
    },
    "report": {"gallery": 2, "rejected": 1},
}


@dataclass(frozen=True)
class Stage:
    """A stage's command, and the outputs that DVC empties before it runs."""

    name: str
    words: tuple[str, ...]
    output: str

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", *self.words]


STAGES = (
    Stage("code", ("pipelines.code",), "data/code"),
    Stage("phantom", ("pipelines.phantom",), "data/raw/phantom"),
    Stage("ingest", ("pipelines.ingest", "phantom"), "data/ingest/phantom"),
    Stage("split", ("pipelines.split",), "data/split"),
    Stage("proposals", ("pipelines.proposals",), "data/proposals"),
    Stage("regions", ("pipelines.regions",), "data/regions"),
    Stage("captions", ("pipelines.captions",), "data/captions"),
    Stage("image_shards", ("pipelines.shards", "images"), "data/shards/images"),
    Stage("caption_shards", ("pipelines.shards", "captions"), "data/shards/captions"),
    Stage("train", ("pipelines.train", "clip"), "data/checkpoints/clip"),
    Stage("evaluate", ("pipelines.evaluate", "clip"), "data/evaluation/clip"),
    Stage("report", ("pipelines.report",), "data/report"),
)
_CODE = ("flows", "models", "pipelines")
_DVC_OBJECT = re.compile(r"\.dvc/cache/(files/md5/[0-9a-f]{2}(/[0-9a-f]{30}(\.dir)?)?|runs(/[0-9a-f]+)*)")
# They hold times, or what went by on the way.
_NOT_COMPARED = ("data/summaries", "data/logs", "data/tmp", "data/cache", "data/mlflow", "data/rebuild")


def build(folder: Path, stages: tuple[Stage, ...] = STAGES) -> dict[str, float]:
    """Make a study and run its stages; return the seconds of each. A study that is there is left as it is.

    Raises:
        RuntimeError: A stage failed.
    """
    kept = folder / "seconds.json"
    if kept.exists():
        found: dict[str, float] = json.loads(kept.read_text())
        return found
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data/raw").mkdir(parents=True)
    for name in _CODE:
        (folder / name).symlink_to(ROOT / name)
    for name in ("prompts", "keys"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.key"))
    for name in ("dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data/review.jsonl").touch()
    (folder / "data/audit.jsonl").touch()
    params = merge(load_params(ROOT / "params.yaml"), _OVERLAY)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    seconds = {}
    for stage in stages:
        done = run(folder, stage.command)
        if done.code != 0:
            raise RuntimeError(f"{stage.name}: {done.text}")
        seconds[stage.name] = done.seconds
    kept.write_text(json.dumps(seconds))
    return seconds


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit code, all that it wrote to the terminal, and its time."""

    code: int
    text: str
    seconds: float

    @property
    def problem(self) -> str | None:
        """Why it is no clear refusal: one line `error: ...`, exit code 1, no traceback; None where it is one."""
        lines = [line for line in self.text.splitlines() if line.startswith("error: ")]
        if self.code != 1:
            return f"exit code {self.code}"
        if "Traceback" in self.text:
            return f"traceback: {self.text.strip().splitlines()[-1][:200]}"
        return None if len(lines) == 1 else f"{len(lines)} lines of error"


def environment(folder: Path) -> dict[str, str]:
    """For commands in a study: this checkout's code, one thread, nothing that calls home, homes of their own."""
    return os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(folder / ".prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }


def start(folder: Path, command: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a command in a study, in a process group of its own."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        **options,
    )


def run(folder: Path, command: list[str], **options: Any) -> Done:
    """Run a command in a study to its end, at most 10 minutes."""
    begun = time.monotonic()
    process = start(folder, command, **options)
    text, _ = process.communicate(timeout=600)
    return Done(process.returncode, text, round(time.monotonic() - begun, 2))


def copy(study: Path, to: Path) -> Path:
    """A copy of a study that shares no bytes with it: some commands write into files."""
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(study, to, symlinks=True)


def digests(study: Path) -> dict[str, str]:
    """SHA-256 of each output file that must be the same each time, by its path; what the caches hold, by rows."""
    found = {}
    for file in sorted((study / "data").rglob("*")):
        name = file.relative_to(study).as_posix()
        if file.is_file() and not name.startswith(_NOT_COMPARED):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found | _mlflow(study / "data/mlflow/mlflow.db")


def paths(study: Path) -> set[str]:
    """Every file and folder of a study but what a log, a cache or a library may leave there.

    DVC keeps the outputs of a stage that was through when `dvc repro` was killed: sound objects of its cache are free.
    """
    caches = ("data/cache/results.sqlite", "data/cache/readings.sqlite")
    free = ("data/logs", "data/mlflow/artifacts/", *caches, ".prefect", ".git/", ".dvc/tmp/")
    found = set()
    for path in study.rglob("*"):
        name = path.relative_to(study).as_posix()
        is_free = path.is_symlink() or _DVC_OBJECT.fullmatch(name) or name.startswith((*free, *_CODE))
        if not is_free:
            found.add(name)
    # Folders in which files are written; data/cache has its own where it is a disk of its own.
    return found - {"data/tmp", "data/cache/tmp"}


def difference(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Names whose contents differ, or that only one of the two has."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _mlflow(database: Path) -> dict[str, str]:
    """Runs, their parameters, metrics and files' digests, versions and aliases, without ids and times."""
    if not database.exists():
        return {}
    queries = {
        "runs": "SELECT name, status FROM runs WHERE lifecycle_stage = 'active'",
        "tags": "SELECT r.name, t.key, t.value FROM tags t JOIN runs r USING (run_uuid) "
        "WHERE r.lifecycle_stage = 'active' AND t.key NOT LIKE 'mlflow.%' AND t.key <> 'digest.params'",
        "params": "SELECT r.name, p.key, p.value FROM params p JOIN runs r USING (run_uuid) "
        "WHERE r.lifecycle_stage = 'active'",
        "metrics": "SELECT r.name, m.key, m.value, m.step FROM metrics m JOIN runs r USING (run_uuid) "
        "WHERE r.lifecycle_stage = 'active'",
        "versions": "SELECT v.name, v.version, t.key, t.value FROM model_versions v "
        "LEFT JOIN model_version_tags t USING (name, version) WHERE v.current_stage <> 'Deleted_Internal'",
        "aliases": "SELECT name, alias, version FROM registered_model_aliases",
    }
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            rows = {name: connection.execute(query).fetchall() for name, query in queries.items()}
    except sqlite3.DatabaseError as error:
        return {"mlflow": f"unreadable: {error}"}
    return {f"mlflow {name}": repr(sorted(map(repr, found))) for name, found in rows.items()}

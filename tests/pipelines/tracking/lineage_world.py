"""A DVC project as small as a lineage can be: a source, captions from it and from prompts, a checkpoint, its scores."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from pipelines.code.config import load_code
from pipelines.code.fingerprint import as_text
from pipelines.code.stage import fingerprints

PARAMS = {
    "ingest": {
        "keys": "keys",
        "sources": {"clinic": {"adapter": "table", "root": "raw", "licence": "CC0-1.0", "patient_ids": "public"}},
    },
    "proposals": {"proposers": ["saliency"], "segmenter": "threshold"},
    "captions": {"captioner": "findings", "prompts": "prompts", "seed": 0},
    "train": {"methods": {"clip": {"epochs": 3}}},
    "evaluate": {"tasks": {"grounding": {}}},
}
_GRAPH = """\
stages:
  ingest:
    foreach: ${ingest.sources}
    do:
      cmd: %(python)s make.py data/ingest/${key}/images.parquet raw
      deps:
        - ${item.root}
        - data/code/ingest@${key}.txt
      params:
        - ingest.sources.${key}
      outs:
        - data/ingest/${key}
  captions:
    cmd: %(python)s make.py data/captions/captions.parquet data/ingest/clinic/images.parquet prompts
    deps:
      - data/ingest/clinic/images.parquet
      - data/code/captions.txt
      - prompts
    params:
      - captions
    outs:
      - data/captions
  train:
    foreach: ${train.methods}
    do:
      cmd: %(python)s make.py data/checkpoints/${key}/config.json data/captions/captions.parquet
      deps:
        - data/captions
        - data/code/train@${key}.txt
      params:
        - train.methods.${key}
      outs:
        - data/checkpoints/${key}
  evaluate:
    foreach: ${train.methods}
    do:
      cmd: %(python)s make.py data/evaluation/${key}/metrics.json data/checkpoints/${key}/config.json
      deps:
        - data/checkpoints/${key}
        - data/code/evaluate@${key}.txt
      params:
        - evaluate
      outs:
        - data/evaluation/${key}
"""
# Its output is decided by the bytes that it reads; a table has as many rows as there are files.
_MAKE = """\
import hashlib, sys
from pathlib import Path
import pyarrow, pyarrow.parquet
from models.verified import seal
output, inputs = Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
files = [file for path in inputs for file in ([path] if path.is_file() else sorted(path.rglob('*')))]
digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
output.parent.mkdir(parents=True, exist_ok=True)
if output.suffix == '.parquet':
    pyarrow.parquet.write_table(pyarrow.table({'digest': digests}), output)
else:
    output.write_text(' '.join(digests))
seal(output.parent)
"""


def make(empty: Path, project: Path, repository: Path) -> Path:
    """The project, run and committed; its fingerprints are those of this repository's code."""
    shutil.copytree(empty, project)
    (project / "make.py").write_text(_MAKE)
    (project / "dvc.yaml").write_text(_GRAPH % {"python": sys.executable})
    (project / "params.yaml").write_text(yaml.safe_dump(PARAMS, sort_keys=False))
    for name, text in (
        ("raw/a.png", "a"),
        ("raw/b.png", "b"),
        ("prompts/region.txt", "Which?"),
        (".gitignore", "/data"),
    ):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text(text)
    (project / "data/code").mkdir(parents=True)
    for stage, digests in fingerprints(load_code(project / "params.yaml")).items():
        (project / f"data/code/{stage}.txt").write_text(as_text(digests))
    repro(project, repository)
    git(project, "add", "--all")
    git(project, "-c", "user.name=T", "-c", "user.email=t@localhost", "commit", "--quiet", "--message", "run")
    return project


def repro(project: Path, repository: Path, *targets: str) -> None:
    words = [sys.executable, "-m", "dvc", "repro", "--quiet", *targets]
    subprocess.run(words, cwd=project, env=os.environ | {"PYTHONPATH": str(repository)}, check=True)


def git(project: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=True)
    return done.stdout.strip()

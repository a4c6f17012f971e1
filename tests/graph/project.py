"""A copy of the repository with settings for a few seconds of work, in which the graph of dvc.yaml runs for real."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from models.verified import sha256_file

METHODS = ("clip", "regionmed_clip")
FIRST_KEY, SECOND_KEY = (hashlib.sha256(word).digest() for word in (b"first", b"second"))

# Python imports this module at every start. It notes which modules of the project a stage had imported when it ended.
NOTE_IMPORTS = """
import atexit, os, sys
if "-m" in sys.orig_argv and (name := sys.orig_argv[sys.orig_argv.index("-m") + 1]).startswith("pipelines."):
    stage = "@".join([name, *sys.orig_argv[sys.orig_argv.index("-m") + 2:]])
    def note():
        here = os.getcwd() + os.sep
        files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
        with open(os.path.join(os.environ["NOTES"], stage), "w") as notes:
            notes.write("\\n".join(sorted(file.removeprefix(here) for file in files if file.startswith(here))))
    atexit.register(note)
"""


class Project:
    """A copy of the repository's files with settings for a few seconds of work."""

    def __init__(self, folder: Path, repository: Path) -> None:
        self.folder = folder
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=repository,
            capture_output=True,
            text=True,
            check=True,
        )
        for name in filter(None, listed.stdout.split("\0")):
            if not name.startswith(("tests/", "benchmarks/", "docs/")) and (repository / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(repository / name, folder / name)
        (folder / "params.yaml").write_text(yaml.safe_dump(tiny(folder / "params.yaml"), sort_keys=False))
        self.notes, site = folder.parent / f"{folder.name}-notes", folder.parent / f"{folder.name}-site"
        self.notes.mkdir()
        site.mkdir()
        (site / "sitecustomize.py").write_text(NOTE_IMPORTS)
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(site),
            "NOTES": str(self.notes),
        }
        write_own_source(folder / "data" / "raw" / "mine")
        (folder / "keys" / "patient.key").write_bytes(FIRST_KEY)
        self.run("git", "init", "--quiet")
        self.run("git", "add", "--all")

    def run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def fails(self, *command: str) -> str:
        """What a command that fails writes on standard error."""
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def repro(self, *targets: str) -> set[str]:
        """`dvc repro`; the stages whose command ran."""
        return set(re.findall(r"^Running stage '(.+)':$", self.run("dvc", "repro", *targets), re.MULTILINE))

    def stale(self) -> set[str]:
        """The stages that `dvc status` finds changed."""
        return set(json.loads(self.run("dvc", "status", "--json")))

    def status(self) -> dict[str, str]:
        """`make status`: the stages that would run, each with why."""
        lines = self.run(sys.executable, "-m", "pipelines.code", "status").splitlines()
        return {} if lines == ["everything is up to date"] else dict(line.split(": ", 1) for line in lines)

    def digests(self) -> dict[str, str]:
        """Every table, shard and checkpoint file."""
        files = [file for file in (self.folder / "data").rglob("*") if file.is_file() and "cache" not in file.parts]
        kept = {".parquet", ".tar", ".safetensors", ".json", ".png"}
        return {
            file.relative_to(self.folder).as_posix(): sha256_file(file)
            for file in sorted(files)
            if file.suffix in kept and not {"summaries", "report"} & set(file.parts)
        }


def tiny(file: Path) -> dict[str, Any]:
    params = yaml.safe_load(file.read_text())
    params["phantom"] |= {"images": 40, "size": 64}
    params["ingest"]["sources"]["mine"] = {"adapter": "table", "root": "data/raw/mine"}
    params["workers"]["processes"] = 1
    params["split"]["fractions"] = {"train": 0.6, "validation": 0.1, "test": 0.3}
    params["shards"] |= {"image_size": 32, "crop_size": 16, "samples_per_shard": 16}
    params["train"]["engine"] |= {"num_workers": 0, "threads": 1}
    # Two methods show what one would not, and a third costs half a minute.
    params["train"]["methods"] = {name: params["train"]["methods"][name] for name in METHODS}
    for method in params["train"]["methods"].values():
        method["model"]["image_encoder"]["architecture"]["image_size"] = 32
        for phase in method["training"]["phases"].values():
            phase |= {"epochs": 1, "batch_size": 8, "warmup_steps": 0}
    params["evaluate"]["bootstrap"]["samples"] = 20
    return params


def write_own_source(folder: Path) -> None:
    (folder / "scans").mkdir(parents=True)
    rows = ["file_name,text,patient_id,modality"]
    for number in range(6):
        picture = Image.effect_mandelbrot((48, 40), (-2 + number / 3, -1, 0.5 + number / 9, 1), 30)
        picture.save(folder / "scans" / f"{number}.png")
        rows.append(f"scans/{number}.png,Picture {number} of a fractal.,P{number},other")
    (folder / "metadata.csv").write_text("\n".join(rows) + "\n")

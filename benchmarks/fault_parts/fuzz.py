"""Trials of fuzzing: a target, an engine (atheris or hypothesis), a number of inputs."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import venv
from pathlib import Path
from typing import Any

from .trials import Row
from .workspace import ROOT

ENGINES = {"atheris": "coverage_guided", "hypothesis": "properties"}
# Seconds for starting an engine, and for its last input.
_GRACE = 300
TARGETS = (
    *("images", "masks", "volumes", "dicom", "archives", "tables", "params", "answers", "run_lengths", "templates"),
    "reviews",
)


def environment() -> Path:
    """The interpreter of `.fuzz`, which has atheris beside all packages of the running one; made where it is absent.

    Raises:
        RuntimeError: It cannot be installed here.
    """
    folder = ROOT / ".fuzz"
    python = folder / "bin/python"
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        needed = project["optional-dependencies"]["fuzz"]
        install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", *needed]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(needed)} cannot be installed: {done.stderr.strip()[-300:]}")
        # The packages of the project are found through the environment that runs this.
        site = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
        ).stdout.strip()
        (Path(site) / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
        (folder / "ready").touch()
    return python


def trial(target: str, engine: str, work: Path, number: int, runs: int, seconds: float) -> Row:
    """Some inputs for a target in a process of its own; its findings stay in a folder under `work`."""
    folder = work / f"{target}-{engine}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "counts.json").unlink(missing_ok=True)
    python = environment() if engine == "atheris" else Path(sys.executable)
    command = [python, "-m", f"fault_parts.{ENGINES[engine]}", target, folder, runs, int(seconds), number + 1]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    begun = time.monotonic()
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        code = _wait(process, seconds + _GRACE)
    counts = _counts(folder)
    findings = dict(counts["findings"])
    if code != 0:
        crashes = ", ".join(sorted(file.name for file in folder.glob("crash-*")))
        findings[f"the process ended with {code} {crashes}".strip()] = {}
    detail = f"{engine}: {counts['inputs']} inputs, {counts['refused']} refused, {counts['repeated']} repeated, "
    detail += f"at most {counts['seconds']} s and {counts['memory_mb']} MB more; {'; '.join(sorted(findings))}"
    return Row(
        kind="fuzz",
        stage=f"{target} by {engine}",
        trial=number,
        outcome=f"{len(findings)} findings" if findings else "ok",
        equal_bytes="another result" not in findings,
        left_overs=0,
        seconds=time.monotonic() - begun,
        detail=detail,
    )


def _wait(process: subprocess.Popen[bytes], seconds: float) -> int:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _counts(folder: Path) -> dict[str, Any]:
    """Those that the process wrote last; none where it did not come so far."""
    file = folder / "counts.json"
    if not file.exists():
        return {"inputs": 0, "refused": 0, "repeated": 0, "seconds": 0.0, "memory_mb": 0.0, "findings": {}}
    counts: dict[str, Any] = json.loads(file.read_text())
    return counts

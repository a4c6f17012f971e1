"""What it costs to check all that is read and written: the seconds that a stage hashes, of all that it takes.

Builds  a study of IMAGES phantom images in WORK, with params.yaml's settings but one process and few steps of training
Writes  benchmarks/results/verified_reads.csv, a row a stage as it ends; a stage that has a row is not run again
Run     PYTHONPATH=. python benchmarks/verified_reads.py WORK [--images 10000], with nothing else running on the host

Hashing is timed where it happens, in `models.verified` and `pipelines.opened`, inside the stage's own process: time
on the processor, reading of the hashed files included. The files are in the page cache, as after the stage before.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import yaml
from header import header, last_commit
from runs import RESULTS, append, link, read

ROOT = Path(__file__).resolve().parent.parent
OUTPUT = RESULTS / "verified_reads.csv"
STAGES = (
    "pipelines.code",
    "pipelines.phantom",
    "pipelines.ingest phantom",
    "pipelines.split",
    "pipelines.proposals",
    "pipelines.regions",
    "pipelines.captions",
    "pipelines.shards images",
    "pipelines.shards captions",
    "pipelines.train clip",
    "pipelines.evaluate clip",
    "pipelines.report",
)
# Runs a stage and prints, as its last line, the seconds on the processor and those of hashing.
TIMED = """
import hashlib, runpy, sys, time

class TimedHashlib:
    seconds = 0.0
    def __getattr__(self, name):
        function = getattr(hashlib, name)
        def timed(*values, **options):
            begun = time.thread_time()
            try:
                return function(*values, **options)
            finally:
                TimedHashlib.seconds += time.thread_time() - begun
        return timed

import models.verified
models.verified.hashlib = TimedHashlib()
if sys.argv[1].split(".")[1] in ("proposals", "shards", "captions", "report"):
    import pipelines.opened
    pipelines.opened.hashlib = TimedHashlib()
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
print(time.process_time(), TimedHashlib.seconds)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    prepare(arguments.work, arguments.images)
    done = {row["stage"] for row in read(arguments.output)}
    head = header("PYTHONPATH=. python benchmarks/verified_reads.py WORK", last_commit(ROOT))
    for stage in STAGES:
        if stage in done:
            continue
        total, hashing = run(arguments.work, stage)
        row = {
            "stage": stage,
            "images": arguments.images,
            "cpu_seconds": round(total, 3),
            "hashing_seconds": round(hashing, 4),
            "fraction": round(hashing / total, 5),
        }
        append(arguments.output, [row], head)
        print(row, flush=True)


def prepare(work: Path, images: int) -> None:
    work.mkdir(parents=True, exist_ok=True)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["phantom"]["images"] = images
    params["workers"]["processes"] = 1
    params["train"]["engine"]["num_workers"] = 0
    params["train"]["methods"] = {"clip": params["train"]["methods"]["clip"]}
    for phase in params["train"]["methods"]["clip"]["training"]["phases"].values():
        phase["epochs"] = 1
    (work / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    link(work, ROOT, "prompts", "keys")
    (work / "data").mkdir(exist_ok=True)
    (work / "data" / "review.jsonl").touch()
    (work / "data" / "audit.jsonl").touch()


def run(work: Path, stage: str) -> tuple[float, float]:
    """Seconds on the processor of a stage, and those of its hashing."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", TIMED, *stage.split()], cwd=work, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"error: {stage}: {done.stderr.strip().splitlines()[-1]}")
    total, hashing = map(float, done.stdout.splitlines()[-1].split())
    return total, hashing


if __name__ == "__main__":
    main()

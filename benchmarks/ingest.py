"""What ingest costs beside an earlier commit: the same pictures, the two checkouts in turn, on one host.

Reads   BEFORE: a checkout of the earlier commit (`git worktree add BEFORE COMMIT`)
Builds  WORK: IMAGES pictures of noise and shapes as PNG files (256 x 256, grey) with a table of texts, labels, patients
Writes  benchmarks/results/ingest.csv: a row a pair of runs as it ends; pairs that have a row are not run again
Run     PYTHONPATH=. python benchmarks/ingest.py BEFORE WORK [--images 2000] [--pairs 7], nothing else on the host

Seconds are those of the whole command, start of Python included. Which of the two comes first changes from pair to
pair.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml
from header import header, last_commit
from PIL import Image
from runs import REPOSITORY, RESULTS, append, link, read

OUTPUT = RESULTS / "ingest.csv"
FINDINGS = ("No Finding", "Effusion", "Mass|Nodule")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    before = arguments.before.resolve()
    make_source(arguments.work, arguments.images)
    studies = {"before": before, "after": REPOSITORY}
    for name, checkout in studies.items():
        prepare(checkout, arguments.work / name)
    commits = f"{last_commit(REPOSITORY)} (after), {last_commit(before)} (before)"
    head = header("PYTHONPATH=. python benchmarks/ingest.py BEFORE WORK", commits)
    for pair in range(len(read(arguments.output)), arguments.pairs):
        seconds = {}
        for name in sorted(("before", "after"), reverse=pair % 2 == 0):
            seconds[name] = run("pipelines.ingest mine", studies[name], arguments.work / name)
        row = {
            "pair": pair,
            "images": arguments.images,
            "before_seconds": round(seconds["before"], 3),
            "after_seconds": round(seconds["after"], 3),
            "ratio": round(seconds["after"] / seconds["before"], 4),
        }
        append(arguments.output, [row], head)
        print(row, flush=True)
    ratios = [float(row["ratio"]) for row in read(arguments.output)]
    print(f"median ratio {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


def make_source(work: Path, images: int) -> None:
    """The pictures and their table."""
    folder = work / "source"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["file_name", "text", "labels", "patient_id", "split"])
        for number in range(images):
            name = f"{number:05}.png"
            table.writerow([name, f"Picture {number}. Lungs are clear.", FINDINGS[number % 3], str(number // 3), ""])
            if not (folder / name).exists():
                pixels = rng.normal(90, 20, (256, 256))
                x, y = rng.integers(20, 200, 2)
                pixels[y : y + 40, x : x + 30] += 60
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)


def prepare(checkout: Path, study: Path) -> None:
    """A study of this one source for the code of a checkout, with the fingerprints that its stages ask for."""
    study.mkdir(exist_ok=True)
    params = yaml.safe_load((checkout / "params.yaml").read_text(encoding="utf-8"))
    source = {"adapter": "table", "root": "../source", "licence": "none", "patient_ids": "public"}
    params["ingest"]["sources"] = {"mine": source | {"options": {"modality": "radiograph"}}}
    (study / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    link(study, checkout, "prompts", "keys")
    run("pipelines.code", checkout, study)


def run(command: str, checkout: Path, study: Path) -> float:
    """Seconds of one command by the code of a checkout."""
    begun = time.monotonic()
    words = [sys.executable, "-m", *command.split()]
    subprocess.run(words, cwd=study, env=os.environ | {"PYTHONPATH": str(checkout)}, check=True, stderr=subprocess.PIPE)
    return time.monotonic() - begun


if __name__ == "__main__":
    main()

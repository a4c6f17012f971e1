"""What a second worker gains: ingest, proposals and image shards with one and with two, in turn, in one run.

Builds  WORK: IMAGES pictures of noise and blobs (SIDE x SIDE, grey PNG), each with a mask, and a study of them
Writes  benchmarks/results/cores.csv: the rows of a stage and repetition as they end; those with rows are not run again
Run     PYTHONPATH=. python benchmarks/cores.py WORK [--images 2000] [--side 512] [--repetitions 3], with nothing else
        running on the host

Seconds are those of the whole command, start of Python included; `ratio` is one worker's seconds by those of the row.
`processor_seconds` are those of the command and its workers together: what of them one worker does not need is what
workers cost (Ray's own processes are not in it). Outputs must have the same bytes. Which number of workers comes first
changes from repetition to repetition. Rows with `ray` are actors of an instance of Ray on this host, of which the start
counts too.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import yaml
from header import header, last_commit
from PIL import Image
from runs import REPOSITORY, RESULTS, append, build_data, read, timed

from models.verified import sha256_file

OUTPUT = RESULTS / "cores.csv"
# Stage -> its command, its output, and the stages that must have run before it.
STAGES = {
    "ingest": ("pipelines.ingest mine", "data/ingest/mine"),
    "proposals": ("pipelines.proposals", "data/proposals"),
    "image_shards": ("pipelines.shards images", "data/shards/images"),
}
BEFORE = {"proposals": ["pipelines.split"], "image_shards": ["pipelines.regions"]}
WAYS = {"1": {}, "2": {}, "2 ray": {"RAY_ADDRESS": "local"}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    study = make(arguments.work, arguments.images, arguments.side)
    head = header("PYTHONPATH=. python benchmarks/cores.py WORK", last_commit(REPOSITORY))
    done = {(row["stage"], int(row["repetition"])) for row in read(arguments.output)}
    for repetition in range(arguments.repetitions):
        for stage, (command, output) in STAGES.items():
            for earlier in BEFORE.get(stage, []):
                run(earlier, study, "1")
            if (stage, repetition) in done:
                continue
            took, digests = {}, set()
            for way in sorted(WAYS, reverse=repetition % 2 == 1):
                # The answers of the run before would be taken from the cache.
                shutil.rmtree(study / "data/cache", ignore_errors=True)
                took[way] = run(command, study, way)
                digests.add(digest(study / output))
            if len(digests) > 1:
                sys.exit(f"error: {stage}: {len(digests)} different outputs")
            rows = [
                {
                    "repetition": repetition,
                    "stage": stage,
                    "workers": way,
                    "items": arguments.images,
                    "side": arguments.side,
                    "seconds": round(seconds, 2),
                    "processor_seconds": round(processor, 2),
                    "ratio": round(took["1"][0] / seconds, 3),
                }
                for way, (seconds, processor) in sorted(took.items())
            ]
            append(arguments.output, rows, head)
            print(*rows, sep="\n", flush=True)


def make(work: Path, images: int, side: int) -> Path:
    """The pictures with their table, and a study of them with the fingerprints that its stages ask for."""
    source, study = work / f"source-{images}-{side}", work / f"study-{images}-{side}"
    source.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:side, :side]
    with (source / "metadata.jsonl").open("w", encoding="utf-8") as table:
        for number in range(images):
            name, mask = f"{number:06}.png", f"{number:06}-mask.png"
            if not (source / mask).exists():
                rng = np.random.default_rng(number)
                pixels = rng.normal(90, 12, (side, side))
                y, x, radius = *rng.integers(side // 8, side - side // 8, 2), rng.integers(side // 20, side // 10)
                inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
                pixels[inside] += 60
                Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(source / name)
                Image.fromarray(inside.astype(np.uint8) * np.uint8(255)).save(source / mask)
            row = {"file_name": name, "text": f"Picture {number}: a mass.", "mask": mask, "labels": ["mass"]}
            table.write(json.dumps(row | {"patient_id": number, "modality": "radiograph"}) + "\n")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    settings = {"adapter": "table", "root": f"../{source.name}", "licence": "none", "patient_ids": "public"}
    params["ingest"]["sources"] = {"mine": settings}
    params["proposals"]["labelled_images"] = images
    build_data(study, yaml.safe_dump(params, sort_keys=False), [])
    return study


def run(command: str, study: Path, way: str) -> tuple[float, float]:
    """Seconds of one command with so many workers, and seconds on the processor."""
    params = yaml.safe_load((study / "params.yaml").read_text(encoding="utf-8"))
    params["workers"]["processes"] = int(way.split()[0])
    (study / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    took = timed(study, ["-m", *command.split()], kept | WAYS[way])
    return took.seconds, took.processor_seconds


def digest(folder: Path) -> str:
    """Of all files of an output, with their names."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return " ".join(f"{file.relative_to(folder)} {sha256_file(file)}" for file in files)


if __name__ == "__main__":
    main()

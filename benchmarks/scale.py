"""What each stage costs as the data set grows: seconds and memory an image, from the phantom in growing numbers.

Builds  WORK/N: a study of N phantom images of 96 pixels, built by the stages' own commands
Writes  benchmarks/results/scale.csv: a row a stage and size as it ends; those with a row are not run again
        benchmarks/results/scale.md: growth from size to size, and the arithmetic for 500,000 and 25 million images
Run     PYTHONPATH=. python benchmarks/scale.py WORK [SIZE ...], with nothing else running on the host

Sizes are 1,000, 10,000 and 100,000 where none is named. Seconds are those of the whole command, less what Python and
the imports take (those of the smallest size would hide any growth); memory is the largest that the stage's own process
had, its workers' not counted. The model is the default study's CLIP, trained for one epoch on the smallest size: what
an evaluation costs does not depend on what it learnt.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import runs
import yaml
from header import header, last_commit
from runs import REPOSITORY, RESULTS

from pipelines.config import load_params
from pipelines.stage import command

SIZES = (1_000, 10_000, 100_000)
# Command -> name of its summary.
STAGES = {
    "phantom": "phantom",
    "ingest phantom": "ingest-phantom",
    "split": "split",
    "proposals": "proposals",
    "regions": "regions",
    "captions": "captions",
    "shards images": "image_shards",
    "shards captions": "caption_shards",
}
# Opens the training shards, and reads a hundred samples.
READ = """
import json
from pathlib import Path
from models.memory import peak_memory_mb
from models.data.shards import ShardSet
shards = ShardSet(Path("data/shards/images"), Path("data/shards/captions"), "train")
for number in range(0, len(shards), max(1, len(shards) // 100)):
    shards.sample(number)
print(json.dumps({"inputs": len(shards), "peak_memory_mb": peak_memory_mb()}))
"""
METHOD = "clip"
PROJECTED = (500_000, 25_000_000)


def main(work: str, *sizes: str) -> None:
    folder, file = Path(work).resolve(), RESULTS / "scale.csv"
    wanted = sorted(map(int, sizes)) if sizes else list(SIZES)
    done = {(row["stage"], int(row["images"])) for row in runs.read(file)}
    for images in wanted:
        study = folder / str(images)
        runs.build_data(study, settings(images), [])
        # The first command after an edit also compiles its modules.
        for name in (*STAGES, "index", "evaluate"):
            if (name, images) in done:
                continue
            if name == "index":
                row = measured(study, ["-c", READ], None)
            elif name == "evaluate":
                row = evaluated(study, folder / str(wanted[0]))
            else:
                row = measured(study, ["-m", *f"pipelines.{name}".split()], STAGES[name])
            about = {"stage": name, "images": images, **row}
            runs.append(file, [about], header("python benchmarks/scale.py WORK", last_commit(REPOSITORY)))
            print(about, flush=True)
    page(RESULTS)


def settings(images: int) -> str:
    """The default study with another number of images, one epoch of one method, and retrieval alone."""
    params = load_params(REPOSITORY / "params.yaml")
    params["phantom"]["images"] = images
    entry = params["train"]["methods"][METHOD]
    for phase in entry["training"]["phases"].values():
        phase["epochs"] = 1
    params["train"]["methods"] = {METHOD: entry}
    params["evaluate"]["tasks"] = {"retrieval": params["evaluate"]["tasks"]["retrieval"]}
    return str(yaml.safe_dump(params, sort_keys=False))


def measured(study: Path, arguments: list[str], summary: str | None) -> dict[str, Any]:
    """One command: its items, seconds and memory."""
    imported = runs.timed(study, ["-c", f"import {_module(arguments)}"])
    took = runs.timed(study, arguments)
    if summary is None:
        told = json.loads(took.output.splitlines()[-1])
    else:
        told = json.loads((study / "data" / "summaries" / f"{summary}.json").read_text())
    seconds = max(took.seconds - imported.seconds, 0.0)
    return {
        "items": told["inputs"],
        "seconds": round(seconds, 2),
        "processor_seconds": round(max(took.processor_seconds - imported.processor_seconds, 0.0), 2),
        "milliseconds_an_image": round(1000 * seconds / int(study.name), 4),
        "peak_memory_mb": round(told["peak_memory_mb"]),
        "workers": os.cpu_count(),
    }


def evaluated(study: Path, smallest: Path) -> dict[str, Any]:
    """Retrieval of the test split by the model of the smallest study."""
    trained = smallest / "data" / "checkpoints" / METHOD
    if not trained.is_dir():
        runs.timed(smallest, ["-m", "pipelines.train", METHOD])
    if study != smallest:
        shutil.copytree(trained, study / "data" / "checkpoints" / METHOD, dirs_exist_ok=True)
    return measured(study, ["-m", "pipelines.evaluate", METHOD], f"evaluate-{METHOD}")


def _module(arguments: list[str]) -> str:
    return f"{arguments[1]}.stage" if arguments[0] == "-m" else "models.data.shards"


def page(results: Path) -> None:
    """Growth and projections, from the rows."""
    rows = runs.read(results / "scale.csv")
    sizes = sorted({int(row["images"]) for row in rows})
    by_stage = {
        stage: {int(row["images"]): row for row in rows if row["stage"] == stage}
        for stage in dict.fromkeys(row["stage"] for row in rows)
    }
    columns = [f"{size:,}" for size in sizes]
    lines = [
        "# Costs as the data set grows",
        "",
        "Written by `python benchmarks/scale.py WORK` from scale.csv. Milliseconds an image on this host, and memory",
        "of the stage's own process.",
        "",
        f"| stage | {' | '.join(f'ms an image, {column}' for column in columns)} | growth | "
        f"{' | '.join(f'MB, {column}' for column in columns)} | growth | "
        f"{' | '.join(f'hours for {images:,}' for images in PROJECTED)} |",
        "|---" * (3 + 2 * len(columns) + len(PROJECTED)) + "|",
    ]
    for stage, found in by_stage.items():
        cells = [stage]
        for column in ("milliseconds_an_image", "peak_memory_mb"):
            values = [float(found[size][column]) if size in found else None for size in sizes]
            cells += ["" if value is None else f"{value:.3g}" for value in values]
            known = [value for value in values if value]
            cells.append(f"{known[-1] / known[-2]:.2f}" if len(known) > 1 else "")
        largest = found[max(found)]
        cells += [f"{float(largest['milliseconds_an_image']) * images / 3.6e6:.1f}" for images in PROJECTED]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Growth is the largest size over the one before. Hours are arithmetic: milliseconds an image at the largest",
        "size, times the images, over 3,600,000; with the cores of this host, for images of 96 pixels, as if an",
        "image cost then what it costs at the largest size.",
        "",
    ]
    (results / "scale.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    command(main)

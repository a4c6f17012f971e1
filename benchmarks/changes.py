"""What `dvc repro` costs where nothing, one prompt or one image changed, as the data set grows.

Reads   WORK/N: the studies that benchmarks/scale.py built, by the present code
Writes  benchmarks/results/changes.csv: a row a size and change as it ends; those with a row are not run again
Run     PYTHONPATH=. python benchmarks/changes.py WORK [SIZE ...], with nothing else running on the host

Sizes are 1,000, 10,000 and 100,000 where none is named. The graph ends with the shards of images and captions: what
training costs depends on the method. Its first row (`first commit`) is the time that DVC takes to hash what the stages
made. Bytes are those of the files under data/ that were written anew, the result cache and DVC's own cache left out.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import runs
import yaml
from header import header, last_commit
from PIL import Image
from runs import REPOSITORY, RESULTS
from scale import SIZES

from pipelines.errors import UserError
from pipelines.stage import command

STAGES = ("code", "ingest", "split", "proposals", "regions", "captions", "image_shards", "caption_shards")
SOURCE = Path("data/raw/phantom")


def main(work: str, *sizes: str) -> None:
    file = RESULTS / "changes.csv"
    done = {(row["change"], int(row["images"])) for row in runs.read(file)}
    for images in map(int, sizes or SIZES):
        study = Path(work).resolve() / str(images)
        if not (study / "data/shards/captions").is_dir():
            raise UserError(f"{study} is not built: run benchmarks/scale.py {work} {images}")
        for name, change in CHANGES.items():
            if (name, images) in done:
                continue
            words = change(study)
            began = time.time()
            took = runs.timed(study, ["-m", *words])
            row = {
                "change": name,
                "images": images,
                "seconds": round(took.seconds, 1),
                "processor_seconds": round(took.processor_seconds, 1),
                "stages_run": took.output.count("Running stage"),
                "megabytes_written": round(written_since(began, study) / 1e6, 2),
            }
            runs.append(file, [row], header("python benchmarks/changes.py WORK", last_commit(REPOSITORY)))
            print(row, flush=True)


def first_commit(study: Path) -> list[str]:
    """A study with DVC, whose stages count as run; its source is nobody's output, so that it may be changed."""
    graph = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))
    stages = {name: graph["stages"][name] for name in STAGES}
    (study / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False), encoding="utf-8")
    runs.link(study, REPOSITORY, "flows")
    (study / "data/weights").mkdir(exist_ok=True)
    if (study / "prompts").is_symlink():
        (study / "prompts").unlink()
        shutil.copytree(REPOSITORY / "prompts", study / "prompts")
    shutil.rmtree(study / ".dvc", ignore_errors=True)
    (study / "dvc.lock").unlink(missing_ok=True)
    shutil.copy(REPOSITORY / ".dvcignore", study)
    runs.timed(study, ["-m", "pipelines.code"])
    runs.timed(study, ["-m", "dvc", "init", "--no-scm", "--quiet"])
    return ["dvc", "commit", "--force", "--quiet"]


def nothing(study: Path) -> list[str]:
    return ["dvc", "repro"]


def nothing_as_a_flow(study: Path) -> list[str]:
    """Under Prefect, with the start of a server for this flow alone."""
    return ["flows.reproduce"]


def one_prompt(study: Path) -> list[str]:
    """Other words in the reports of the captioner `findings`."""
    prompt = study / "prompts/findings/report.txt"
    text = prompt.read_text(encoding="utf-8")
    prompt.write_text(text.replace("Findings named by", "The findings according to"), encoding="utf-8")
    return ["dvc", "repro"]


def one_image(study: Path) -> list[str]:
    """Another grey value of one pixel of the first image."""
    path = min((study / SOURCE).rglob("*.png"))
    pixels = np.array(Image.open(path))
    pixels[(0,) * pixels.ndim] ^= 1
    Image.fromarray(pixels).save(path)
    return ["dvc", "repro"]


CHANGES: dict[str, Callable[[Path], list[str]]] = {
    "first commit": first_commit,
    "nothing": nothing,
    "nothing, as a flow": nothing_as_a_flow,
    "one prompt": one_prompt,
    "one image": one_image,
}


def written_since(began: float, study: Path) -> int:
    """Bytes of the outputs that were written after a time."""
    files = (file for file in (study / "data").rglob("*") if file.is_file() and "cache" not in file.parts)
    return sum(stat.st_size for stat in map(os.stat, files) if stat.st_mtime >= began)


if __name__ == "__main__":
    command(main)

"""A study on two nodes of Ray, the second of which is killed half-way through every stage: what is lost, which bytes.

Builds  WORK: a study of IMAGES phantom images of 64 pixels for each way, by the stages' own commands
Writes  benchmarks/results/nodes.csv: a row a way and stage as it ends; those with a row are not run again
Run     PYTHONPATH=. python benchmarks/nodes.py WORK [--images 4000], with nothing else running on the host

Both nodes are on this host (`ray start`, one CPU each, addresses of loopback of their own), so that disk and clock are
shared and no network is between them. The first is the head, where the stage's own process is. The number of images is
such that all stages that have workers want two. Ways:

- `one process`: no Ray, no workers. Each other way is compared with it, file by file.
- `two nodes`: RAY_ADDRESS is set, training has two workers.
- `one killed`: SIGKILL to every process of the second node when half of the stage is done. Training goes on with the
  worker of the first (`min_workers: 1`). The next stage finds a new second node.
- `one replaced`: training alone, without `min_workers`: a new node comes at once, and training waits for it. Compared
  with `two nodes`, as it always has two workers.

Half of a stage is done, where it has workers, when the one of the second node has used half of the seconds on the
processor that it used in `two nodes`, counted from its first batch; where the stage is one process, when half of its
seconds have passed; in training, when half of the steps are in the progress file and Ray has a saved state. A worker
that died with its batch is told of in the stage's log, and a step that is done again stands twice in the progress file;
a row without either would be none of a node killed at work, and ends the benchmark.

Columns: `workers` seen at once, 1 for the stage's own process; `items` of the summary, of training: steps; `lost`,
those that one process has as ok and this way has not; `done_again`, items of batches that died, steps; `worker_seconds`
of the second node's worker on the processor; `same_bytes` of the output folder; the largest difference of a step's
loss, among the first ten and among all, and of a weight; `nodes` alive at the end. Two workers of training add up in
another order than one: the losses of the first steps show the rounding, later ones what training makes of it. There
is no dropout, of which each worker draws its own.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml
from cores import digest
from header import header, last_commit
from ray_nodes import Nodes, seconds_of, two_nodes, without_ray
from runs import REPOSITORY, RESULTS, append, build_data, link, read
from safetensors.torch import load_file

from models.checkpoint import CURVE, WEIGHTS
from pipelines.config import load_params
from pipelines.errors import UserError

OUTPUT = RESULTS / "nodes.csv"
SIDE = 64
METHOD, EPOCHS = "clip", 2
DIFFERENCES = ("first_loss_difference", "loss_difference", "weight_difference")
FIRST = 10  # steps, in which rounding has not grown
INTERVAL = 0.1  # seconds between two looks at the workers
# Of Ray Train: how long it asks for all workers again once a node is lost; its own minute is longer than this training.
START_TIMEOUT = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15"}
ONE, TWO, KILLED, REPLACED = "one process", "two nodes", "one killed", "one replaced"
Rows = dict[tuple[str, str], dict[str, str]]


class Stage(NamedTuple):
    """Command, summary and output folder of a stage; `has_workers`: of `pipelines/workers`."""

    command: str
    summary: str
    output: str
    has_workers: bool = False


STAGES = {
    "ingest": Stage("ingest phantom", "ingest-phantom", "ingest/phantom", True),
    "split": Stage("split", "split", "split"),
    "proposals": Stage("proposals", "proposals", "proposals", True),
    "regions": Stage("regions", "regions", "regions"),
    "captions": Stage("captions", "captions", "captions", True),
    "image_shards": Stage("shards images", "image_shards", "shards/images", True),
    "caption_shards": Stage("shards captions", "caption_shards", "shards/captions"),
    "train": Stage(f"train {METHOD}", f"train-{METHOD}", f"checkpoints/{METHOD}"),
}
WAYS = {ONE: tuple(STAGES), TWO: tuple(STAGES), KILLED: tuple(STAGES), REPLACED: ("train",)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    head = header("PYTHONPATH=. python benchmarks/nodes.py WORK", last_commit(REPOSITORY))
    studies = {way: make(way, arguments.work.resolve(), arguments.images) for way in WAYS}
    rows = {(row["way"], row["stage"]): row for row in read(arguments.output)}
    for way, stage in rows:
        if not (studies[way] / "data" / STAGES[stage].output).exists():
            raise UserError(f"{arguments.output} has rows of another WORK: name that, or another --output")

    def keep(way: str, stage: str, nodes: Nodes | None) -> None:
        row = measured(way, stage, studies, nodes, rows)
        append(arguments.output, [row], head)
        rows[way, stage] = {name: str(value) for name, value in row.items()}
        print(row, flush=True)

    missing = [(way, stage) for way, stages in WAYS.items() for stage in stages if (way, stage) not in rows]
    for way, stage in missing:
        if way == ONE:
            keep(way, stage, None)
    if on_nodes := [(way, stage) for way, stage in missing if way != ONE]:
        with two_nodes(without_ray()) as nodes:
            for way, stage in on_nodes:
                nodes.start_second()
                nodes.wait()
                keep(way, stage, nodes)


def make(way: str, work: Path, images: int) -> Path:
    """The study of a way; all read the pictures of the first, and training alone reads the shards of the second."""
    study = work / way.replace(" ", "-")
    (study / "data" / "raw").mkdir(parents=True, exist_ok=True)
    if way != ONE:
        link(study / "data/raw", work / ONE.replace(" ", "-") / "data/raw", "phantom")
    if way == REPLACED:
        link(study / "data", work / TWO.replace(" ", "-") / "data", "shards")
    build_data(study, settings(way, images), ["phantom"] if way == ONE else [])
    return study


def settings(way: str, images: int) -> str:
    """The default study in small pictures, with one phase of one method."""
    params = load_params(REPOSITORY / "params.yaml")
    params["phantom"] |= {"images": images, "size": SIDE}
    params["workers"]["processes"] = 1 if way == ONE else "all"
    entry = params["train"]["methods"][METHOD]
    training = entry["training"]
    training["phases"] = {"global": training["phases"]["global"] | {"epochs": EPOCHS}}
    training["phase_order"] = ["global"]
    architecture = entry["model"]["text_encoder"]["architecture"]
    architecture |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    params["train"]["methods"] = {METHOD: entry}
    params["train"]["engine"] |= {"threads": 1, "checkpoint_every": 10}
    if way != ONE:
        params["train"]["engine"] |= {"num_workers": 2, "max_failures": 2}
    if way in (TWO, KILLED):
        params["train"]["engine"]["min_workers"] = 1
    return str(yaml.safe_dump(params, sort_keys=False))


class Watch:
    """What was seen of a stage's workers.

    Attributes:
        workers: The most at once.
        seconds: On the processor that the worker of the second node took, from its first batch on.
        steps: Of training, in the order in which they were done.
    """

    def __init__(self, nodes: Nodes | None, study: Path) -> None:
        self.workers, self.seconds = 0, 0.0
        self.steps: list[int] = []
        self._nodes, self._study, self._before = nodes, study, dict[psutil.Process, float]()

    def look(self) -> None:
        # The process that shows training in MLflow deletes the file at its end.
        self.steps = steps(self._study) or self.steps
        if self._nodes is None or self._nodes.second is None:
            return
        there = self._nodes.second.workers()
        self.workers = max(self.workers, len(self._nodes.head.workers()) + len(there))
        for process, title in there.items():
            spent = seconds_of(process)
            if spent is not None and (process in self._before or title.endswith(".work")):
                self.seconds = max(self.seconds, spent - self._before.setdefault(process, spent))


def measured(way: str, stage: str, studies: dict[str, Path], nodes: Nodes | None, rows: Rows) -> dict[str, Any]:
    """Run a stage, with what the way does to it; its row."""
    about, study = STAGES[stage], studies[way]
    # Otherwise the answers of a run that was broken off would be taken from the cache, and training would go on.
    shutil.rmtree(study / "data/cache", ignore_errors=True)
    environment = without_ray() if nodes is None else nodes.environment | START_TIMEOUT
    watch, log, is_hurt = Watch(nodes, study), study / f"{stage}.log", False
    words = [sys.executable, "-m", *f"pipelines.{about.command}".split()]
    began = time.perf_counter()
    with (
        log.open("w") as stream,
        subprocess.Popen(words, cwd=study, env=environment, stdout=stream, stderr=stream) as process,
    ):
        try:
            while process.poll() is None:
                watch.look()
                passed = time.perf_counter() - began
                if way in (KILLED, REPLACED) and not is_hurt and is_half_done(stage, study, watch, passed, rows):
                    assert nodes is not None
                    assert nodes.second is not None
                    nodes.second.kill()
                    is_hurt = True
                    if way == REPLACED:
                        nodes.start_second()
                time.sleep(INTERVAL)
        finally:
            process.kill()
    seconds = time.perf_counter() - began
    if process.returncode:
        raise UserError(f"{stage}, {way}: exit code {process.returncode}\n{log.read_text()[-2000:]}")
    if way == TWO and has_workers(stage) and watch.workers < 2:
        raise UserError(f"{stage}, {way}: {watch.workers} workers were seen: ask for more --images")
    again = done_again(stage, watch, log)
    if way in (KILLED, REPLACED) and not (is_hurt and (again or not has_workers(stage))):
        raise UserError(f"{stage}, {way}: the node was not killed at work: ask for more --images")

    beside = studies[TWO if way == REPLACED else ONE]
    items, are_ok = outcomes(stage, study)
    outputs = [folder / "data" / about.output for folder in (beside, study)]
    return {
        "way": way,
        "stage": stage,
        "workers": max(watch.workers, 1),
        "items": items,
        "lost": outcomes(stage, beside)[1] - are_ok,
        "done_again": again,
        "seconds": round(seconds, 1),
        "worker_seconds": round(watch.seconds, 2) if about.has_workers and nodes is not None else "",
        "same_bytes": digest(outputs[0]) == digest(outputs[1]),
        **(differences(*outputs) if stage == "train" else dict.fromkeys(DIFFERENCES, "")),
        "nodes": 0 if nodes is None else nodes.alive,
    }


def has_workers(stage: str) -> bool:
    return STAGES[stage].has_workers or stage == "train"


def is_half_done(stage: str, study: Path, watch: Watch, passed: float, rows: Rows) -> bool:
    """Whether it is time to kill the node, as the module says; `passed`: seconds since the start."""
    if stage == "train":
        saved = list(study.glob("data/cache/train/*/ray/checkpoint_manager_snapshot.json"))
        return bool(saved) and 2 * len(set(watch.steps)) >= int(rows[ONE, stage]["items"])
    if STAGES[stage].has_workers:
        return 2 * watch.seconds >= float(rows[TWO, stage]["worker_seconds"])
    return 2 * passed >= min(float(rows[way, stage]["seconds"]) for way in (ONE, TWO))


def steps(study: Path) -> list[int]:
    """Steps in the progress file of training, in the order in which they were done."""
    found = []
    for file in study.glob("data/cache/progress/*.jsonl"):
        # The last line may be half written.
        lines = map(json.loads, file.read_text(encoding="utf-8").rpartition("\n")[0].splitlines())
        found += [line["step"] for line in lines if line.get("curve") == "steps"]
    return found


def done_again(stage: str, watch: Watch, log: Path) -> int:
    """Items of batches whose worker died, or steps that were done twice."""
    if stage == "train":
        return len(watch.steps) - len(set(watch.steps))
    return sum(map(int, re.findall(r"a worker died .* with (\d+) items at hand", log.read_text(encoding="utf-8"))))


def outcomes(stage: str, study: Path) -> tuple[int, int]:
    """Items of a stage and how many of them are ok; of training, steps of the curve."""
    if stage == "train":
        points = json.loads((study / "data" / STAGES[stage].output / CURVE).read_text(encoding="utf-8"))["steps"]
        return len(points), len({point["step"] for point in points})
    summary = json.loads((study / "data/summaries" / f"{STAGES[stage].summary}.json").read_text(encoding="utf-8"))
    return summary["inputs"], summary["ok"]


def differences(first: Path, second: Path) -> dict[str, float]:
    """Of two checkpoints, the largest that a loss has, among the first steps and among all, and a weight."""
    before, after = (
        {point["step"]: point["loss"] for point in json.loads((folder / CURVE).read_text())["steps"]}
        for folder in (first, second)
    )
    weights = [load_file(folder / WEIGHTS) for folder in (first, second)]
    losses = {step: abs(before[step] - after[step]) for step in before.keys() & after.keys()}
    return {
        "first_loss_difference": max(losses[step] for step in sorted(losses)[:FIRST]),
        "loss_difference": max(losses.values()),
        "weight_difference": max(float((weights[1][name] - value).abs().max()) for name, value in weights[0].items()),
    }


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")

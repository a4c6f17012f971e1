"""What a method costs, for columns `efficiency/...`: of the model itself, not of what it scores."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from models.checkpoint import CURVE
from models.segmentation.method import SegmentationMethod
from models.sizes import class_of, size_of, training_flops
from pipelines.evaluate.latency import EMBEDDING, LATENCY
from pipelines.files import read_output, read_summary

TASK = "efficiency"
SUMMARY = "data/summaries/{stage}-{entry}.json"
CHECKPOINT = "data/checkpoints/{entry}"
_OF_SETTINGS = (
    "training_parameters",
    "training_parameters_without_text_encoder",
    "training_flops",
    "parameters",
    "parameters_without_text_encoder",
    "flops",
    "macs",
    "memory",
)
METRICS = (*_OF_SETTINGS, "latency", "training_memory", "seconds_to_dice@k")
# They follow from the settings: nothing has to be trained for them.
OF_SETTINGS = frozenset(f"{TASK}/{name}" for name in _OF_SETTINGS)
LATENCY_METRIC = f"{TASK}/latency"
_TO_DICE = re.compile(r"seconds_to_dice@(0?\.\d+)")


def is_metric(name: str) -> bool:
    """Whether it is one of `METRICS`, of which `@k` stands for a Dice between 0 and 1."""
    return name in METRICS[:-1] or _TO_DICE.fullmatch(name) is not None


def costs_of(
    entry: str, params: dict[str, Any], workspace: Path | None, wanted: Collection[str]
) -> dict[str, float | str]:
    """Metric -> value, or why there is none, of one entry of `train.methods`.

    `parameters` are those that an answer depends on, `training_parameters` all, both also without the text encoder, as
    papers on segmentation print them; `flops` and `macs` are those of one answer, `training_flops` those of the losses
    of one image with its text, without the backward pass; two FLOPs for each multiplication with its addition
    (`models/sizes.py`). `memory`, in bytes, is that of one answer: the weights, the inputs and the tensors on the way
    where these are most. `latency`, in seconds, is that of an answer on this host's processor: of a mask where the task
    `segmentation` was run, of the embeddings of an image and a text where the method does not segment.
    `training_memory`, in bytes, is the most that a worker's process held of this host's memory while it trained; what
    a GPU holds is not in it. `seconds_to_dice@<d>` are the seconds of training until the mean Dice of validation
    images was at least d.

    Args:
        entry: Its name.
        params: All sections of params.yaml.
        workspace: Where it was trained and evaluated; None: it was not, with these params.
        wanted: The metrics.
    """
    method = params["train"]["methods"][entry]
    found = _of_settings(entry, method, params["shards"], wanted)
    if workspace is None:
        return dict.fromkeys(wanted, "not run yet") | found
    found["latency"] = _latency(entry, method, workspace)
    found["training_memory"] = _training_memory(entry, workspace)
    for name in wanted:
        if (match := _TO_DICE.fullmatch(name)) is not None:
            found[name] = _seconds_to_dice(float(match[1]), entry, method, workspace)
    return found


def _of_settings(
    entry: str, method: dict[str, Any], shards: dict[str, Any], wanted: Collection[str]
) -> dict[str, float | str]:
    try:
        size = size_of(entry, method, shards)
    except ValueError as error:
        # Such as an encoder of the hub whose architecture nobody knows here: what was measured is known all the same.
        return dict.fromkeys(_OF_SETTINGS, str(error))
    found: dict[str, float | str] = {
        "training_parameters": float(size["parameters_total"]),
        "training_parameters_without_text_encoder": float(size["parameters_total_without_text_encoder"]),
        "parameters": float(size["parameters_inference"]),
        "parameters_without_text_encoder": float(size["parameters_inference_without_text_encoder"]),
        "flops": size["gflops_inference"] * 1e9,
        "macs": size["gmacs_inference"] * 1e9,
        "memory": float(size["bytes_inference"]),
    }
    if "training_flops" in wanted:
        flops = training_flops(entry, method, shards)
        found["training_flops"] = flops or "training_flops are counted of methods that segment"
    return found


def _latency(entry: str, method: dict[str, Any], workspace: Path) -> float | str:
    segments = issubclass(class_of(method.get("method") or entry), SegmentationMethod)
    timings = _summary(workspace, "evaluate", entry).get("timings", {})
    milliseconds: float | None = timings.get("segmentation" if segments else EMBEDDING, {}).get(LATENCY)
    if milliseconds is not None:
        return milliseconds / 1000
    return f"not measured: {'the task segmentation did not run' if segments else 'no image with a report was embedded'}"


def _training_memory(entry: str, workspace: Path) -> float | str:
    """The summary has it in MiB."""
    found: float | None = _summary(workspace, "train", entry).get("worker_peak_memory_mb")
    return "not trained yet" if found is None else found * 2**20


def _summary(workspace: Path, stage: str, entry: str) -> dict[str, Any]:
    file = workspace / SUMMARY.format(stage=stage, entry=entry)
    return read_summary(file) if file.is_file() else {}


def _seconds_to_dice(least: float, entry: str, method: dict[str, Any], workspace: Path) -> float | str:
    """Of the training steps alone, at their mean pace: reading and losses, no validation and no start of processes.

    The Dice is known at the end of each epoch.
    """
    file = workspace / CHECKPOINT.format(entry=entry) / CURVE
    pace = _summary(workspace, "train", entry).get("samples_per_second")
    if not file.is_file() or pace is None:
        return "not trained yet, or in fewer than two steps"
    points = [point for point in read_output(file)["validation"] if "dice" in point.get("scores", {})]
    if not points:
        return "no Dice of validation images: it is known where `best_by` is dice"
    samples = step = 0
    for point in points:
        samples += (point["step"] - step) * method["training"]["phases"][point["phase"]]["batch_size"]
        step = point["step"]
        if point["scores"]["dice"] >= least:
            return samples / pace
    best = max(point["scores"]["dice"] for point in points)
    return f"the Dice of validation images stayed below {least:g} (highest {best:.3f})"

"""What a method costs, for columns `efficiency/...`: of the model itself, not of what it scores."""

from pathlib import Path
from typing import Any

from models.sizes import size_of
from pipelines.files import read_summary

TASK = "efficiency"
SUMMARY = "data/summaries/evaluate-{entry}.json"
METRICS = ("training_parameters", "parameters", "flops", "macs", "latency")
# They follow from the settings: nothing has to be trained for them.
OF_SETTINGS = frozenset(f"{TASK}/{name}" for name in METRICS if name != "latency")


def costs_of(entry: str, params: dict[str, Any], workspace: Path) -> dict[str, float]:
    """Metric -> value, of one entry of `train.methods`.

    `parameters` are those that an answer depends on, `training_parameters` all; `flops` and `macs` are those of one
    answer, two FLOPs for each multiplication with its addition (`models/sizes.py`). `latency`, in seconds, is that of
    one mask on this host's processor, where the task `segmentation` was run.
    """
    size = size_of(entry, params["train"]["methods"][entry], params["shards"])
    found = {
        "training_parameters": float(size["parameters_total"]),
        "parameters": float(size["parameters_inference"]),
        "flops": size["gflops_inference"] * 1e9,
        "macs": size["gmacs_inference"] * 1e9,
    }
    summary = workspace / SUMMARY.format(entry=entry)
    timings = read_summary(summary).get("timings", {}) if summary.is_file() else {}
    if (milliseconds := timings.get("segmentation", {}).get("latency_cpu_ms")) is not None:
        found["latency"] = milliseconds / 1000
    return found

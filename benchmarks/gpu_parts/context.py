"""What every item of benchmarks/gpu.py is given and gives back."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

# Setting, measure, value, unit.
Measure = tuple[str, str, float | str, str]
Measures = Iterator[Measure]

# Dense bfloat16 in TFLOP/s, from NVIDIA's data sheets; the first name that the device's name holds counts.
PEAKS = {"H100 PCIe": 756.0, "H100 NVL": 835.0, "H100": 989.0, "H200": 989.0}


@dataclass(frozen=True, kw_only=True)
class Context:
    """How an item runs.

    Attributes:
        device: Where to compute.
        small: Sizes with which all items together take seconds on a CPU.
        work: Folder for shards, which the items share.
        qata: The file that benchmarks/pack_qata.py wrote; None where it is missing.
        weights: The folder that benchmarks/pack_weights.py wrote; None where it is missing.
        seconds: The item's time box.
        began: Start of the item, on the clock of `time.perf_counter`.
    """

    device: torch.device
    small: bool
    work: Path
    qata: Path | None
    weights: Path | None
    seconds: float
    began: float = field(default_factory=time.perf_counter)

    def seconds_left(self) -> float:
        return self.seconds - (time.perf_counter() - self.began)

    @property
    def loader_workers(self) -> int:
        """Processes that decode beside the training step; the training process and the system keep a core each."""
        return 0 if self.small else min(12, max(1, (os.cpu_count() or 1) - 2))

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def reset_peak_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def peak_memory(self) -> Measures:
        """Largest memory that tensors held on the GPU since `reset_peak_memory`; nothing on a CPU."""
        if self.device.type == "cuda":
            yield "", "peak_memory", torch.cuda.max_memory_allocated() / 2**20, "MiB"


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def peak_tflops(name: str) -> float | None:
    """Peak of a device by its name; None where it is not in the table."""
    return next((peak for part, peak in PEAKS.items() if part in name), None)

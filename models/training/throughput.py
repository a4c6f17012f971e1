"""Throughput of a training run, and how it reads in the log."""

import time
from dataclasses import dataclass
from typing import Any

import torch

from models.memory import peak_memory_mb


@dataclass
class _Sums:
    images: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, images: int, seconds: float, waited: float) -> None:
        self.images += images
        self.seconds += seconds
        self.waited += waited


class Throughput:
    """Samples per second and the fraction of the time spent waiting for data, measured on one worker.

    The first step is left out: it starts processes and compiles.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.steps = 0
        self.whole, self.window = _Sums(), _Sums()
        self.mark = time.perf_counter()

    def resume(self) -> None:
        """Leave what happened since the last step out of the time of the next one."""
        self.mark = time.perf_counter()

    def step(self, images: int, waited: float) -> None:
        """Count a step that just ended.

        Args:
            images: Of the batch, over all workers.
            waited: Seconds until this worker had its rows of the batch.
        """
        now = time.perf_counter()
        if self.steps > 0:
            for sums in (self.whole, self.window):
                sums.add(images, now - self.mark, waited)
        self.steps += 1
        self.mark = now

    def line(self, steps_left: int) -> str:
        """Throughput since the last line, and the time that the remaining steps take at the mean pace of the run."""
        window, self.window = self.window, _Sums()
        if not window.images:
            return "-"
        pace = f"{window.images / window.seconds:.0f} samples/s, {window.waited / window.seconds:.0%} waiting for data"
        left = steps_left * self.whole.seconds / (self.steps - 1)
        return f"{pace}{_gpu(self.device)}, {left:.0f} s left"

    def result(self) -> dict[str, Any]:
        """Figures over the whole run but its first step; None where there were not two steps."""
        whole = self.whole
        figures = {
            "samples_per_second": round(whole.images / whole.seconds, 2) if whole.images else None,
            "data_wait_fraction": round(whole.waited / whole.seconds, 4) if whole.images else None,
            "worker_peak_memory_mb": round(peak_memory_mb(), 1),
        }
        if self.device.type == "cuda":
            figures["gpu_peak_memory_mb"] = round(torch.cuda.max_memory_allocated(self.device) / 2**20, 1)
        return figures


def _gpu(device: torch.device) -> str:
    if device.type != "cuda":
        return ""
    now, peak = (
        f"{bytes_ / 2**30:.1f}" for bytes_ in (torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated())
    )
    try:
        busy = f"{torch.cuda.utilization(device)} %"
    except ModuleNotFoundError:  # nvidia-ml-py is not one of the libraries of models/
        busy = "-"
    return f", GPU {now} GiB (peak {peak}), busy {busy}"

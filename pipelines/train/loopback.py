"""torch.distributed between the Ray Train workers of one machine: they meet in a file and connect on loopback alone.

Ray's own way is a store of torch's that listens on every interface and answers whoever asks.
"""

import os
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import ray
import torch.distributed as dist
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

# Linux's name of the interface of 127.0.0.1.
INTERFACE = "lo"


@dataclass
class LoopbackConfig(TorchConfig):
    """`TorchConfig` for workers of one machine.

    Attributes:
        folder: Where the file is made in which they meet.
    """

    folder: str = ""

    @property
    def backend_cls(self) -> type["LoopbackBackend"]:
        return LoopbackBackend


class LoopbackBackend(_TorchBackend):
    """Joins the workers of a group, which may be the second after one of the first died."""

    def on_start(self, worker_group, backend_config: LoopbackConfig) -> None:  # type: ignore[no-untyped-def,override]
        """Join all workers in one process group; the file of a group before is deleted."""
        folder = Path(backend_config.folder)
        for old in folder.glob("workers-*"):
            old.unlink()
        # Only its owner can read and write it.
        descriptor, file = tempfile.mkstemp(prefix="workers-", dir=folder)
        os.close(descriptor)
        size = len(worker_group)
        seconds = backend_config.timeout_s
        ray.get(
            [
                worker_group.execute_single_async(rank, _join, file, rank, size, backend_config.backend, seconds)
                for rank in range(size)
            ]
        )


def _join(file: str, rank: int, size: int, backend: str, seconds: int) -> None:
    """Join this process."""
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = INTERFACE
    store = dist.FileStore(file, size)
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timedelta(seconds=seconds))

"""Methods for the tests of the stage; Ray's workers import them."""

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from models.data.batches import Batch
from models.distributed import rank
from models.regionmed_clip.config import RegionMedClipConfig
from models.regionmed_clip.model import RegionMedClip


class Mortal(RegionMedClip):
    """Writes down which images each step saw; as long as the file DIE exists, its second worker dies in step 7.

    Its workers wait in step 7 as long as the file WAIT exists.
    Where the file SPOIL exists, its loss is not a number in step 3. Its weights are float64: the gradients of biases of
    attention's keys are 0 but for rounding, which Adam blows up to whole steps in float32.
    """

    steps = 0

    def __init__(self, config: RegionMedClipConfig, vocabulary_size: int) -> None:
        super().__init__(config, vocabulary_size)
        self.double()

    def forward(self, batch: Batch, losses: Sequence[str]) -> dict[str, Tensor]:
        images = replace(batch.images, pixels=batch.images.pixels.double(), crops=batch.images.crops.double())
        batch = replace(batch, images=images)
        if not torch.is_grad_enabled():
            # The batch that is tried before training begins.
            return super().forward(batch, losses)
        self.steps += 1
        folder = Path(os.environ["MORTAL_FOLDER"])
        with (folder / f"seen-{os.getpid()}-{rank()}").open("a") as stream:
            stream.write(" ".join([*losses, "of", *batch.keys]) + "\n")
        die = folder / "DIE"
        if self.steps == 7 and rank() == 1 and die.exists():
            # Ray's controller learns of a state some seconds after it was reported; an earlier death starts anew.
            while not list(folder.glob("data/cache/*/ray/checkpoint_manager_snapshot.json")):
                time.sleep(0.05)
            die.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        while self.steps == 7 and (folder / "WAIT").exists():
            (folder / f"waits-{rank()}").touch()
            time.sleep(0.05)
        found = super().forward(batch, losses)
        if self.steps == 3 and (folder / "SPOIL").exists():
            return {name: value * float("nan") for name, value in found.items()}
        return found

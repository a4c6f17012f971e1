"""A workspace in which a contrastive method, PLAN and a U-Net were trained: real checkpoints and shards, all small."""

from pathlib import Path
from typing import Any

import torch

from models import checkpoint
from models.plan.model import Plan
from models.unet.config import UNetConfig
from models.unet.model import UNet
from tests.models.small import make_model
from tests.pipelines.evaluate.small_world import image, region, save_clip, tokenizer_of, write_shards
from tests.shards import INPUT_FORMAT

CURVE: dict[str, Any] = {"steps": [{"step": 1, "loss": 1.0}], "validation": []}


def write_workspace(folder: Path) -> Path:
    """Eight test images with a report each; the first six with a region and its outline, the seventh with none."""
    images = [
        image(
            number, regions=[region(number, (0, 0, 8, 8), term="mass" if number < 5 else "cyst")], target=[(0, 0, 8, 8)]
        )
        for number in range(6)
    ]
    write_shards(folder / "data/shards", [*images, image(6, target=[]), image(7)])
    save_clip(folder / "data/checkpoints/clip", seed=0)
    tokenizer = tokenizer_of([one["report"] for one in images])
    torch.manual_seed(0)
    for name, model in (("plan", make_model(tokenizer, Plan)), ("unet", UNet(UNetConfig(base=2), len(tokenizer)))):
        (folder / "data/checkpoints" / name).mkdir()
        checkpoint.save(
            folder / "data/checkpoints" / name, name, model.eval(), model.state_dict(), tokenizer, CURVE, INPUT_FORMAT
        )
    return folder

"""Part 4: the same 50 steps in this process, in one process of torchrun (NCCL, on a CPU gloo), and in Ray Train.

As a program, `launchers.py SHARDS DEVICE OUTPUT`: what torchrun starts.
"""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from gpu_parts.context import Context, Measures
from gpu_parts.pretraining import SMALL_BERT, SMALL_VIT, tokenizer_of
from gpu_parts.random_shards import random_shards
from models import checkpoint
from models.clip.model import Clip
from models.data.batches import Tokenise
from models.data.shards import ShardSet
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import SamplingPlan
from models.training.loop import fit
from pipelines.ray_session import prepare_ray, ray_session

STEPS = 50
BATCH = 8
IMAGES = 80
LOSSES = ("report",)


def torchrun(context: Context) -> Measures:
    """Start one process by torchrun, and compare its last loss with that of the bare loop."""
    folder, output = _folder(context), context.work / "torchrun.json"
    bare, _ = train(folder, context.device)
    # torchrun's agent meets in a file as the process itself does: torch's usual store listens on every interface.
    meeting = ["--rdzv-backend=c10d", "--rdzv-conf=store_type=file", f"--rdzv-endpoint={context.work / 'agents'}"]
    words = [sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc-per-node", "1", __file__]
    packages = [str(Path(__file__).resolve().parent.parent), *sys.path]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, packages)),
        "OMP_NUM_THREADS": "1",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    command = [*words, str(folder), context.device.type, str(output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"torchrun ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    figures = json.loads(output.read_text())
    setting = f"{figures['backend']}, {figures['world']} process, float32, tiny CLIP, {STEPS} steps"
    yield setting, "last_loss", figures["loss"], ""
    yield f"no launcher, float32, tiny CLIP, {STEPS} steps", "last_loss", bare, ""
    yield setting, "loss_difference", abs(figures["loss"] - bare), ""
    yield setting, "ddp_gradient_difference", figures["gradients"], ""


def ray_train(context: Context) -> Measures:
    """The same in a worker of Ray Train: on a GPU one of its own, on a CPU in local mode, which starts nothing."""
    prepare_ray()
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipelines.train.loopback import LoopbackConfig

    gpu = context.device.type == "cuda"
    folder = _folder(context)
    bare, _ = train(folder, context.device)
    trainer: Any = TorchTrainer(
        _ray_worker,
        train_loop_config={"shards": str(folder)},
        torch_config=LoopbackConfig(folder=str(context.work)),
        scaling_config=ScalingConfig(num_workers=int(gpu), use_gpu=gpu),
        run_config=RunConfig(name="ray", storage_path=str(context.work / "ray")),
    )
    with ray_session() if gpu else nullcontext():
        loss = trainer.fit().return_value
    setting = f"{'one worker' if gpu else 'local mode'}, float32, tiny CLIP, {STEPS} steps"
    yield setting, "last_loss", loss, ""
    yield setting, "loss_difference", abs(loss - bare), ""


def _ray_worker(config: dict[str, Any]) -> float:
    from ray.train.torch import get_device

    return train(Path(config["shards"]), get_device())[0]


def train(folder: Path, device: torch.device) -> tuple[float, tuple[Clip, Any]]:
    """The last loss of 50 steps; and the model with a batch."""
    torch.set_num_threads(1)
    shards = ShardSet(folder / "images", folder / "captions", "train")
    tokenizer = tokenizer_of(shards, 200)
    torch.manual_seed(0)
    encoders = {"image_encoder": {"architecture": SMALL_VIT}, "text_encoder": {"architecture": SMALL_BERT}}
    config = checkpoint.build(Clip.Config, encoders | {"embedding_size": 16})
    model = Clip(config, len(tokenizer)).to(device)
    collate = model.collate(Tokenise(tokenizer, 32), None, 0)
    plan = SamplingPlan(shards=shards, usable=np.ones(IMAGES, dtype=bool), seed=0, buffer=IMAGES)
    phase = Phase(epochs=STEPS * BATCH // IMAGES, batch_size=BATCH, learning_rate=1e-3, losses=LOSSES)
    training, engine = TrainingConfig(phases={"all": phase}), EngineConfig(checkpoint_every=10**9)
    state = fit(model, plan, collate, training, engine, device=device, saved=None, save=lambda _: None)
    (last,) = (point["loss"] for point in state["curve"] if point["step"] == STEPS)
    return last, (model, collate([shards.sample(number) for number in range(BATCH)], None).to(device))


def _main(folder: str, device_type: str, output: str) -> None:
    device = torch.device(device_type, 0) if device_type == "cuda" else torch.device(device_type)
    os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = "lo"
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.FileStore(f"{output}.store", world)
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo", store=store, rank=rank, world_size=world)
    loss, (model, batch) = train(Path(folder), device)
    # With one process the loop needs no collective; DistributedDataParallel does reduce the gradients.
    own, reduced = (_gradients(module, batch) for module in (model.eval(), DistributedDataParallel(model.eval())))
    difference = max(float((a - b).abs().max()) for a, b in zip(own, reduced, strict=True))
    figures = {"loss": loss, "gradients": difference, "backend": dist.get_backend(), "world": dist.get_world_size()}
    Path(output).write_text(json.dumps(figures))
    dist.destroy_process_group()


def _gradients(module: torch.nn.Module, batch: Any) -> list[Tensor]:
    module.zero_grad(set_to_none=True)
    module(batch, LOSSES)["report"].backward()
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


def _folder(context: Context) -> Path:
    return random_shards(context.work / "tiny", IMAGES, 32, 8).images.parent


if __name__ == "__main__":
    _main(*sys.argv[1:])

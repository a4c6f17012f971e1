"""The training loop runs where nothing is installed but the six libraries that it may use and what they need."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ALLOWED = ("torch", "transformers", "numpy", "pillow", "safetensors", "webdataset")

TRAIN = """
import sys, torch
from pathlib import Path
from models.data.batches import Collate, Tokenise
from models.data.shards import ShardSet
from models.text import load_tokenizer
from models.training.config import EngineConfig, Phase, TrainingConfig
from models.training.data import SamplingPlan, usable
from models.training.loop import fit
from tests.models.small import make_model

folder = Path(sys.argv[1])
tokenizer = load_tokenizer(folder / "tokenizer")
shards = ShardSet(folder / "images", folder / "captions", "train")
model = make_model(tokenizer)
phase = Phase(epochs=1, batch_size=8, learning_rate=1e-3, losses=model.losses)
state = fit(
    model,
    SamplingPlan(shards, usable(shards, type(model)), 0, 10),
    Collate(Tokenise(tokenizer, 32), model.max_regions),
    TrainingConfig(phases={"joint": phase}),
    EngineConfig(threads=1, num_workers=0),
    device=torch.device("cpu"),
    saved=None,
    save=lambda state: None,
)
print("trained", state["position"][3], "steps")
for forbidden in ("pandas", "pyarrow", "ray", "mlflow", "sklearn", "pipelines"):
    try:
        __import__(forbidden)
    except ImportError:
        continue
    raise SystemExit(f"{forbidden} could be imported: this test blocks nothing")
"""


def needed(names: tuple[str, ...]) -> set[str]:
    """Distributions that the named ones require, themselves included, extras left out."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        requirements = map(Requirement, importlib.metadata.requires(name) or [])
        waiting += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


@pytest.mark.slow
def test_the_loop_needs_six_libraries(shards: Path, tokenizer, repository: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for name in needed(ALLOWED):
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    code = tmp_path / "code"
    code.mkdir()
    (code / "models").symlink_to(repository / "models")
    (code / "tests").symlink_to(repository / "tests")
    for family in ("images", "captions"):
        (tmp_path / family).symlink_to(shards / family)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    # -I would hide PYTHONPATH; -S hides the environment's own site-packages.
    result = subprocess.run(
        [sys.executable, "-S", "-c", TRAIN, str(tmp_path)],
        cwd=code,
        env={"PYTHONPATH": f"{code}{os.pathsep}{site}", "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "trained 4 steps" in result.stdout

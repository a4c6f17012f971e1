"""benchmarks/training.py at the smallest size: which rows it writes, that it keeps them, and the code for a GPU."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.models.small import ENCODERS, write_shards

PHASES = {"only": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "losses": ["report"]}}


@pytest.fixture
def study(tmp_path: Path, repository: Path) -> Path:
    write_shards(tmp_path / "shards", 40)
    method = {
        "model": ENCODERS,
        "training": {"phases": PHASES, "vocabulary_size": 120, "max_length": 32},
    }
    values = {"engine": {"threads": 1, "num_workers": 0}, "methods": {"clip": method}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"train": values}, sort_keys=False))
    return tmp_path


def measure(study: Path, repository: Path, *flags: str) -> list[dict[str, Any]]:
    """Run the script; return the rows of its file."""
    output = study / "training.csv"
    words = [repository / "benchmarks" / "training.py", study / "shards", study / "params.yaml", "clip"]
    options = ["--output", output, "--repeats", "1", "--steps", "8", "--commit", "0" * 40, *flags]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run(
        [sys.executable, *words, *options], cwd=repository, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = output.read_text().splitlines()
    assert lines[0].startswith("# command: python ")
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


@pytest.mark.slow
def test_the_loader_and_the_papers_models_at_a_small_size(study: Path, repository: Path) -> None:
    # What is there is not measured again: the part with Ray, for which a test has no time, counts as done.
    head = "# command: python x\nmeasure,method,setting,value,unit,repeats\n"
    (study / "training.csv").write_text(head + "ray_over_bare,clip,,1,,1\n")
    rows = measure(study, repository, "--loader-workers", "0")
    assert [(row["measure"], row["method"], row["setting"]) for row in rows] == [
        ("ray_over_bare", "clip", ""),
        ("loader_samples_per_second", "clip", "0 processes"),
        ("decode_samples_per_second", "clip", "0 processes"),
        ("loader_over_decode", "clip", "0 processes"),
    ]
    loader, decode, ratio = (float(row["value"]) for row in rows[1:])
    assert ratio == pytest.approx(loader / decode, rel=1e-3)
    assert ratio > 0


@pytest.mark.slow
def test_the_code_for_a_gpu_counts_the_work_of_a_step(study: Path, repository: Path) -> None:
    encoders = json.dumps(
        {
            "image_encoder": {
                "architecture": ENCODERS["image_encoder"]["architecture"] | {"hidden_size": 32, "intermediate_size": 64}
            },
            "text_encoder": ENCODERS["text_encoder"],
            "embedding_size": 16,
        }
    )
    rows = measure(study, repository, "--gpu", "0.5", "--device", "cpu", "--encoders", encoders, "--batch-size", "16")
    found = {row["measure"]: float(row["value"]) for row in rows}
    assert {row["setting"] for row in rows} == {"cpu, bfloat16, batch 16"}
    assert list(found) == [
        "samples_per_second",
        "model_flops",
        "data_wait_fraction",
        "peak_memory",
        "model_flop_utilisation",
    ]
    # By hand, the image encoder's linear layers alone: 17 tokens, width^2 multiplications and additions 4 times in the
    # attention and 4 times in the feed-forward layer, thrice for forward and backward pass. The text encoder has less.
    image = 3 * 2 * 17 * 8 * 32**2 / 1e9
    assert image < found["model_flops"] < 3 * image
    expected = found["samples_per_second"] * found["model_flops"] * 1e9 / 0.5e12
    assert found["model_flop_utilisation"] == pytest.approx(expected, rel=1e-2)
    assert found["peak_memory"] > 50

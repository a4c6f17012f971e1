"""The published weights that benchmarks/gpu.py carries to a GPU, in half precision: half of the bytes travel.

Reads   data/weights/lite_medsam and data/weights/dinov2_small (`make weights WEIGHTS="lite_medsam dinov2_small"`)
Writes  OUT/<name>/model.safetensors, its floats as float16, and the config.json of a model that has one
Run     PYTHONPATH=. python benchmarks/pack_weights.py data/packed/weights
"""

import argparse
import shutil
import sys
from pathlib import Path

import torch
from gpu_parts.published import NAMES
from safetensors.torch import load_file, save_file

from models.lite_medsam import WEIGHTS

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, default=ROOT / "data" / "weights", help="the folder of `make weights`")
    arguments = parser.parse_args()
    for name in NAMES:
        pack(arguments.weights / name, arguments.out / name)
        print(f"{(arguments.out / name / WEIGHTS).stat().st_size / 1e6:6.1f} MB  {arguments.out / name}")


def pack(source: Path, output: Path) -> None:
    """Write one folder."""
    if not (source / WEIGHTS).is_file():
        sys.exit(f'error: {source} has no {WEIGHTS}: run `make weights WEIGHTS="{source.name}"`')
    weights = {
        # Counts of batches stay whole numbers.
        name: value.half() if value.is_floating_point() else value
        for name, value in load_file(source / WEIGHTS).items()
    }
    if too_large := [name for name, value in weights.items() if not torch.isfinite(value).all()]:
        sys.exit(f"error: {source}: {too_large[0]} is too large for half precision")
    output.mkdir(parents=True, exist_ok=True)
    save_file(weights, output / WEIGHTS, metadata={"format": "pt"})
    if (source / "config.json").is_file():
        shutil.copy(source / "config.json", output)


if __name__ == "__main__":
    main()

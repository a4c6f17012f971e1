"""How long a mask takes: every method that segments, at the papers' sizes, batch 1, on this CPU.

Reads   params/paper.yaml: the methods that segment, built at random, for time does not depend on the weights
Writes  benchmarks/results/latency.csv: median and minimum over the rounds, and the median's ratio to that of `unet`
Run     python benchmarks/latency.py [ROUNDS [THREADS]], with nothing else running on the host

The methods take turns, so that a slower minute of the host is shared by all. The text's encoder is included: a new
caption costs it, although a frozen encoder reads a known one back.
"""

import statistics
import time
from typing import Any

import runs
import torch
from header import header, last_commit
from runs import REPOSITORY, RESULTS

from models import checkpoint
from models.data.batches import Images, Tokens
from models.segmentation.method import SegmentationMethod
from models.sizes import TEXT_LENGTH, class_of, without_weights
from models.text_encoder import TextEncoder
from pipelines.params import load_study
from pipelines.stage import command

FILE = RESULTS / "latency.csv"
WARM_UP = 2


def main(rounds: str = "15", threads: str = "2") -> None:
    torch.set_num_threads(int(threads))
    params = load_study(REPOSITORY / "params" / "paper.yaml", REPOSITORY / "params.yaml")
    models = {name: build(name, entry) for name, entry in params["train"]["methods"].items()}
    models = {name: model for name, model in models.items() if isinstance(model, SegmentationMethod)}
    inputs = example(params["shards"]["image_size"])
    times: dict[str, list[float]] = {name: [] for name in models}
    for number in range(WARM_UP + int(rounds)):
        for name, model in models.items():
            seconds = timed(model, *inputs)
            if number >= WARM_UP:
                times[name].append(1000 * seconds)
    reference = statistics.median(times["unet"])
    rows = [
        {
            "method": name,
            "input_size": params["shards"]["image_size"],
            "threads": threads,
            "rounds": rounds,
            "median_ms": round(statistics.median(found), 1),
            "minimum_ms": round(min(found), 1),
            "ratio_to_unet": round(statistics.median(found) / reference, 3),
        }
        for name, found in times.items()
    ]
    FILE.unlink(missing_ok=True)
    runs.append(FILE, rows, header("python benchmarks/latency.py", last_commit(REPOSITORY, "models", "params")))


def build(name: str, entry: dict[str, Any]) -> Any:
    """A method of params with random weights, in evaluation mode."""
    settings = {key: without_weights(value) for key, value in entry["model"].items()}
    method_class = class_of(name)
    vocabulary_size = settings.get("text_encoder", {}).get("architecture", {}).get("vocab_size", 4000)
    model = method_class(checkpoint.build(method_class.Config, settings), vocabulary_size).eval()
    for part in model.modules():
        if isinstance(part, TextEncoder):
            part.cache = None
    return model


def example(side: int) -> tuple[Images, Tokens]:
    """One image and one text."""
    ids = torch.ones(1, TEXT_LENGTH, dtype=torch.long)
    images = Images(
        torch.randint(256, (1, 3, side, side), dtype=torch.uint8), torch.zeros(0, 3, 1, 1), torch.zeros(0).long()
    )
    return images, Tokens(ids, torch.ones_like(ids), torch.zeros_like(ids))


@torch.inference_mode()
def timed(model: Any, images: Images, tokens: Tokens) -> float:
    start = time.perf_counter()
    model.segment(images, tokens)
    return time.perf_counter() - start


if __name__ == "__main__":
    command(main)

"""Parameters and cost of every method at the sizes of a params file: `python -m models.sizes [params.yaml]`.

One JSON object a line. Inference is what a method is for: `segment` of one image and one text where it segments, else
the embeddings of one image, with as many regions as it takes, and of one text. FLOPs are those that torch's counter
knows: convolutions and matrix products, attention's among them; a multiply-accumulate (MAC) is two. Bytes are those of
the weights and buffers that the answer reads, of its image and text, and of the tensors on the way where these are
most, in float32 on a CPU and without what a kernel takes for itself while it runs (`models/live_tensors.py`). The text
encoder is in all of them, also where it is frozen and each caption costs it once.

Nothing is loaded, and as a rule nothing computed: the models are built on the meta device, with hub ids replaced by
their published architectures, and run with tensors that have shapes alone. What depends on numbers is computed with
random weights.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from models import checkpoint
from models.data.batches import Images, Tokens
from models.inference import answer
from models.live_tensors import LiveTensors
from models.method import Method
from models.segmentation.batches import SegmentationBatch
from models.segmentation.method import SegmentationMethod
from models.text_encoder import TextEncoder

# Tokens of the text: a caption of QaTa-COV19 as RecLMIS reads it. Padding would cost, and say nothing.
TEXT_LENGTH = 18
_BERT = {"model_type": "bert", "vocab_size": 30522}
# The settings in which the published models differ from the defaults of `transformers`.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "google/vit-base-patch16-224-in21k": {"model_type": "vit"},
    "microsoft/resnet-50": {"model_type": "resnet"},
    "facebook/convnext-tiny-224": {"model_type": "convnext"},
    "microsoft/swin-base-patch4-window7-224-in22k": {
        "model_type": "swin",
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
    },
    "google-bert/bert-base-uncased": _BERT,
    "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract": _BERT,
    "emilyalsentzer/Bio_ClinicalBERT": {"model_type": "bert", "vocab_size": 28996},
    "openai/clip-vit-base-patch32": {
        "model_type": "clip_text_model",
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "hidden_act": "quick_gelu",
    },
}


def size_of(name: str, method: dict[str, Any], shards: dict[str, Any]) -> dict[str, Any]:
    """Parameters and cost of one method.

    Args:
        name: Of the entry, and of the method where the entry names none.
        method: Its entry in `train.methods`.
        shards: Section `shards`, for the sizes of images and crops.

    Returns:
        Counts of parameters, GMACs, GFLOPs and bytes, and the side in pixels of the image that they are for.
    """
    with torch.device("meta"):
        model = _built(name, method).eval()
    trainable = _count(part for part in model.parameters() if part.requires_grad)
    side = _visible_side(method["model"], shards["image_size"])
    crop_side = min(side, shards["crop_size"])
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            used, flops, peak = _inference(model.to_empty(device="cpu"), side, crop_side)
    except DataDependentOutputException:
        # LViT as published looks at numbers, how many words a text has: its answer is computed.
        model = _built_at_random(name, method).eval()
        used, flops, peak = _inference(model, side, crop_side)
    text_encoders = [part for part in model.modules() if isinstance(part, TextEncoder)]
    of_text = {id(parameter) for encoder in text_encoders for parameter in encoder.parameters()}
    return {
        "name": name,
        "parameters_total": _count(model.parameters()),
        "parameters_total_without_text_encoder": _count(part for part in model.parameters() if id(part) not in of_text),
        "parameters_trainable": trainable,
        "parameters_inference": _count(used),
        "parameters_inference_without_text_encoder": _count(part for part in used if id(part) not in of_text),
        "gmacs_inference": round(flops / 2e9, 6),
        "gflops_inference": round(flops / 1e9, 6),
        "bytes_inference": peak,
        "input_size": side,
    }


def training_flops(name: str, method: dict[str, Any], shards: dict[str, Any]) -> float | None:
    """FLOPs of all losses of one image with its text, without the backward pass; None: the method does not segment.

    Arguments as those of `size_of`. They are computed, with random weights, for a draw of patches or words needs real
    numbers; a loss that compares the images of a batch is counted for a batch of two.
    """
    model = _built_at_random(name, method)
    if not isinstance(model, SegmentationMethod):
        return None
    _forget_captions(model)
    images, side = 2, _visible_side(method["model"], shards["image_size"])
    ids = torch.zeros(images, TEXT_LENGTH, dtype=torch.long)
    batch = SegmentationBatch(
        keys=[""] * images,
        images=Images(
            torch.zeros(images, 3, side, side, dtype=torch.uint8),
            torch.zeros(0, 3, 1, 1, dtype=torch.uint8),
            torch.zeros(0, dtype=torch.long),
        ),
        text=Tokens(ids, torch.ones_like(ids), torch.arange(TEXT_LENGTH).expand(images, -1)),
        target=torch.ones(images, side, side, dtype=torch.bool),
    )
    counter = FlopCounterMode(display=False)
    # Not `no_grad`: within it the counter stumbles over parameters that are given to a module.
    model.train().requires_grad_(False)
    with torch.random.fork_rng([]), sdpa_kernel(SDPBackend.MATH), counter:
        model(batch, model.losses)
    return counter.get_total_flops() / images


def _built(name: str, method: dict[str, Any]) -> Method:
    """The model, with the architecture of each hub id."""
    settings = {key: without_weights(value) for key, value in method["model"].items()}
    vocabulary_size = settings.get("text_encoder", {}).get("architecture", {}).get("vocab_size", 4000)
    method_class = class_of(method.get("method") or name)
    return method_class(checkpoint.build(method_class.Config, settings), vocabulary_size)


def _built_at_random(name: str, method: dict[str, Any]) -> Method:
    """The model with weights that can be computed with; the random state stays as it was."""
    with torch.random.fork_rng([]):
        return _built(name, method)


def _forget_captions(model: Method) -> None:
    """What is kept of each caption would be read back from a file."""
    for encoder in model.modules():
        if isinstance(encoder, TextEncoder):
            encoder.cache = None


def without_weights(setting: Any) -> Any:
    """An encoder's settings with the architecture of its hub id; any other setting as it is."""
    if not isinstance(setting, dict) or setting.get("pretrained") is None:
        return setting
    if (source := setting["pretrained"]) not in ARCHITECTURES:
        raise ValueError(f"'{source}' has no architecture here: add it to ARCHITECTURES in models/sizes.py")
    return {**setting, "pretrained": None, "revision": None, "architecture": ARCHITECTURES[source]}


def _visible_side(settings: dict[str, Any], image_size: int) -> int:
    """Side in pixels of the square of an image that the method's encoder sees."""
    return min(image_size, settings.get("image_encoder", {}).get("crop") or image_size)


def class_of(name: str) -> type[Method]:
    """The method in the folder `models/<name>`."""
    module = importlib.import_module(f"models.{name}.model")
    classes = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Method))
    return next(value for value in classes if value.__module__ == module.__name__)


def _inference(model: Method, side: int, crop_side: int) -> tuple[list[nn.Parameter], int, int]:
    """The parameters that an answer depends on, and the FLOPs and bytes of the answer."""
    _forget_captions(model)
    model.requires_grad_(True)
    regions = model.max_regions
    images = Images(
        torch.zeros(1, 3, side, side, dtype=torch.uint8),
        torch.zeros(regions, 3, crop_side, crop_side, dtype=torch.uint8),
        torch.zeros(regions, dtype=torch.long),
    )
    ids = torch.zeros(1, TEXT_LENGTH, dtype=torch.long)
    tokens = Tokens(ids, torch.ones_like(ids), torch.zeros_like(ids))
    # Not `inference_mode`: within it operators are seen that consist of others.
    with torch.no_grad(), LiveTensors() as live:
        answer(model, images, tokens)
    # On the CPU, torch's counter does not know the fused attention.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as counter:
            found = answer(model, images, tokens)
        found.sum().backward()
    used = [part for part in model.parameters() if part.grad is not None]
    return used, counter.get_total_flops(), live.peak


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(part.numel() for part in parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description="Parameters and cost of every method, one JSON object a line.")
    parser.add_argument("params", nargs="?", default="params.yaml", help="default: params.yaml; '-': standard input")
    file = parser.parse_args().params
    params = yaml.safe_load(sys.stdin if file == "-" else Path(file).read_text(encoding="utf-8"))
    for name, method in params["train"]["methods"].items():
        print(json.dumps(size_of(name, method, params["shards"])), flush=True)


if __name__ == "__main__":
    main()

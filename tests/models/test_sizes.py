"""Parameters and cost of methods: against figures of the papers' code, and by hand."""

import json
import subprocess
import sys
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from models import checkpoint
from models.data.batches import Images, Tokens
from models.inference import answer
from models.sizes import TEXT_LENGTH, class_of, size_of, training_flops
from pipelines.params import load_study, merged_text

FIELDS = [
    "name",
    "parameters_total",
    "parameters_total_without_text_encoder",
    "parameters_trainable",
    "parameters_inference",
    "parameters_inference_without_text_encoder",
    "gmacs_inference",
    "gflops_inference",
    "bytes_inference",
    "input_size",
]
SHARDS = {"image_size": 48, "crop_size": 32}
BERT = {
    "model_type": "bert",
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 20,
}
BERT |= {"vocab_size": 50, "max_position_embeddings": 20}


@pytest.fixture(scope="module")
def paper(repository: Path) -> dict[str, dict[str, Any]]:
    """What the command prints, by name."""
    command = [sys.executable, "-m", "models.sizes", "-"]
    params = merged_text(repository / "params" / "paper.yaml", repository / "params.yaml")
    result = subprocess.run(command, cwd=repository, input=params, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    return {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}


@pytest.mark.slow
def test_every_method_of_the_papers_has_a_line(paper: dict[str, dict[str, Any]], repository: Path) -> None:
    params = load_study(repository / "params" / "paper.yaml", repository / "params.yaml")
    assert list(paper) == list(params["train"]["methods"])
    for row in paper.values():
        assert list(row) == FIELDS
        assert row["input_size"] == 224
        assert row["bytes_inference"] > 4 * row["parameters_inference"]
        assert row["gflops_inference"] == pytest.approx(2 * row["gmacs_inference"], abs=1e-3)
        inference, without = row["parameters_inference"], row["parameters_inference_without_text_encoder"]
        assert row["parameters_total"] >= inference >= without > 0
        assert row["parameters_total"] >= row["parameters_trainable"] > 0
        assert row["parameters_total"] >= row["parameters_total_without_text_encoder"] >= without


@pytest.mark.slow
def test_figures_of_published_code(paper: dict[str, dict[str, Any]]) -> None:
    unet, lvit, reclmis = paper["unet"], paper["lvit"], paper["reclmis"]
    assert unet["parameters_inference"] == 14_751_873
    assert unet["gmacs_inference"] == pytest.approx(22.65, abs=0.01)
    assert reclmis["parameters_inference_without_text_encoder"] <= 18.5e6
    # The two reconstructors and the weights of patches and words, which training alone has.
    assert (
        reclmis["parameters_total_without_text_encoder"] > reclmis["parameters_inference_without_text_encoder"] + 30e6
    )
    assert 20 < reclmis["gmacs_inference"] <= 24.5
    # Published: 27.12 without BERT, which is 1.53 for 18 tokens.
    assert lvit["gmacs_inference"] == pytest.approx(27.12 + 1.53, rel=0.01)


@pytest.mark.slow
def test_sizes_of_other_published_methods(paper: dict[str, dict[str, Any]]) -> None:
    """Published code at 224 pixels (segmentation_methods.md, section 3)."""
    nnunet, transunet, lavt = paper["nnunet"], paper["transunet"], paper["lavt"]
    # By hand, with w from 32 to 512: 9 w (in + w) a pair of convolutions, 4 w of InstanceNorm, 4 w in of what enlarges.
    w = [32, 64, 128, 256, 512, 512]
    down = sum(9 * b * (a + b) + 4 * b for a, b in zip([3, *w], w, strict=False))
    up = sum(9 * a * 3 * a + 4 * a + 4 * a * b for a, b in pairwise(w))
    assert nnunet["parameters_inference"] == down + up + 33
    # Three heads have a part in training alone.
    assert nnunet["parameters_total"] - nnunet["parameters_inference"] == 64 + 128 + 256 + 3
    # One logit a pixel for two.
    assert transunet["parameters_inference"] == pytest.approx(105.276e6, abs=0.002e6)
    assert transunet["gmacs_inference"] == pytest.approx(29.17, rel=0.02)
    # The gate behind the last stage is not built: two matrices of 1024 x 1024.
    without_text = lavt["parameters_inference_without_text_encoder"]
    assert without_text + 2 * 1024**2 == pytest.approx(118.71e6, abs=0.01e6)
    # BERT takes 1.53.
    assert lavt["gmacs_inference"] == pytest.approx(39.88 + 1.53, rel=0.02)


@pytest.mark.slow
def test_medklip_has_the_parameters_of_its_published_modules(paper: dict[str, dict[str, Any]]) -> None:
    """model_MedKLIP.py with its configuration: ResNet-50 to its third stage, and 256 features behind it."""
    resnet, channels = 3 * 64 * 49 + 128, 64
    for width, blocks in ((64, 3), (128, 4), (256, 6)):
        resnet += channels * 4 * width + 8 * width
        for _ in range(blocks):
            resnet += channels * width + 9 * width * width + 4 * width * width + 2 * (width + width + 4 * width)
            channels = 4 * width
    attention = 4 * (256 * 256 + 256)
    layer = 2 * attention + 2 * 256 * 1024 + 1024 + 256 + 3 * 2 * 256
    patches = 1024 * 1024 + 1024 + 1024 * 256 + 256
    texts = 768 * 256 + 256 + 256 * 768 + 768
    assert resnet == 8_543_296
    assert paper["medklip"]["parameters_trainable"] == resnet + patches + 4 * layer + 2 * 256 + texts + 2 * 256 + 2


@pytest.mark.slow
def test_prior_has_the_parameters_of_its_published_modules(paper: dict[str, dict[str, Any]]) -> None:
    """prior.py with its configuration, but for the pooling of the image, a BERT's words in the decoder, and colours."""
    size = 768
    square = size * size + size
    resnet, bert = 23_508_032, 28996 * 768 + 512 * 768 + 2 * 768 + 2 * 768 + 12 * 7_087_872 + square
    projections = 2 * (2048 * size + size) + square
    local = 6 * square + size * 384 + 384 + 384 * size + size
    memory = 4 * square + 512 * size + 16 * size + 2
    layers = 8 * (2 * 4 * square + size * 3072 + 3072 + 3072 * size + size + 3 * 2 * size) + 2 * size
    halves = [1536 // 2**step for step in range(1, 6)]
    image = sum(9 * 2 * c * c + 9 * c * c + 2 * 2 * c for c in halves) + 9 * halves[-1] * 3 + 3
    assert paper["prior"]["parameters_total"] == resnet + bert + projections + local + memory + layers + image


@pytest.mark.slow
def test_what_inference_does_not_use_is_not_counted(paper: dict[str, dict[str, Any]]) -> None:
    # BERT's pooler: 768 x 768 weights and 768 more.
    assert paper["lvit"]["parameters_total"] - paper["lvit"]["parameters_inference"] == 768 * 769
    # Two reconstructors of more than 10 M each.
    assert paper["reclmis"]["parameters_total"] - paper["reclmis"]["parameters_inference"] > 20e6
    # Frozen text encoders.
    for name in ("lvit", "reclmis", "tmca", "ariadne"):
        assert paper[name]["parameters_trainable"] < 0.5 * paper[name]["parameters_total"]


def clip(**image_encoder: Any) -> dict[str, Any]:
    vit = {"model_type": "vit", "image_size": 48, "patch_size": 8, "hidden_size": 16, "intermediate_size": 24}
    vit |= {"num_hidden_layers": 1, "num_attention_heads": 2}
    encoders = {"image_encoder": {"architecture": vit, **image_encoder}, "text_encoder": {"architecture": BERT}}
    return {"model": {"embedding_size": 6, **encoders}}


def test_macs_are_those_of_the_matrix_products() -> None:
    def layer(tokens: int, width: int, inner: int) -> int:
        """Four projections, scores and their sums, two layers of the MLP."""
        return tokens * (4 * width * width + 2 * tokens * width + 2 * width * inner)

    patches, words = 36, 18
    image = patches * 16 * 3 * 8 * 8 + layer(patches + 1, 16, 24) + 16 * 16 + 16 * 6
    text = layer(words, 12, 20) + 12 * 12 + 12 * 6
    row = size_of("clip", clip(), SHARDS)
    # Both poolers, 16 x 16 and 12 x 12, are computed, though nothing comes of them.
    assert row["gmacs_inference"] == pytest.approx((image + text) / 1e9, abs=1e-6)
    assert row["gflops_inference"] == pytest.approx(2 * (image + text) / 1e9, abs=1e-6)


def test_encoder_with_a_crop_is_measured_at_the_cropped_size() -> None:
    whole, cut = size_of("clip", clip(), SHARDS), size_of("clip", clip(crop=32), SHARDS)
    assert (whole["input_size"], cut["input_size"]) == (48, 32)
    assert cut["gmacs_inference"] < whole["gmacs_inference"]


def test_an_unknown_hub_id_says_where_to_add_it() -> None:
    method = clip()
    method["model"]["text_encoder"] = {"pretrained": "somebody/something"}
    with pytest.raises(ValueError, match=r"'somebody/something' has no architecture here: add it to ARCHITECTURES"):
        size_of("clip", method, SHARDS)


TEXT = {"text_encoder": {"architecture": BERT}}


def allocated(name: str, model: dict[str, Any], side: int, folder: Path) -> tuple[int, int]:
    """Bytes that a method with random weights holds before an answer, and that torch allocates most at once in it."""
    method_class = class_of(name)
    method = method_class(checkpoint.build(method_class.Config, model), 50).eval()
    ids = torch.zeros(1, TEXT_LENGTH, dtype=torch.long)
    tokens = Tokens(ids, torch.ones_like(ids), torch.zeros_like(ids))
    images = Images(
        torch.zeros(1, 3, side, side, dtype=torch.uint8),
        torch.zeros(0, 3, 1, 1, dtype=torch.uint8),
        torch.zeros(0, dtype=torch.long),
    )
    with torch.no_grad():
        answer(method, images, tokens)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            answer(method, images, tokens)
    profiler.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    memory = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    held = [*method.parameters(), *method.buffers(), images.pixels, tokens.ids, tokens.mask]
    return sum(tensor.nbytes for tensor in held), max(accumulate(event["args"]["Bytes"] for event in memory))


@pytest.mark.parametrize(
    ("name", "model", "side", "kernels"),
    # A transformer's kernels take nothing for themselves; those of convolutions copy weights and features.
    [("clip", clip()["model"], 48, 0.0), ("unet", {"base": 8}, 224, 0.25)],
)
def test_bytes_are_those_that_torch_allocates(
    name: str, model: dict[str, Any], side: int, kernels: float, tmp_path: Path
) -> None:
    held, peak = allocated(name, model, side, tmp_path)
    made = size_of(name, {"model": model}, {"image_size": side, "crop_size": 32})["bytes_inference"] - held
    # Numbers of batches that BatchNorm saw, and the temperature and the like of losses, are held and not read.
    assert made <= peak <= (1 + kernels) * made + 1024


@pytest.mark.parametrize(
    ("name", "model"), [("unet", {"base": 2}), ("lvit", {"base": 8, "image_size": 48, "variant": "published", **TEXT})]
)
def test_losses_cost_what_inference_costs_where_nothing_else_is_computed(name: str, model: dict[str, Any]) -> None:
    inference = size_of(name, {"model": model}, SHARDS)["gflops_inference"] * 1e9
    # The size is rounded to thousands of FLOPs.
    assert training_flops(name, {"model": model}, SHARDS) == pytest.approx(inference, abs=1e3)


def test_reconstructors_cost_in_training_alone() -> None:
    both = {"model": {"base": 2, "grid": 3, **TEXT}}
    one = {"model": {**both["model"], "language_reconstruction": False}}
    flops = [training_flops("reclmis", method, SHARDS) for method in (both, one)]
    assert flops[0] > flops[1] > size_of("reclmis", one, SHARDS)["gflops_inference"] * 1e9
    # What is drawn changes nothing, and leaves the random state as it was.
    state = torch.get_rng_state()
    assert training_flops("reclmis", both, SHARDS) == flops[0]
    # An answer has no use for them.
    needed = [size_of("reclmis", method, SHARDS) for method in (both, one)]
    assert needed[0]["bytes_inference"] == needed[1]["bytes_inference"]
    assert needed[0]["parameters_total"] > needed[1]["parameters_total"]
    assert torch.equal(torch.get_rng_state(), state)


def test_flops_of_training_are_counted_of_methods_that_segment() -> None:
    assert training_flops("clip", clip(), SHARDS) is None

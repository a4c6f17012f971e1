"""The cost of a mask, for every method that segments."""

from pathlib import Path

import pytest
import torch

from models.data.batches import Images, Tokens
from pipelines.config import parse
from pipelines.evaluate.latency import latency
from pipelines.evaluate.segmentation.cost import cost
from pipelines.params import load_study
from pipelines.registry import plugin

METHODS = [
    "unet",
    "unetpp",
    "attention_unet",
    "swin_unetr",
    "nnunet",
    "transunet",
    "lvit",
    "lavt",
    "reclmis",
    "ariadne",
]
METHODS += ["tmca"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_counted_and_timed(method: str, repository: Path) -> None:
    params = load_study(repository / "params" / "segmentation.yaml", repository / "params.yaml")["train"]["methods"]
    assert sorted(params) == sorted(METHODS)
    method_class = plugin("methods", method)
    model = method_class(parse(method_class.Config, params[method]["model"], method), 50).eval()
    ids = torch.ones(1, 5, dtype=torch.long)
    inputs = (
        Images(torch.zeros(1, 3, 64, 64, dtype=torch.uint8), torch.zeros(0, 3, 1, 1), torch.zeros(0).long()),
        Tokens(ids, torch.ones_like(ids), torch.zeros_like(ids)),
    )
    costs = cost(model, *inputs)
    assert costs["flops"] == 2 * costs["macs"] > 1e6
    assert costs["parameters_total"] == costs["parameters_trainable"]
    with torch.inference_mode():
        assert latency(model, *inputs) > 0

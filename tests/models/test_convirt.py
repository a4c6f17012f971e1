"""ConVIRT's loss against the paper's formula."""

import math

import pytest
import torch
from torch import nn

from models.convirt.config import ConvirtConfig
from models.convirt.losses import weighted_info_nce
from models.convirt.model import Convirt
from tests.models.small import ENCODERS, make_model
from tests.models.test_losses import unit_rows


def reference(images: torch.Tensor, texts: torch.Tensor, temperature: float, weight: float) -> float:
    """1/N sum_i lambda l_i(v -> u) + (1 - lambda) l_i(u -> v)."""
    total = 0.0
    for i in range(len(images)):
        forward = [math.exp(float(images[i] @ text) / temperature) for text in texts]
        backward = [math.exp(float(image @ texts[i]) / temperature) for image in images]
        total -= weight * math.log(forward[i] / sum(forward)) + (1 - weight) * math.log(backward[i] / sum(backward))
    return total / len(images)


@pytest.mark.parametrize("weight", [0.75, 0.0, 1.0])
def test_the_loss_is_the_printed_formula(weight: float) -> None:
    images, texts = unit_rows(6, 0), unit_rows(6, 1)
    found = weighted_info_nce(images, texts, 0.1, weight)
    assert float(found) == pytest.approx(reference(images, texts, 0.1, weight), rel=1e-12)


def test_gradients() -> None:
    leaves = [unit_rows(4, seed).requires_grad_() for seed in (2, 3)]
    assert torch.autograd.gradcheck(lambda images, texts: weighted_info_nce(images, texts, 0.5, 0.75), leaves)


def test_the_projections_are_not_linear(tokenizer) -> None:
    model = make_model(tokenizer, Convirt)
    for projection in (model.image_projection, model.text_projection):
        assert [type(layer) for layer in projection] == [nn.Linear, nn.ReLU, nn.Linear]


def test_a_weight_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image_to_text is 1\.5; it is a fraction from 0 to 1"):
        ConvirtConfig(**ENCODERS, image_to_text=1.5)

"""SigLIP's loss against the paper's formula."""

import math

import pytest
import torch

from models.siglip.losses import sigmoid_loss
from models.siglip.model import Siglip
from tests.models.small import make_model
from tests.models.test_losses import unit_rows

LOG_SCALE, BIAS = (torch.tensor(value, dtype=torch.float64) for value in (math.log(3.0), -1.5))


def reference(images: torch.Tensor, texts: torch.Tensor, scale: float, bias: float) -> float:
    """-1/|B| sum_i sum_j log 1 / (1 + exp(z_ij (-t x_i.y_j - b)))."""
    total = 0.0
    for i in range(len(images)):
        for j in range(len(texts)):
            sign = 1 if i == j else -1
            total -= math.log(1 / (1 + math.exp(sign * (-scale * float(images[i] @ texts[j]) - bias))))
    return total / len(images)


def test_the_loss_is_the_printed_formula() -> None:
    images, texts = unit_rows(5, 0), unit_rows(5, 1)
    assert float(sigmoid_loss(images, texts, LOG_SCALE, BIAS)) == pytest.approx(
        reference(images, texts, 3.0, -1.5), rel=1e-12
    )


def test_rows_without_text_are_in_no_pair() -> None:
    images, texts = unit_rows(5, 0), unit_rows(5, 1)
    valid = torch.tensor([True, False, True, True, False])
    assert float(sigmoid_loss(images, texts, LOG_SCALE, BIAS, valid=valid)) == pytest.approx(
        reference(images[valid], texts[valid], 3.0, -1.5), rel=1e-12
    )
    nobody = sigmoid_loss(images, texts, LOG_SCALE, BIAS, valid=torch.zeros(5, dtype=torch.bool))
    assert float(nobody) == 0.0


def test_gradients() -> None:
    leaves = [value.clone().requires_grad_() for value in (unit_rows(4, 2), unit_rows(4, 3), LOG_SCALE, BIAS)]
    assert torch.autograd.gradcheck(sigmoid_loss, leaves)


def test_scale_and_bias_start_at_the_papers_values_and_are_learned(tokenizer) -> None:
    learned = dict(make_model(tokenizer, Siglip).named_parameters())
    assert learned["log_scale"].exp().item() == pytest.approx(10.0)
    assert learned["bias"].item() == -10.0

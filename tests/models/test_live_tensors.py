"""The memory of tensors by hand, on real and on fake tensors (tests/models/test_sizes.py: of whole methods)."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from models.live_tensors import LiveTensors

# In float32: 4 x 3 x 3 x 3 weights with 4 biases, an image of 3 x 8 x 8, and 4 x 8 x 8 features.
WEIGHTS, IMAGE, FEATURES = 4 * (108 + 4), 4 * 192, 4 * 256


@pytest.fixture(params=["real", "fake"], autouse=True)
def mode(request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if request.param == "real" else FakeTensorMode():
        yield


def then(*further: Callable[[Tensor], Tensor]) -> int:
    """The peak of one convolution of one image, and of what comes after it."""
    convolution, image = nn.Conv2d(3, 4, 3, padding=1), torch.zeros(1, 3, 8, 8)
    with torch.no_grad(), LiveTensors() as live:
        found = convolution(image)
        for step in further:
            found = step(found)
    return live.peak


def test_one_convolution_needs_its_weights_its_image_and_its_features() -> None:
    assert then() == WEIGHTS + IMAGE + FEATURES


@pytest.mark.parametrize(
    ("further", "features"),
    [
        # In place, and views, take nothing.
        ([torch.relu_], 1),
        ([lambda found: found.flatten(1).mT], 1),
        # Input and output of an operator are there at once; what went before is not.
        ([torch.relu], 2),
        ([torch.relu, torch.relu, torch.relu], 2),
        # What is needed later stays: features, their square and the sum.
        ([lambda found: found + found * found], 3),
        # The most counts, not the last.
        ([lambda found: torch.cat([found] * 4), torch.sum], 5),
    ],
)
def test_what_is_made_counts_as_long_as_it_is_there(further: list[Callable[[Tensor], Tensor]], features: int) -> None:
    assert then(*further) == WEIGHTS + IMAGE + features * FEATURES


def test_what_is_given_counts_once_and_as_a_whole_where_it_is_read() -> None:
    table, unread = nn.Embedding(10, 2), nn.Linear(100, 100)
    ids = torch.zeros(3, dtype=torch.long)
    with torch.no_grad(), LiveTensors() as live:
        table(ids)
        table(ids)
    # Ten rows and three numbers of eight bytes are given; three rows are made.
    assert live.peak == 4 * 20 + 8 * 3 + 4 * 6
    assert unread.weight.numel() == 10_000


def test_gradients_keep_everything() -> None:
    def peak() -> int:
        layers, values = nn.Sequential(*(nn.Tanh() for _ in range(5))), torch.zeros(100, requires_grad=True)
        with LiveTensors() as live:
            layers(values)
        return live.peak

    with torch.no_grad():
        assert peak() == 400 * 3
    assert peak() == 400 * 6

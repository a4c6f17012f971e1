"""Weights and inputs from the names and shapes of published code, which the published modules were filled with too.

What they computed of them is in `published_*.json`: a mean, a deviation and some values of each output. It was obtained
outside this repository by running the published code at small sizes; nothing of that code is here.
"""

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SAMPLES = 16


def numbers(name: str, *shape: int) -> Tensor:
    """Numbers between -1 and 1, float64, without order; others for each name."""
    places = torch.arange(math.prod(shape), dtype=torch.float64)
    scrambled = torch.sin(places * 12.9898 + zlib.crc32(name.encode()) % 1000) * 43758.5453
    return (2 * (scrambled - scrambled.floor()) - 1).reshape(shape)


def given(name: str, *shape: int) -> Tensor:
    """An input: `numbers` in float32."""
    return numbers(name, *shape).float()


def weights(name: str, *shape: int) -> Tensor:
    """The values of a published parameter or statistic, sized so that features neither vanish nor grow."""
    plain = numbers(name, *shape)
    if name.endswith("running_var"):
        return 1 + plain / 2
    if "position" in name:
        return plain / 2
    if len(shape) < 2:
        return 1 + 0.3 * plain if name.endswith("weight") else 0.2 * plain
    return plain * math.sqrt(5 * shape[0] / math.prod(shape))


def fill(module: nn.Module, renamed: Sequence[tuple[str, str]], prefix: str = "") -> None:
    """Give each parameter and statistic the values of its published counterpart.

    Args:
        module: Ours.
        renamed: Regular expressions of our names and what replaces them, applied in turn. `[i/n]` behind a name is the
            i-th of n equal parts, `.T` the transpose.
        prefix: Of the module's names in the whole network.
    """
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            published = prefix + name
            for ours, theirs in renamed:
                published = re.sub(ours, theirs, published)
            value.copy_(_counterpart(published, value))


def _counterpart(name: str, like: Tensor) -> Tensor:
    if name.endswith(".T"):
        return weights(name.removesuffix(".T"), *reversed(like.shape)).T
    if part := re.fullmatch(r"(.*)\[(\d)/(\d)\]", name):
        whole, number, count = part[1], int(part[2]), int(part[3])
        return weights(whole, len(like) * count, *like.shape[1:]).chunk(count)[number]
    return weights(name, *like.shape)


def figures(output: Tensor) -> dict[str, Any]:
    """Shape, mean, deviation and some values of an output."""
    flat = output.detach().double().flatten()
    chosen = torch.linspace(0, len(flat) - 1, min(SAMPLES, len(flat))).long()
    return {
        "shape": list(output.shape),
        "mean": flat.mean().item(),
        "deviation": flat.std(correction=0).item(),
        "values": flat[chosen].tolist(),
    }


def published(file: str) -> Mapping[str, Any]:
    """The outputs of published modules, by name."""
    return json.loads((Path(__file__).with_name(file)).read_text(encoding="utf-8"))["outputs"]


def assert_as_published(output: Tensor, expected: Mapping[str, Any]) -> None:
    """Compare with figures of the published output, to 1e-5."""
    found = figures(output)
    assert found["shape"] == expected["shape"]
    # Else an output of zeros would do.
    assert expected["deviation"] > 1e-3 or expected["shape"] == []
    for figure in ("mean", "deviation", "values"):
        torch.testing.assert_close(
            torch.tensor(found[figure]), torch.tensor(expected[figure]), rtol=1e-5, atol=1e-5, msg=lambda text: text
        )

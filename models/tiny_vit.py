"""TinyViT (Wu et al. 2022, arXiv:2207.10666) as LiteMedSAM has it: an image encoder for SAM's decoder.

From the published TinyViT-5M differ: the first convolutions keep the size of the image (1 x 1, stride 1), and so does
the step to 320 channels; SAM's neck follows the last stage. For inference alone: no stochastic depth, no dropout.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

SIDE = 256
OUT = 256
_CHANNELS = (64, 128, 160, 320)
_DEPTHS = (2, 2, 6, 2)
_HEADS = (2, 4, 5, 10)
_WINDOWS = (7, 7, 14, 7)
_EXPANSION = 4


class TinyViT(nn.Module):
    """Pixels (batch, 3, 256, 256), 0 to 1, -> (batch, 256, 64, 64)."""

    def __init__(self) -> None:
        super().__init__()
        first = _CHANNELS[0]
        self.stem = nn.Sequential(_conv(3, first // 2), nn.GELU(), _conv(first // 2, first))
        self.convolutions = nn.Sequential(*(_InvertedBottleneck(first) for _ in range(_DEPTHS[0])))
        self.merges = nn.ModuleList(
            _merge(narrow, wide, stride)
            for (narrow, wide), stride in zip(itertools.pairwise(_CHANNELS), (2, 2, 1), strict=True)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(width, heads, window) for _ in range(depth)))
            for width, depth, heads, window in zip(_CHANNELS[1:], _DEPTHS[1:], _HEADS[1:], _WINDOWS[1:], strict=True)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(_CHANNELS[-1], OUT, 1, bias=False),
            _ChannelNorm(OUT),
            nn.Conv2d(OUT, OUT, 3, padding=1, bias=False),
            _ChannelNorm(OUT),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        features = self.convolutions(self.stem(pixels))
        for merge, stage in zip(self.merges, self.stages, strict=True):
            features = stage(merge(features))
        return self.neck(features)

    def published_names(self) -> Iterator[tuple[str, str]]:
        """Name of each weight in the published checkpoint, less `image_encoder.`, and here."""
        for ours in self.state_dict():
            theirs = ours
            for here, there in _names():
                if theirs.startswith(here):
                    theirs = there + theirs.removeprefix(here)
                    break
            yield theirs, ours


def fold(module: nn.Module) -> None:
    """Fold each BatchNorm into the convolution before it, in place: the same answers in less time."""
    for name, part in module.named_children():
        if isinstance(part, nn.Sequential) and [type(one) for one in part] == [nn.Conv2d, nn.BatchNorm2d]:
            convolution: Any = part[0]
            norm: Any = part[1]
            setattr(module, name, fuse_conv_bn_eval(convolution, norm))
        else:
            fold(part)


def _names() -> Iterator[tuple[str, str]]:
    """First parts of names here and in the published checkpoint, longer ones before those that they begin with."""
    parts = {"stem": "patch_embed.seq", "convolutions": "layers.0.blocks"}
    merge = {0: "conv1", 2: "conv2", 4: "conv3"}
    block = {"attention": "attn", "convolution": "local_conv", "perceptron.0": "mlp.norm"}
    block |= {"perceptron.1": "mlp.fc1", "perceptron.3": "mlp.fc2"}
    for stage, depth in enumerate(_DEPTHS[1:]):
        parts |= {f"merges.{stage}.{place}": f"layers.{stage}.downsample.{name}" for place, name in merge.items()}
        for number in range(depth):
            here, there = f"stages.{stage}.{number}", f"layers.{stage + 1}.blocks.{number}"
            parts |= {f"{here}.{ours}": f"{there}.{theirs}" for ours, theirs in block.items()}
    yield from ((f"{here}.", f"{there}.") for here, there in parts.items())


def _conv(channels: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(c=convolution, bn=nn.BatchNorm2d(out)))


def _merge(channels: int, out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_conv(channels, out), nn.GELU(), _conv(out, out, 3, stride, out), nn.GELU(), _conv(out, out))


class _InvertedBottleneck(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = _EXPANSION * channels
        self.conv1, self.conv2 = _conv(channels, wide), _conv(wide, wide, 3, groups=wide)
        self.conv3 = _conv(wide, channels)

    def forward(self, features: Tensor) -> Tensor:
        inside = F.gelu(self.conv2(F.gelu(self.conv1(features))))
        return F.gelu(features + self.conv3(inside))


class _Block(nn.Module):
    """Attention within windows, a convolution of each channel, a perceptron: (batch, channels, rows, columns)."""

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.window = window
        self.attention = _Attention(channels, heads, window)
        self.convolution = _conv(channels, channels, 3, groups=channels)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, _EXPANSION * channels),
            nn.GELU(),
            nn.Linear(_EXPANSION * channels, channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        features = self.convolution(features + self._in_windows(features))
        last = features.permute(0, 2, 3, 1)
        return (last + self.perceptron(last)).permute(0, 3, 1, 2)

    def _in_windows(self, features: Tensor) -> Tensor:
        rows, columns = features.shape[2:]
        side = self.window
        # Positions beyond the edge are zeros, and are attended to, as they were in training.
        padded = F.pad(features, (0, -columns % side, 0, -rows % side))
        windows = padded.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (batch, channels, down, y, across, x)
        down, across = windows.shape[2], windows.shape[4]
        tokens = windows.permute(0, 2, 4, 3, 5, 1).flatten(3, 4).flatten(0, 2)
        attended = self.attention(tokens).unflatten(0, (-1, down, across)).unflatten(3, (side, side))
        whole = attended.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
        return whole[..., :rows, :columns]


class _Attention(nn.Module):
    """Self-attention of the positions of a window (windows, positions, channels), by heads.

    A learnt bias stands for the distance of two positions, down and across.
    """

    attention_bias_idxs: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        places = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        distances = (places[:, None] - places[None]).abs()
        # Distances have numbers in the order in which they are met, which from the first place is by rows.
        self.register_buffer("attention_bias_idxs", distances[..., 0] * window + distances[..., 1], persistent=False)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window * window))

    def forward(self, tokens: Tensor) -> Tensor:
        split = self.qkv(self.norm(tokens)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        queries, keys, values = split.chunk(3, dim=-1)
        bias = self.attention_biases[:, self.attention_bias_idxs]
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)
        return self.proj(attended.transpose(1, 2).flatten(2))


class _ChannelNorm(nn.Module):
    """LayerNorm over the channels of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        return F.layer_norm(features.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6).permute(
            0, 3, 1, 2
        )

"""The figure's parts."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.data.batches import Images, Tokens
from models.data.shards import ShardSet
from models.unet.config import UNetConfig
from models.unet.model import UNet
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.segmentation.figure import Case, cases, figure, overlay, wrapped
from tests.pipelines.evaluate.small_world import image, tokenizer_of, write_shards


def test_colours_of_right_missed_and_wrong_pixels() -> None:
    picture = np.full((1, 4, 3), 100, np.uint8)
    found, target = np.array([[1, 0, 1, 0]], bool), np.array([[1, 1, 0, 0]], bool)
    shown = overlay(picture, found, target)[0].astype(int) - 100
    # Green, red and blue gain where the others lose; the rest is as it was.
    assert [int(pixel.argmax()) for pixel in shown[:3]] == [1, 0, 2]
    assert (np.sort(shown[:3], axis=1)[:, :2] <= 0).all()
    assert not shown[3].any()
    assert (picture == 100).all()


def test_best_median_and_worst_of_those_where_something_is_to_be_found() -> None:
    # Dice 0.5, 0.8, 0, 0.8; the last two have an empty target.
    counts = {2: [1, 1, 1, 1], 3: [2, 1, 0, 1], 5: [0, 1, 1, 2], 8: [2, 0, 1, 1], 9: [0, 0, 0, 4], 11: [0, 1, 0, 3]}
    texts = {place: f"text {place}" for place in counts}
    assert cases(counts, texts) == [
        Case(name="best", place=8, text="text 8", dice=0.8),
        Case(name="median", place=2, text="text 2", dice=0.5),
        Case(name="worst", place=5, text="text 5", dice=0.0),
    ]
    assert [case.place for case in cases({9: counts[9], 11: counts[11]}, texts)] == [9, 11, 11]


def test_long_and_strange_texts_are_a_few_short_lines() -> None:
    lines = wrapped("word " * 100).split("\n")
    assert len(lines) == 7
    assert max(map(len, lines)) <= 42
    assert lines[-1].endswith(" …")
    assert wrapped("a\x00b\nc") == "a b c"
    assert wrapped(" ") == "(no text)"


class Attentive(UNet):
    """Looks at the upper left quarter."""

    def attention(self, images: Images, tokens: Tokens) -> Tensor:
        return torch.tensor([[1.0, 0], [0, 0]]).expand(len(images.pixels), 2, 2)


class Variant(UNet):
    """Of a method that has attention in another variant."""

    def attention(self, images: Images, tokens: Tokens) -> Tensor:
        raise ValueError("this variant has no attention")


def drawn(folder: Path, method: type[UNet]) -> np.ndarray:
    """Rows and columns of axes; the picture is 16 x 8 in a square of 16."""
    images = [image(0, size=(32, 16), target=[(0, 0, 8, 4)]), image(1, size=(32, 16), target=[])]
    tokenizer = tokenizer_of(["alpha beta"])
    torch.manual_seed(0)
    model = method(UNetConfig(base=2), len(tokenizer)).eval()
    test = EvaluationSet(model, tokenizer, ShardSet(*write_shards(folder, images), "test").samples, 2)
    shown = [Case(name="best", place=1, text="", dice=1), Case(name="worst", place=0, text="pay $5 or $6", dice=0.25)]
    made = figure(test, shown)
    made.canvas.draw()
    return np.array(made.axes).reshape(-1, 2)


def test_rows_are_picture_mask_and_maps_of_the_picture_alone(tmp_path: Path) -> None:
    axes = drawn(tmp_path, Attentive)
    assert [row[0].get_ylabel() for row in axes] == ["picture and target", "found", "Grad-CAM", "attention"]
    assert all(plot.get_images()[0].get_array().shape[:2] == (8, 16) for plot in axes.ravel())
    attention = axes[3, 1].get_images()[0].get_array()
    assert attention[0, 0] == attention.max() == 1
    assert attention[0, 15] == 0
    # The empty target has no outline; the other one has, but for the mask, whose colours say more.
    assert [len(plot.collections) for plot in axes[:, 0]] == [0, 0, 0, 0]
    assert [len(plot.collections) for plot in axes[:, 1]] == [1, 0, 1, 1]
    assert axes[0, 1].get_title() == "worst: Dice 0.250\npay $5 or $6"
    assert not axes[0, 1].title.get_parse_math()


def test_a_variant_without_attention_has_no_row_for_it(tmp_path: Path) -> None:
    assert drawn(tmp_path, Variant).shape == (3, 2)

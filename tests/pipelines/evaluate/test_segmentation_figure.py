"""The parts of the task's figure."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.data.batches import Images, Tokens
from models.data.shards import ShardSet
from models.unet.config import UNetConfig
from models.unet.model import UNet
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.segmentation.figure import Example, examples, figure, overlay, wrapped
from tests.pipelines.evaluate.small_world import image, tokenizer_of, write_shards


def test_colours_of_true_positive_false_negative_and_false_positive_pixels() -> None:
    grey = np.full((1, 4, 3), 100, np.uint8)
    predicted, target = np.array([[1, 0, 1, 0]], bool), np.array([[1, 1, 0, 0]], bool)
    coloured = overlay(grey, predicted, target)[0].astype(int) - 100
    # Green, red and blue gain where the others lose; the rest is as it was.
    assert [int(pixel.argmax()) for pixel in coloured[:3]] == [1, 0, 2]
    assert (np.sort(coloured[:3], axis=1)[:, :2] <= 0).all()
    assert not coloured[3].any()
    assert (grey == 100).all()


def test_best_median_and_worst_of_the_images_with_findings() -> None:
    # Dice 0.5, 0.8, 0, 0.8; the last two have an empty target.
    counts = {2: [1, 1, 1, 1], 3: [2, 1, 0, 1], 5: [0, 1, 1, 2], 8: [2, 0, 1, 1], 9: [0, 0, 0, 4], 11: [0, 1, 0, 3]}
    texts = {index: f"text {index}" for index in counts}
    assert examples(counts, texts) == [
        Example(name="best", index=8, text="text 8", dice=0.8),
        Example(name="median", index=2, text="text 2", dice=0.5),
        Example(name="worst", index=5, text="text 5", dice=0.0),
    ]
    assert [example.index for example in examples({9: counts[9], 11: counts[11]}, texts)] == [9, 11, 11]


def test_long_and_strange_texts_are_a_few_short_lines() -> None:
    lines = wrapped("word " * 100).split("\n")
    assert len(lines) == 7
    assert max(map(len, lines)) <= 42
    assert lines[-1].endswith(" …")
    assert wrapped("a\x00b\nc") == "a b c"
    assert wrapped(" ") == "(no text)"


class Attentive(UNet):
    """A method whose attention is on the upper left quarter."""

    def attention(self, images: Images, tokens: Tokens) -> Tensor:
        return torch.tensor([[1.0, 0], [0, 0]]).expand(len(images.pixels), 2, 2)


class Variant(UNet):
    """A variant without attention of a method that has some in another."""

    def attention(self, images: Images, tokens: Tokens) -> Tensor:
        raise ValueError("this variant has no attention")


def axes_of(folder: Path, method: type[UNet]) -> np.ndarray:
    """Rows and columns of axes; the image is 16 x 8 in a square of 16."""
    images = [image(0, size=(32, 16), target=[(0, 0, 8, 4)]), image(1, size=(32, 16), target=[])]
    tokenizer = tokenizer_of(["alpha beta"])
    torch.manual_seed(0)
    model = method(UNetConfig(base=2), len(tokenizer)).eval()
    test = EvaluationSet(model, tokenizer, ShardSet(*write_shards(folder, images), "test").samples, 2)
    columns = [
        Example(name="best", index=1, text="", dice=1),
        Example(name="worst", index=0, text="left, or right", dice=0.25),
    ]
    drawing = figure(test, columns)
    drawing.canvas.draw()
    return np.array(drawing.axes).reshape(-1, 2)


def test_rows_are_image_prediction_and_heatmaps_without_the_padding(tmp_path: Path) -> None:
    axes = axes_of(tmp_path, Attentive)
    assert [row[0].get_ylabel() for row in axes] == ["image and target", "prediction", "Grad-CAM", "attention"]
    assert all(plot.get_images()[0].get_array().shape[:2] == (8, 16) for plot in axes.ravel())
    attention = axes[3, 1].get_images()[0].get_array()
    assert attention[0, 0] == attention.max() == 1
    assert attention[0, 15] == 0
    # The empty target has no outline; the other one has in every row but the prediction's.
    assert [len(plot.collections) for plot in axes[:, 0]] == [0, 0, 0, 0]
    assert [len(plot.collections) for plot in axes[:, 1]] == [1, 0, 1, 1]
    assert axes[0, 1].get_title() == "worst: Dice 0.250\nleft, or right"


def test_a_variant_without_attention_has_no_row_for_it(tmp_path: Path) -> None:
    assert axes_of(tmp_path, Variant).shape == (3, 2)

"""The words that PLAN keeps in each of its iterations, and where it sees them (paper 000, figure 7)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray
from PIL import Image
from transformers import PreTrainedTokenizerFast

from models.data.batches import Images, Tokens
from models.data.shards import Sample
from models.plan.model import Plan
from models.text import normalise
from pipelines.evaluate.metrics.localisation import upsample
from pipelines.evaluate.metrics.segmentation import Values
from pipelines.evaluate.segmentation.masks import without_padding
from pipelines.predict.pictures import heat_picture, overlay
from pipelines.studies.sheet import blank, printable, put, write

_KEPT, _DROPPED = "#1f2428", "#c4c0b8"
_POINTS = 7.0
# Inches: width of a column, height of an image, of a line, and the space beside the words.
_COLUMN, _IMAGE, _LINE, _MARGIN = 2.4, 1.7, 0.14, 0.08


@dataclass(frozen=True, kw_only=True)
class KeptWords:
    """What the iterations do with the words of one report.

    Attributes:
        words: As the encoder reads them; those that its length cuts off are absent.
        kept: (iterations, words), whether each iteration keeps each of them.
        heat_maps: Of each iteration, (height, width) of the image: the mean over the words that it keeps of their
            smoothed similarity with the patches (eq. 14).
    """

    words: list[str]
    kept: NDArray[np.bool_]
    heat_maps: list[Values]


@torch.inference_mode()
def kept_words(
    model: Plan, tokenizer: PreTrainedTokenizerFast, sample: Sample, inputs: tuple[Images, Tokens], text: str
) -> KeptWords:
    """Run the iterations on one image and its report.

    Args:
        model: In evaluation mode, in which it chooses the same words every time.
        tokenizer: Its own.
        sample: The image.
        inputs: Image and report as a batch of one (`EvaluationSet.inputs`).
        text: The report.
    """
    images, tokens = inputs
    _, patches = model.image_encoder(images.pixels)
    grid, side = math.isqrt(patches.shape[1]), len(sample.image)
    kept, maps = [], []
    for iteration in model.iterate(patches, tokens):
        chosen = iteration.pairs.chosen[0]
        weight = chosen.to(iteration.scores.dtype)
        # (words,) x (words, patches) -> (patches,)
        mean = (weight @ iteration.scores[0]) / weight.sum().clamp(min=1)
        kept.append(chosen.numpy())
        pixels = upsample(mean.float().numpy().reshape(1, grid, grid), side, model.visible_crop(side))[0]
        maps.append(without_padding(sample, pixels))
    words = words_of(tokenizer, normalise(text) if model.normalises_text else text)[: len(kept[0])]
    return KeptWords(words=words, kept=np.stack(kept)[:, : len(words)], heat_maps=maps)


def words_of(tokenizer: PreTrainedTokenizerFast, text: str) -> list[str]:
    """The words of a text by their numbers in `Tokens.words`."""
    encoding = tokenizer(text, truncation=False, verbose=False)
    count = max((number for number in encoding.word_ids() if number is not None), default=-1) + 1
    spans = (encoding.word_to_chars(number) for number in range(count))
    return [text[span.start : span.end] for span in spans]


def kept_words_figure(found: Sequence[tuple[Sample, KeptWords]]) -> Figure:
    """A row for each report, a column for each iteration: the image under its heat map, and the words in order.

    Words that the iteration keeps are black, those that it or an earlier one dropped grey.
    """
    iterations = max(len(words.kept) for _, words in found)
    heights = [_IMAGE + _LINE * (3 + len(_lines(words.words))) for _, words in found]
    figure, axes = blank(_COLUMN * iterations, sum(heights))
    top = sum(heights)
    for height, (sample, words) in zip(heights, found, strict=True):
        for number in range(len(words.kept)):
            _draw_iteration(axes, _COLUMN * number, top, number, sample, words)
        top -= height
    return figure


def _draw_iteration(axes: Axes, left: float, top: float, number: int, sample: Sample, words: KeptWords) -> None:
    kept = f"iteration {number + 1}: {int(words.kept[number].sum())} of {len(words.words)} words"
    write(axes, left + _COLUMN / 2, top - 1.3 * _LINE, kept, 8, ha="center")
    image = Image.fromarray(without_padding(sample, sample.image))
    heat = heat_picture(words.heat_maps[number].astype(np.float32))
    put(axes, overlay(image, heat), (left, top - 1.6 * _LINE - _IMAGE, _COLUMN, _IMAGE))
    first = top - 2.8 * _LINE - _IMAGE
    for line, places in enumerate(_lines(words.words)):
        for place, start in places:
            colour = _KEPT if words.kept[number, place] else _DROPPED
            word = printable(words.words[place])
            write(axes, left + _MARGIN + start, first - line * _LINE, word, _POINTS, color=colour)


def _lines(words: Sequence[str]) -> list[list[tuple[int, float]]]:
    """The words in lines as wide as a column: number of each word, and where it begins, in inches."""
    lines: list[list[tuple[int, float]]] = [[]]
    end = 0.0
    for number, word in enumerate(words):
        width = _width(word)
        if lines[-1] and end + width > _COLUMN - 2 * _MARGIN:
            lines.append([])
            end = 0.0
        lines[-1].append((number, end))
        end += width + _POINTS * 0.45 / 72
    return lines


def _width(word: str) -> float:
    """Inches."""
    font = FontProperties(size=_POINTS)
    return float(text_to_path.get_text_width_height_descent(printable(word), font, ismath=False)[0]) / 72

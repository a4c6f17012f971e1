"""Plots of tasks that show texts of the sources: a dollar sign begins no formula, and every text leaves whole SVG."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.pipelines.evaluate import test_phrase_segmentation, test_segmentation
from tests.pipelines.evaluate.small_world import WORDS, Grounder, Matcher, image, region, task_result, tokenizer_of

# What TeX cannot read between two dollar signs, and a control character, which no XML can hold.
FORMULA = r"$\x_$"
ODD = f"odd {FORMULA} sign\x07"
TOKENIZER = tokenizer_of([f"there is no {word}" for word in WORDS])
BOX = (0, 0, 8, 8)
PROMPTS = {"templates": ["{label}"], "negatives": ["no {label}"]}

CASES: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]], Any, Any]] = {
    "grounding": (
        "grounding",
        {},
        [image(number, level=0, regions=[region(number, BOX, phrase=ODD, label="x")]) for number in range(3)],
        Grounder(TOKENIZER),
        TOKENIZER,
    ),
    "findings": (
        "zero_shot",
        PROMPTS,
        [image(number, labels=[ODD] if number % 2 else []) for number in range(4)],
        Matcher(TOKENIZER),
        TOKENIZER,
    ),
    "exclusive": (
        "zero_shot",
        PROMPTS | {"kind": "exclusive"},
        [image(number, labels=[ODD] if number % 2 else ["beta"]) for number in range(4)],
        Matcher(TOKENIZER),
        TOKENIZER,
    ),
    "segmentation": (
        "segmentation",
        {},
        [image(number, level=0, target=[BOX], report=ODD) for number in range(3)],
        test_segmentation.Reader(),
        test_segmentation.TOKENIZER,
    ),
    "phrase_segmentation": (
        "phrase_segmentation",
        {},
        [
            image(number, level=0, regions=[region(3, BOX, label=ODD)], target=[BOX], labels=[ODD])
            for number in range(3)
        ],
        test_phrase_segmentation.Named(test_phrase_segmentation.TOKENIZER),
        test_phrase_segmentation.TOKENIZER,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_plot_shows_a_text_of_the_source_as_it_stands(tmp_path: Path, name: str) -> None:
    task, options, images, model, tokenizer = CASES[name]
    assert task_result(tmp_path, images, task, options, model, tokenizer)["status"] == "ok"
    plot = (tmp_path / f"out/{task}.svg").read_text(encoding="utf-8")
    # Letters are drawn as paths, with the text beside them in a comment.
    assert FORMULA in plot
    ElementTree.fromstring(plot)

"""Texts of a source longer than an answer may be: the rows hold their beginning, and the evaluation goes on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.data.shards import ShardSet
from pipelines.config import parse
from pipelines.evaluate.config import Bootstrap, EvaluateConfig
from pipelines.evaluate.evaluation_set import EvaluationSet
from pipelines.evaluate.item_rows import item_rows
from pipelines.evaluate.scoring import load_tasks
from pipelines.records import MOST_OUTPUT
from tests.pipelines.evaluate.small_world import WORDS, Matcher, image, region, tokenizer_of, write_shards

LONG = " ".join(["word"] * 2_000)
TOKENIZER = tokenizer_of([f"which {word} no" for word in WORDS])
PROMPTS = {"templates": ["{label}"], "negatives": ["no {label}"], "kind": "exclusive"}
ASKED = "Which jade is it?"

CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, str]]] = {
    # Options, images, and what a row with an answer holds.
    "vqa": (
        {"hidden": 4, "epochs": 1},
        [
            *(
                image(number, key=f"{100 + number:016x}", split="train", questions=[(ASKED, LONG, "open")])
                for number in range(3)
            ),
            *(image(number, key=f"{200 + number:016x}", questions=[(ASKED, LONG, "open")]) for number in range(3)),
        ],
        {"answer": LONG[:500], "expected": LONG[:500]},
    ),
    # Every image is told as the first class by name, for the method knows none.
    "zero_shot": (
        PROMPTS,
        [image(number, labels=[LONG if number % 2 else "zz"]) for number in range(4)],
        {"label": LONG[:500]},
    ),
    "region_retrieval": (
        {"ks": [1]},
        [image(number, regions=[region(number, term=LONG)]) for number in range(3)],
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_text_is_cut_in_the_rows(tmp_path: Path, name: str) -> None:
    options, images, expected = CASES[name]
    values = {"tasks": {name: options}, "batch_size": 4, "bootstrap": {"samples": 10, "seed": 0}}
    task = load_tasks(parse(EvaluateConfig, values, "here"))[name]
    shards = ShardSet(*write_shards(tmp_path, images), "test")
    training = replace(shards, split="train")
    test = EvaluationSet(
        Matcher(TOKENIZER),
        TOKENIZER,
        shards.samples,
        4,
        others={"train": training.samples} if len(training) else None,
    )
    result = task.run(test, Bootstrap(samples=10, seed=0))
    assert result.status == "ok"
    rows = list(item_rows(name, result, test, "0" * 64))
    outputs = [json.loads(row.output) for row in rows if row.output is not None]
    assert outputs
    for output in outputs:
        assert {key: output[key] for key in expected} == expected
        assert all(len(text) == 500 for text in output.values())
    assert len(LONG) > MOST_OUTPUT

"""Normalisation and the tokenizer."""

import random

import pytest

from models.text import normalise, region_text, train_tokenizer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 2.5 cm nodule.", "a 2.5 cm nodule"),
        ("Right-sided effusion; no pneumothorax!", "right sided effusion no pneumothorax"),
        ("oval | ground_glass | left upper", "oval ground glass left upper"),
        ("  two\n lines ", "two lines"),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_region_text_keeps_the_parts() -> None:
    assert region_text("Ill-defined", "mass", "left upper") == "ill defined mass left upper"


def test_tokenizer_does_not_depend_on_order_or_run() -> None:
    texts = [
        f"{colour} {shape} number {n}" for n in range(40) for colour in ("red", "blue") for shape in ("disc", "bar")
    ]
    shuffled = random.Random(0).sample(texts, len(texts))
    first, second = (train_tokenizer(order, 80).backend_tokenizer.to_str() for order in (texts, shuffled))
    assert first == second


def test_tokenizer_marks_both_ends_and_knows_what_it_never_saw() -> None:
    tokenizer = train_tokenizer(["red disc", "blue disc", "red bar"] * 3, 60)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("red §")["input_ids"])
    assert (tokens[0], tokens[-1]) == ("[CLS]", "[SEP]")
    assert "[UNK]" in tokens

"""Normalisation and the tokenizer."""

import random
from pathlib import Path

import pytest
from transformers import BertConfig, BertModel

from models.text import (
    load_tokenizer,
    normalise,
    published_tokenizer,
    region_text,
    split_sentences,
    train_tokenizer,
)


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


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("A 2.5 cm nodule. No effusion.", ["A 2.5 cm nodule.", "No effusion."]),
        ("no effusion. heart normal", ["no effusion.", "heart normal"]),
        ("Clear! Really? Yes.", ["Clear!", "Really?", "Yes."]),
        ("1. Heart normal. 2. Lungs clear.", ["1. Heart normal.", "2. Lungs clear."]),
        (
            "Seen by Dr. Smith, approx. 2 cm. A cyst (e.g. simple), cf. fig. 3.",
            ["Seen by Dr. Smith, approx. 2 cm.", "A cyst (e.g. simple), cf. fig. 3."],
        ),
        (
            "Lesion no. 3 grows. Oedema? No. The heart is small.",
            ["Lesion no. 3 grows.", "Oedema?", "No.", "The heart is small."],
        ),
        ("Vertebra T. 12 is low, i. e. broken.", ["Vertebra T. 12 is low, i. e. broken."]),
        ("The lungs\nare clear.\n\nFINDINGS: none", ["The lungs\nare clear.", "FINDINGS: none"]),
        ("肺野清晰。心影不大。", ["肺野清晰。", "心影不大。"]),
        ("3.5. ...", []),
        ("", []),
    ],
)
def test_sentences_end_where_they_end(report: str, expected: list[str]) -> None:
    assert split_sentences(report) == expected


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


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    BertModel(BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=60)).save_pretrained(
        tmp_path
    )
    train_tokenizer(["red disc", "blue disc"] * 3, 60).save_pretrained(tmp_path)
    return tmp_path


def test_the_tokenizer_of_a_pretrained_encoder(bert: Path) -> None:
    tokenizer = published_tokenizer(str(bert))
    assert tokenizer.convert_ids_to_tokens(tokenizer("red disc")["input_ids"]) == ["[CLS]", "red", "disc", "[SEP]"]


def test_without_its_file_a_tokenizer_would_know_no_word(bert: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bert / name).unlink()
    # What transformers makes of the rest: all words are one.
    assert len({tuple(load_tokenizer(bert)(word)["input_ids"]) for word in ("red", "blue", "disc")}) == 1
    with pytest.raises(ValueError, match=r"gives no tokenizer that knows a word: copy its tokenizer\.json there"):
        published_tokenizer(str(bert))


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", '{"version": "1.0"'), ("tokenizer.json", "{}"), ("tokenizer_config.json", "")],
)
def test_a_damaged_tokenizer_is_one_line(name: str, content: str, bert: Path) -> None:
    (bert / name).write_text(content)
    with pytest.raises(ValueError, match="gives no tokenizer: ") as caught:
        published_tokenizer(str(bert))
    assert "\n" not in str(caught.value)


def test_a_tokenizer_of_a_folder_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ValueError, match="absent gives no tokenizer: there is no such folder; `make weights` makes"):
        published_tokenizer("data/weights/absent")

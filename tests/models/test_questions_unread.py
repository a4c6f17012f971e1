"""Training learns nothing from questions: its texts and batches are the same with and without them."""

import dataclasses
from pathlib import Path

import torch

from models.data.batches import Collate, Tokenise
from models.data.format import ImageQuestion
from models.data.shards import Sample, ShardSet
from models.method import Method
from models.text import train_tokenizer
from tests.models.small import write_shards

QUESTION = ImageQuestion(question_id="k-0", question="Is a zebra seen?", answer="Zebra", answer_type="open")


def asked(sample: Sample) -> Sample:
    return dataclasses.replace(sample, captions=dataclasses.replace(sample.captions, questions=(QUESTION,)))


def test_texts_and_batches_are_the_same(tmp_path: Path) -> None:
    root = write_shards(tmp_path, 8)
    samples = list(ShardSet(root / "images", root / "captions", "train").samples())
    with_questions = [asked(sample) for sample in samples]
    texts = [text for sample in samples for text in Method.training_texts(sample)]
    assert texts == [text for sample in with_questions for text in Method.training_texts(sample)]
    assert [Method.skip_reason(sample) for sample in samples] == [Method.skip_reason(one) for one in with_questions]
    tokenizer = train_tokenizer(texts, 200)
    tokenizer.model_max_length = 32
    usable = [number for number, sample in enumerate(samples) if Method.skip_reason(sample) is None]
    batches = [
        Collate(Tokenise(tokenizer, 32), 2)([some[number] for number in usable], 0)
        for some in (samples, with_questions)
    ]
    leaves = [_tensors(batch) for batch in batches]
    assert len(leaves[0]) > 5
    assert all(torch.equal(one, other) for one, other in zip(*leaves, strict=True))


def _tensors(value: object) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        return [leaf for field in dataclasses.fields(value) for leaf in _tensors(getattr(value, field.name))]
    return [leaf for one in value for leaf in _tensors(one)] if isinstance(value, list | tuple) else []

"""Fixtures for the models."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from models.text import train_tokenizer
from tests.models.small import write_shards


@pytest.fixture
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), 40)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    words = "the picture is red green blue number round oval irregular lobulated spiculated flat left upper"
    tokenizer = train_tokenizer([words] * 3 + [str(n) for n in range(40)] * 2, 200)
    tokenizer.model_max_length = 32
    return tokenizer

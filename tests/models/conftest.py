"""Fixtures for the models."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from models.text import train_tokenizer
from tests.models.small import write_shards


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Models of a few thousand weights gain nothing by more, and two test processes would fight over the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("shards"), 40)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    words = "the picture is red green blue number round oval irregular lobulated spiculated flat left upper"
    tokenizer = train_tokenizer([words] * 3 + [str(n) for n in range(40)] * 2, 200)
    tokenizer.model_max_length = 32
    return tokenizer

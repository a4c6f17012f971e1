"""Phrases as the text encoders of CLIP's kind read them: each one alone, padded to a fixed length."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor


def tokens_of(tokenizer: Any, phrases: Sequence[str], length: int) -> dict[str, Tensor]:
    """Tokens and their mask, each (phrases, length).

    Args:
        tokenizer: Of the checkpoint.
        phrases: At least one.
        length: Places that the text encoder has, those for start and end included.

    Raises:
        ValueError: A phrase is longer than that.
    """
    for phrase in phrases:
        used = len(tokenizer(phrase)["input_ids"])
        if used > length:
            raise ValueError(f"phrase '{phrase[:40]}...' has {used} tokens, more than {length}")
    text = tokenizer(list(phrases), padding="max_length", max_length=length, return_tensors="pt")
    return {"input_ids": text["input_ids"], "attention_mask": text["attention_mask"]}

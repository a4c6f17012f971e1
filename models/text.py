"""Text as the encoders read it: normalisation, and a tokenizer trained from scratch or loaded.

RegionMed-CLIP lower-cases all text and strips punctuation (paper 001, implementation details). Punctuation becomes a
space here, and a full stop between digits stays, so that "2.5 cm" and "right-sided" keep their meaning.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

_PUNCTUATION = re.compile(r"(?<!\d)\.|\.(?!\d)|[^\w\s.]|_")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def normalise(text: str) -> str:
    """Lower case, punctuation as spaces, single spaces."""
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split())


def region_text(adjective: str, term: str, position: str) -> str:
    """The triple of a region caption as running text; it is joined from its parts, never parsed after normalising."""
    return normalise(f"{adjective} {term} {position}")


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer with BERT's special tokens, from the texts of the training split (already normalised).

    Byte pairs rather than word pieces: the word-piece trainer numbers its continuation letters in another order on
    each run, so that the same texts would give other weights.
    """
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=list(_SPECIAL), show_progress=False, min_frequency=2
    )
    # One sorted pass: equal texts in another order must give the same vocabulary.
    tokenizer.train_from_iterator(sorted(texts), trainer)
    # The trainer numbers the special tokens first, in their order.
    cls, sep = _SPECIAL.index("[CLS]"), _SPECIAL.index("[SEP]")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", sep), ("[CLS]", cls))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def load_tokenizer(folder_or_id: str | Path, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of a checkpoint, or of a pretrained text encoder."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder_or_id), revision=revision, use_fast=True)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{folder_or_id} has no fast tokenizer (tokenizer.json)")
    return tokenizer

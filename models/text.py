"""Text as the encoders read it: normalisation, and a tokenizer trained from scratch or loaded.

RegionMed-CLIP lower-cases all text and strips punctuation (paper 001, implementation details). Punctuation becomes a
space here, and a full stop between digits stays, so that "2.5 cm" and "right-sided" keep their meaning.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from models.loading import loading, verify_weights

_PUNCTUATION = re.compile(r"(?<!\d)\.|\.(?!\d)|[^\w\s.]|_")
# Where a sentence may end; "2.5 cm" has no space after its full stop.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n|(?<=[。！？])")
# What stands before a full stop that ends no sentence: a single letter, the number of a list, or one of these.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:[a-z]|approx|appr|ca|cf|dr|e\.g|eg|figs?|i\.e|incl|max|min|mrs?|prof|resp|st|vs)\.$|^\d+\.$",
    re.IGNORECASE,
)
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
SPECIAL_TOKENS = len(_SPECIAL)


def normalise(text: str) -> str:
    """Lower case, punctuation as spaces, single spaces."""
    return " ".join(_PUNCTUATION.sub(" ", text.lower()).split())


def region_text(adjective: str, term: str, position: str) -> str:
    """The triple of a region caption as running text; it is joined from its parts, never parsed after normalising."""
    return normalise(f"{adjective} {term} {position}")


def split_sentences(report: str) -> list[str]:
    """The sentences of a report in their order, as written; of one without letters none.

    A full stop ends a sentence where a space follows it, but not after an abbreviation, a single letter, the number of
    a list, or "no." before a number. Blank lines end one too, single line breaks do not.
    """
    sentences = [""]
    for piece in _SENTENCE_END.split(report):
        before = sentences[-1]
        numbered = before.lower().endswith("no.") and piece[:1].isdigit()
        if before and not numbered and not _ABBREVIATION.search(before):
            sentences.append(piece.strip())
        else:
            sentences[-1] = f"{before} {piece}".strip()
    return [sentence for sentence in sentences if any(letter.isalpha() for letter in sentence)]


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
    """The tokenizer of a checkpoint, or of a pretrained text encoder.

    Raises:
        ValueError: There is none, or it is no fast one; one line.
    """
    source = str(folder_or_id)
    with loading(source, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, use_fast=True, trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{folder_or_id} has no fast tokenizer (tokenizer.json)")
    return tokenizer


def published_tokenizer(folder_or_id: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer that a pretrained text encoder learnt with.

    Raises:
        ValueError: As from `load_tokenizer`, or it knows no words.
        DamagedError: The folder is not as `make weights` wrote it.
    """
    verify_weights(Path(folder_or_id))
    tokenizer = load_tokenizer(folder_or_id, revision)
    check_words(tokenizer, folder_or_id)
    return tokenizer


def check_words(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Refuse what transformers makes where the file of a tokenizer is absent: to it every text is the same.

    Raises:
        ValueError: It knows the special tokens alone.
    """
    if not tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens):
        raise ValueError(f"{source} gives no tokenizer that knows a word: copy its tokenizer.json there")

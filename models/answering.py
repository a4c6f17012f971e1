"""Answers to questions about images: a classifier over the answers of training, on embeddings that stay as they are.

The head reads the embedding of the image, that of the question and their elementwise product, and gives a logit for
each answer that a training question has. As in QCR (Zhan et al. 2020) and its followers, open and closed questions have
their own answers: an answer that no training question of the type has is out of reach of the type. Paper 001 names no
head of its own; this is our reading of its table 2.

Everything is computed on one CPU core, in float32: the same embeddings and settings give the same answers.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.ranges import at_least

BATCH_SIZE, DROPOUT, WEIGHT_DECAY = 64, 0.5, 0.01
UNKNOWN = -1

_ARTICLES = frozenset({"a", "an", "the"})
# Signs of which the sense of an answer depends, told from punctuation by what stands around them: a decimal point; the
# minus of a number; plus behind a word, and minus behind a number or at the end (CD3+, CD3-, where the hyphen of
# "left- and right-sided" has no sense); both before "ve"; plus-minus and arrows; less and more.
_SIGN = (
    r"(?<=\d)\.(?=\d)|(?<!\w)-(?=\d)|(?<=\w)\++|(?<=\d)-(?![\w-])|(?<=\w)-(?=\W*$)|[-+](?=ve\b)|[±↑↓]"
    r"|[<>≤≥](?=-?\d| \w)"
)
_PUNCTUATION = re.compile(rf"({_SIGN})|[^\w\s]")
# A comma between digits parts thousands where it stands before each group of exactly three digits, of which the first
# has one to three and no 0 in front; so `100,200` is a number, and a list has spaces, or is told by another group.
_THOUSANDS = re.compile(r"(?<![\w.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
# What can stand between a word and its sign: `Gram +`, `CD3(+)`, `HER2/neu: +`.
_GAP = r"(?<=\w)[^\w<>≤≥±↑↓+-]*"
# Other spellings of a sign or of a number.
_SPELLINGS = (
    (re.compile("_"), " "),
    (re.compile("[−–⁻－]"), "-"),
    (re.compile("[⁺＋]"), "+"),
    (re.compile(r"\s*(?:\+\s*/\s*-(?![^\W\d])|-\s*/\s*\+(?!\w)|±)\s*"), " ± "),
    (re.compile(r"\s*([↑↓])\s*"), r" \1 "),
    # A sign that stands apart belongs to the word before it: a plus wherever no number follows; a minus, which may be a
    # dash, in brackets, before "ve" and at the end.
    (re.compile(_GAP + r"(\++)(?![\d+])"), r"\1"),
    (re.compile(r"(?<=\w)\s*[(\[]\s*-\s*[)\]]"), "-"),
    (re.compile(_GAP + r"-(?=[^\w+-]*$)"), "-"),
    (re.compile(_GAP + r"-(?=\W*ve\b)"), "-"),
    (re.compile(r"(?<=[+-])[^\w+-]*(?=ve\b)"), ""),
    (re.compile("<="), "≤"),
    (re.compile(">="), "≥"),
    (re.compile(r"(?<![\w.])\.(?=\d)"), "0."),
    (re.compile(r"\s*([<>≤≥])\s*(?=-?\d)"), r" \1"),
    (re.compile(r"(?<=\w)\s*([<>≤≥])\s*(?=[^\W\d])"), r" \1 "),
    (re.compile(r"(?<=\d)(?=(?:mm|cm|ml|cc|mg|kg|hu)\b)"), " "),
)
# Columns that hardly differ between questions are not blown up: what tells them apart is rounding.
_SMALLEST_DEVIATION = 1e-3


def normalise_answer(answer: str) -> str:
    """An answer as it is counted and compared: lower case, punctuation as spaces, no articles, single spaces.

    Two answers are equal where this gives the same text: `The Left lung.` is `left lung`, `10,000mm` is `10000 mm`,
    `.5` is `0.5`. Signs that are no punctuation stay: `-5` is not `5`, `CD3 (+)` is `CD3+` and not `CD3-`, `gram +ve`
    not `gram -ve`, `< 5` not `> 5`, `right > left` not `right < left`. A minus that stands apart before another
    word may be a dash and is dropped, a plus stays: `Gram - cocci` is `gram cocci`, `Gram + cocci` is `gram+ cocci`.
    `100,200` is one number, `100, 200` are two. An answer of articles alone, such as `A.`, keeps them, and one of signs
    alone, such as `+`, these.
    """
    text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), answer.lower())
    for spelling, one in _SPELLINGS:
        text = spelling.sub(one, text)
    every = _PUNCTUATION.sub(lambda found: found[1] or " ", text).split()
    words = [word for word in every if word not in _ARTICLES]
    return " ".join(words or every) or re.sub("[^-+]", "", text) or " ".join(text.split())


@dataclass(frozen=True)
class Vocabulary:
    """The answers of training questions, normalised, in alphabetical order, and those that each type has.

    Attributes:
        answers: Without repetition.
        of_type: Answer type -> (answers,) bool, true where a training question of the type has the answer.
    """

    answers: tuple[str, ...]
    of_type: dict[str, Tensor]

    @classmethod
    def of(cls, answers: Sequence[str], types: Sequence[str]) -> Self:
        """That of training questions, by the answer and the type of each."""
        normalised = [normalise_answer(answer) for answer in answers]
        known = tuple(sorted(set(normalised)))
        pairs = set(zip(types, normalised, strict=True))
        masks = {kind: torch.tensor([(kind, answer) in pairs for answer in known]) for kind in sorted(set(types))}
        return cls(known, masks)

    def allowed(self, types: Iterable[str]) -> Tensor:
        """(questions, answers) bool: the answers that each question can get; none of a type that training lacks."""
        none = torch.zeros(len(self.answers), dtype=torch.bool)
        return torch.stack([self.of_type.get(kind, none) for kind in types])

    def numbers(self, answers: Iterable[str], types: Iterable[str]) -> Tensor:
        """(questions,) int64: place of each right answer in `answers`; UNKNOWN where its type has no such answer."""
        places = {answer: place for place, answer in enumerate(self.answers)}
        found = [places.get(normalise_answer(answer), UNKNOWN) for answer in answers]
        reach = self.allowed(types)
        return torch.tensor(
            [place if place != UNKNOWN and row[place] else UNKNOWN for place, row in zip(found, reach, strict=True)]
        )


@dataclass(frozen=True)
class Examples:
    """Questions with what the head needs of them.

    Attributes:
        images: (questions, dimensions) embedding of each question's image, of length 1; zeros hide it.
        questions: (questions, dimensions) embedding of its text, of length 1.
        allowed: (questions, answers) bool, `Vocabulary.allowed`.
        answers: (questions,) int64, `Vocabulary.numbers`.
    """

    images: Tensor
    questions: Tensor
    allowed: Tensor
    answers: Tensor

    def __len__(self) -> int:
        return len(self.answers)

    @classmethod
    def joined(cls, parts: Sequence["Examples"]) -> Self:
        """Several one after the other; at least one."""
        fields = [(one.images, one.questions, one.allowed, one.answers) for one in parts]
        return cls(*(torch.cat(field) for field in zip(*fields, strict=True)))

    def at(self, places: Tensor) -> Self:
        """Some of them, by place or as a mask."""
        parts = (self.images, self.questions, self.allowed, self.answers)
        return type(self)(*(part[places] for part in parts))

    def without_images(self) -> Self:
        """The same questions with their images hidden."""
        return type(self)(torch.zeros_like(self.images), self.questions, self.allowed, self.answers)


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """How a head is trained.

    Attributes:
        hidden: Units of its one hidden layer.
        epochs: Passes over the training questions, at most.
        learning_rate: Of AdamW, constant, so that fewer epochs are the beginning of more.
        seed: Of weights, order and dropout.
    """

    hidden: int = 256
    epochs: int = 50
    learning_rate: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        at_least(1, hidden=self.hidden, epochs=self.epochs)
        at_least(0, seed=self.seed)
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0")


class AnswerHead(nn.Module):
    """Two linear layers over image, question and product, each of whose columns has mean 0 and deviation 1 in training.

    Args:
        examples: The training questions; mean and deviation are theirs.
        hidden: Units between the layers.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, examples: Examples, hidden: int) -> None:
        super().__init__()
        features = _features(examples)
        self.register_buffer("mean", features.mean(dim=0))
        self.register_buffer("deviation", features.std(dim=0, unbiased=False).clamp(min=_SMALLEST_DEVIATION))
        self.first = nn.Linear(features.shape[1], hidden)
        self.last = nn.Linear(hidden, examples.allowed.shape[1])

    def forward(self, examples: Examples) -> Tensor:
        """(questions, answers) logits; -inf for answers that the question's type does not have."""
        features = (_features(examples) - self.mean) / self.deviation
        hidden = F.dropout(F.relu(self.first(features)), DROPOUT, self.training)
        logits: Tensor = self.last(hidden)
        return logits.masked_fill(~examples.allowed, -torch.inf)

    @torch.no_grad()
    def answer(self, examples: Examples) -> Tensor:
        """(questions,) int64: the answer with the highest logit; UNKNOWN where the question's type has none."""
        assert not self.training
        return torch.where(examples.allowed.any(dim=1), self(examples).argmax(dim=1), UNKNOWN)

    def accuracy(self, examples: Examples) -> float:
        """Fraction of the questions that it answers rightly."""
        right = (self.answer(examples) == examples.answers) & (examples.answers != UNKNOWN)
        return float(right.double().mean())


def train_head(training: Examples, settings: HeadSettings, epochs: int) -> AnswerHead:
    """The head after some epochs, in evaluation mode.

    Args:
        training: At least one question; each has its answer in the vocabulary.
        settings: `epochs` of it does not count.
        epochs: At least 1.
    """
    with _reproducible(settings.seed):
        *_, head = _epochs(training, settings, epochs)
    return head


def best_epoch(training: Examples, validation: Examples, settings: HeadSettings) -> tuple[int, AnswerHead]:
    """The epoch, from 1, with the highest accuracy on other questions, the first of equals, and the head after it.

    Args:
        training: As of `train_head`; the same head comes of it again with that number of epochs.
        validation: At least one question.
        settings: How.
    """
    best, found = -1.0, None
    with _reproducible(settings.seed):
        for epoch, head in enumerate(_epochs(training, settings, settings.epochs), start=1):
            accuracy = head.accuracy(validation)
            if accuracy > best:
                best, found = accuracy, (epoch, deepcopy(head))
    assert found is not None
    return found


def _epochs(training: Examples, settings: HeadSettings, epochs: int) -> Iterator[AnswerHead]:
    """The one head after each epoch, in evaluation mode."""
    head = AnswerHead(training, settings.hidden)
    optimizer = torch.optim.AdamW(head.parameters(), settings.learning_rate, weight_decay=WEIGHT_DECAY)
    for _ in range(epochs):
        head.train()
        for places in torch.randperm(len(training)).split(BATCH_SIZE):
            batch = training.at(places)
            optimizer.zero_grad()
            F.cross_entropy(head(batch), batch.answers).backward()
            optimizer.step()
        yield head.eval()


def _features(examples: Examples) -> Tensor:
    """(questions, 3 x dimensions); a column of the embeddings is about 1 in size, whatever the dimensions."""
    images, questions = (part * part.shape[1] ** 0.5 for part in (examples.images, examples.questions))
    return torch.cat([images, questions, images * questions], dim=1)


@contextmanager
def _reproducible(seed: int) -> Iterator[None]:
    """Random numbers of a seed and one core, whose sums come in one order; both as before afterwards."""
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)

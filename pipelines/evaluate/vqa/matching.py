"""When an answer in free words is the source's answer: the one place that says so for a served model.

- `exact`: they are the same letter by letter, but for white space around them.
- `normalised`: they are the same as the head's answers are (`models.answering.normalise_answer`: lower case,
  punctuation as spaces, no articles) with number words up to ten as digits, `none` as 0. The published evaluation of
  VQA (Antol et al. 2015, arXiv:1505.00468) does this too; it also puts apostrophes where they are missing, and drops
  the signs that stay here (`-5`, `CD3+`, `< 5`). Models answer in sentences: where the source's answer is yes or no,
  the first word counts, as in "Yes, there is a fracture." No other word of a sentence is looked for, so that an answer
  that names everything gains nothing.
"""

from collections.abc import Callable, Mapping

from models.answering import normalise_answer
from pipelines.evaluate.guessing import SERVED

EXACT, NORMALISED = "exact", "normalised"

_NUMBERS = {
    "none": "0",
    **{
        word: str(number)
        for number, word in enumerate(
            ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
        )
    },
}
_FIRST_WORD_COUNTS = frozenset({"yes", "no"})


def exact_form(answer: str) -> str:
    """What two answers have in common where they are the same letter by letter."""
    return answer.strip()


def normalised_form(answer: str) -> str:
    """What two answers have in common where they are the same but for spelling: `The Two nodules.` is `2 nodules`."""
    return " ".join(_NUMBERS.get(word, word) for word in normalise_answer(answer).split())


# How two answers can be the same -> the form that they then share.
FORMS: Mapping[str, Callable[[str], str]] = {EXACT: exact_form, NORMALISED: normalised_form}


def is_right(answer: str, expected: str, match: str) -> bool:
    """Whether an answer is the one that is expected.

    Args:
        answer: In free words; '' is right nowhere.
        expected: The source's.
        match: A key of `FORMS`.
    """
    given, wanted = FORMS[match](answer), FORMS[match](expected)
    if match == NORMALISED and wanted in _FIRST_WORD_COUNTS:
        given = given.partition(" ")[0].rstrip("+-")
    return bool(given) and given == wanted


_HOW = {
    EXACT: "letter by letter as the source does",
    NORMALISED: "as the source does but for case, punctuation, articles, number words and what follows yes or no",
}
_QUESTIONS = {"accuracy": "questions", "accuracy_open": "open questions", "accuracy_closed": "closed questions"}
# Metric -> what it means (`Task.definitions`).
DEFINITIONS: Mapping[str, str] = {
    f"{SERVED}{match}/{metric}": (
        f"Fraction of the {questions} that the served model, which is no part of the method, answers {how}."
    )
    for match, how in _HOW.items()
    for metric, questions in _QUESTIONS.items()
}

"""What few texts say of many images: does the method rank the images by it?

Where equal texts stand for many images, recall asks for one of some sentences, and a method that knows the side but not
the number of areas gets no credit. So each property that the texts state (one side: left or right; uni- or bilateral;
how many areas) is scored by itself: a value's score of an image is its mean cosine with the different texts that say
the value, less that with the texts that say another one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score
from pipelines.evaluate.metrics.classification import macro_auc, with_ties
from pipelines.sides import extent, named_side, statements

# Recall is not alone any more where no more than this fraction of the images' texts are different ones.
FEW = 0.5
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# A number is a word by itself, no part of "2.5", "1-2" or "twenty-one"; adjectives may follow it.
_NUMBER = re.compile(
    rf"(?:\b(?P<before>[a-z]+)\s+)?(?<![\w.,/–-])(?P<number>{'|'.join(_NUMBERS)}|single|\d+)\s+"
    r"(?:(?:infected|affected|small|large|tiny|round|calcified|distinct|separate|pulmonary|lung)\s+){0,2}"
    r"(?:areas?|regions?|lesions?|foci|focus|opacities|opacity|nodules?|masses|mass|polyps?)\b",
    re.IGNORECASE,
)
# Words before a number that make it no count, or no exact one.
_NAMES = ("grade", "series", "type", "stage", "level", "segment", "image", "figure", "category", "class", "slice")
_ABOUT = ("or", "to", "than", "least", "most", "about", "approximately", "around", "over", "under", "nearly", "almost")


def number_of_areas(text: str) -> str | None:
    """The number that a text gives of its findings, as a numeral: `2`; None where it gives none, or no single one."""
    counts = [match for match in _NUMBER.finditer(statements(text)) if (match["before"] or "").lower() not in _NAMES]
    found = {_numeral(match["number"].lower()) for match in counts}
    exact = not any((match["before"] or "").lower() in _ABOUT for match in counts)
    return found.pop() if len(found) == 1 and exact else None


def _numeral(word: str) -> str:
    if word == "single":
        return "1"
    return str(_NUMBERS.index(word) + 1) if word in _NUMBERS else str(int(word))


PROPERTIES: Mapping[str, Callable[[str], str | None]] = {
    "side": named_side,
    "extent": extent,
    "number": number_of_areas,
}


@dataclass(frozen=True, kw_only=True)
class _Values:
    """A property that texts state differently.

    Attributes:
        rows: (images,) index of the images whose text states it.
        stated: (images,) the value of each.
        scores: Value -> (images,) score of each.
    """

    rows: np.ndarray
    stated: np.ndarray
    scores: Mapping[str, np.ndarray]


def few(groups: np.ndarray) -> bool:
    """Whether few texts stand for many images.

    Args:
        groups: (images,) equal numbers for equal texts.
    """
    return len(np.unique(groups)) <= FEW * len(groups)


def label_aucs(
    images: np.ndarray, texts: np.ndarray, reports: Sequence[str], groups: np.ndarray, bootstrap: Bootstrap
) -> dict[str, Score]:
    """`<property>/label_auc`: ROC AUC, mean over the property's values; a property without two values has none.

    Args:
        images: (n, dimensions), of length 1.
        texts: (n, dimensions), of length 1; row i belongs to image i.
        reports: (n,) the texts themselves.
        groups: (n,) equal numbers for equal texts.
        bootstrap: Resamples of the images.
    """
    scores = {}
    for name, of_text in PROPERTIES.items():
        found = _values(images, texts, [of_text(report) for report in reports], groups)
        if found is None:
            continue
        findings = [(0, (found.stated == value).astype(int), score) for value, score in found.scores.items()]
        count = len(found.rows)
        scores[f"{name}/label_auc"] = bootstrap_score(
            [count],
            lambda drawn, findings=findings: macro_auc(findings, [drawn]),
            float(macro_auc(findings, [np.arange(count)[None]])[0]),
            0.5,
            bootstrap,
        )
    return scores


def _values(images: np.ndarray, texts: np.ndarray, stated: Sequence[str | None], groups: np.ndarray) -> _Values | None:
    rows = np.array([row for row, value in enumerate(stated) if value is not None], dtype=int)
    values = np.array([stated[row] for row in rows])
    if len(set(values)) < 2:
        return None
    _, first = np.unique(groups[rows], return_index=True)
    different, of_different = texts[rows[first]], values[first]
    scores = {
        str(value): with_ties(
            images[rows]
            @ (different[of_different == value].mean(axis=0) - different[of_different != value].mean(axis=0))
        )
        for value in sorted(set(values))
    }
    return _Values(rows=rows, stated=values, scores=scores)


def statement_counts(reports: Sequence[str]) -> dict[str, dict[str, int]]:
    """Property -> value -> how many images have a text that says it."""
    counts: dict[str, dict[str, int]] = {}
    for name, of_text in PROPERTIES.items():
        values = [value for report in reports if (value := of_text(report)) is not None]
        counts[name] = {value: values.count(value) for value in sorted(set(values))}
    return counts


def statement_notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Which images a property is scored on, and which properties the texts do not tell apart."""
    return [
        f"{name}/label_auc: images whose text says " + ", ".join(f"{value} {count}" for value, count in values.items())
        if len(values) > 1
        else f"{name}/label_auc is left out: the texts say no two values of it"
        for name, values in counts.items()
    ]

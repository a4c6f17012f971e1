"""A score from the rows of `items.parquet`, of one model or as the difference of two on the same items.

Both models are resampled together: an item that a resample draws twice counts twice for both, so that what makes an
item hard for both drops out of the difference (paired bootstrap, Efron and Tibshirani 1993, chapter 8). Equal texts as
queries are one observation, as in the intervals of the scores themselves.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.text import normalise
from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.guessing import PUBLISHED, SERVED, less_is_better
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score, mean_score
from pipelines.evaluate.metrics.classification import macro_auc
from pipelines.evaluate.metrics.retrieval import asks_with_texts
from pipelines.records import ItemRow

# A row of the table: which item, and of which finding.
Key = tuple[str, str | None]

_RECALL = re.compile(r"(?P<queries>.*)recall@(?P<k>\d+)")
_PER_IMAGE = re.compile(r"(?P<what>.+)_per_image")
AUC = "auc_macro"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Candidate less champion.

    Attributes:
        score: Value and interval; its chance is 0.
        items: Items that both scored.
        left_out: Items that one of them alone scored.
    """

    score: Score
    items: int
    left_out: int


def check_metric(metric: str, known: Iterable[str], rows: Sequence[ItemRow]) -> None:
    """Refuse a metric that cannot be a gate.

    Args:
        metric: Its name within the task.
        known: The metrics that the task gives.
        rows: The task's rows.

    Raises:
        UserError: Less is better, it is of a model beside the method, it leaks, or it has no value for each item; the
            message names the metrics of the task that can.
    """
    able = [
        name
        for name in known
        if not less_is_better(name) and not name.startswith((SERVED, PUBLISHED)) and items_of(rows, name)
    ]
    if metric in able:
        return
    reason = "it has no value for each item, so two models do not pair"
    if less_is_better(metric):
        reason = "less is better"
    elif metric.startswith(SERVED):
        reason = "it is of a served model, whatever the method"
    elif metric.startswith(PUBLISHED):
        reason = "it is of a head that has seen the test images, for comparison with print alone"
    choose = f"choose from {', '.join(able)}" if able else "no metric of this task can be one"
    raise UserError(f"promote.metric: {metric} cannot be a gate, for {reason}: {choose}")


def items_of(rows: Iterable[ItemRow], metric: str) -> dict[Key, ItemRow]:
    """The rows that a metric follows from, by their key; empty where there are none."""
    name = _row_metric(metric)
    return {(row.item, row.label): row for row in rows if row.metric == name}


def _row_metric(metric: str) -> str:
    if recall := _RECALL.fullmatch(metric):
        return f"{recall['queries']}rank"
    if per_image := _PER_IMAGE.fullmatch(metric):
        return per_image["what"]
    return "cosine_difference" if metric == AUC else metric


def value_of(rows: Iterable[ItemRow], metric: str) -> float | None:
    """The metric over some rows of its task; None where they hold none of it, or (AUC) no finding that tells them.

    Ranks stay those among all candidates of the split, whatever rows are given.
    """
    items = list(items_of(rows, metric).values())
    if not items:
        return None
    if metric != AUC:
        return float(np.mean(_values(items, metric)))
    value = float(macro_auc(_findings(items), [np.arange(size)[None] for size in _sizes(items)])[0])
    return value if np.isfinite(value) else None


def difference(
    candidate: Iterable[ItemRow], champion: Iterable[ItemRow], metric: str, bootstrap: Bootstrap
) -> Difference | None:
    """Candidate less champion on the items that both scored, with the interval of the paired bootstrap.

    Returns:
        None where they share no item.
    """
    ours, theirs = items_of(candidate, metric), items_of(champion, metric)
    common = [key for key in ours if key in theirs]
    if not common:
        return None
    pairs = [ours[key] for key in common], [theirs[key] for key in common]
    score = _auc_difference(*pairs, bootstrap) if metric == AUC else _mean_difference(*pairs, metric, bootstrap)
    left_out = {item for item, _ in ours.keys() ^ theirs.keys()}
    return Difference(score=score, items=len({item for item, _ in common}), left_out=len(left_out))


def _mean_difference(
    candidate: Sequence[ItemRow], champion: Sequence[ItemRow], metric: str, bootstrap: Bootstrap
) -> Score:
    differences = _values(candidate, metric) - _values(champion, metric)
    return mean_score(differences, 0.0, bootstrap, clusters=observations(candidate, metric))


def observations(rows: Sequence[ItemRow], metric: str) -> np.ndarray:
    """(rows,) equal numbers for rows that are one observation of a metric: with texts as queries those of equal texts.

    Args:
        rows: Of the metric.
        metric: Its name within its task.
    """
    if not asks_with_texts(metric):
        return np.arange(len(rows))
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalise(row.prompt or ""), len(numbers)) for row in rows])


def _values(rows: Sequence[ItemRow], metric: str) -> np.ndarray:
    """(rows,) what the metric is the mean of."""
    values = np.array([row.value for row in rows])
    recall = _RECALL.fullmatch(metric)
    return values if recall is None else (values <= int(recall["k"])).astype(float)


def _auc_difference(candidate: Sequence[ItemRow], champion: Sequence[ItemRow], bootstrap: Bootstrap) -> Score:
    ours, theirs = _findings(candidate), _findings(champion)

    def resampled(*drawn: np.ndarray) -> np.ndarray:
        return macro_auc(ours, drawn) - macro_auc(theirs, drawn)

    sizes = _sizes(candidate)
    value = float(resampled(*(np.arange(size)[None] for size in sizes))[0])
    return bootstrap_score(sizes, resampled, value, 0.0, bootstrap)


def _findings(rows: Sequence[ItemRow]) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Of each finding of each source: the source's number, its images' truth and their scores, in the rows' order."""
    sources = _sources(rows)
    findings: dict[tuple[str, str | None], list[ItemRow]] = {}
    for row in rows:
        findings.setdefault((row.source, row.label), []).append(row)
    return [
        (sources.index(source), np.array([row.truth for row in same]), np.array([row.value for row in same]))
        for (source, _), same in findings.items()
    ]


def _sources(rows: Sequence[ItemRow]) -> list[str]:
    return sorted({row.source for row in rows})


def _sizes(rows: Sequence[ItemRow]) -> list[int]:
    """Images of each source; every finding of a source has a row for each of them."""
    return [len({row.item for row in rows if row.source == source}) for source in _sources(rows)]

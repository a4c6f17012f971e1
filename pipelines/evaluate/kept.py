"""What scores follow from, of the rows that `items.parquet` keeps: without the model, its weights or the images.

A metric is the mean of its items' values (of ranks: the fraction of at most k, or the median), a ratio of their pixels
counted together, the mean over labels or classes of such a mean, or the mean over findings of the AUC of their scores,
of `probe` over draws, too. What else a task computes needs more than the rows hold.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.errors import UserError
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.grounding.classes import MACRO
from pipelines.evaluate.grounding.phrases import SETTINGS
from pipelines.evaluate.metrics.bootstrap import clustered_score
from pipelines.evaluate.metrics.classification import macro_auc
from pipelines.evaluate.metrics.macro import macro_mean, mean_of_means
from pipelines.evaluate.metrics.segmentation import METRICS as OF_PIXELS
from pipelines.evaluate.scoring import ITEM_TABLE, METRICS
from pipelines.evaluate.segmentation.kept import COUNTS
from pipelines.evaluate.stage import EVALUATIONS
from pipelines.evaluate.task import AMONG_SOURCE
from pipelines.files import read_output
from pipelines.promotion.paired import AUC, Difference, Key, difference, items_of, observations, value_of
from pipelines.records import ITEMS, ItemRow

_DRAWN = re.compile(r"(?P<head>.*)auc_macro@(?P<k>.+)")
_MACRO = re.compile(r"macro_(?P<metric>.+)")
_OVER_CLASSES = re.compile(rf"{MACRO}/(?P<metric>.+)")
_MEDIAN = re.compile(r"(?P<queries>.*)median_rank")
# What is read of metrics.json.
_READ = ("split", "items_sha256", "tasks")


@dataclass(frozen=True, kw_only=True)
class KeptEvaluation:
    """An evaluation as it lies in a folder.

    Attributes:
        folder: It.
        results: metrics.json.
        rows: Task -> its rows of items.parquet.
    """

    folder: Path
    results: dict[str, Any]
    rows: dict[str, list[ItemRow]]


def read_kept(name: str) -> KeptEvaluation:
    """Read an evaluation.

    Args:
        name: A folder with metrics.json and items.parquet, or a method of this study.

    Raises:
        UserError: There is none, and one line says where it was looked for; or it is one of another release.
        DamagedError: A file is not the one that was written.
    """
    folders = [Path(name), EVALUATIONS / name]
    folder = next((one for one in folders if (one / METRICS).is_file()), None)
    if folder is None:
        known = ", ".join(sorted(file.parent.name for file in EVALUATIONS.glob(f"*/{METRICS}"))) or "no method"
        raise UserError(
            f"{name} holds no {METRICS}: name a folder of an evaluation, or a method ({known} is evaluated)"
        )
    results = read_output(folder / METRICS)
    if missing := [key for key in _READ if key not in results]:
        raise UserError(
            f"{folder / METRICS} is of no evaluation of this release, for it has no {missing[0]}: make it again, by "
            "`dvc repro` or by the command that wrote it"
        )
    rows: dict[str, list[ItemRow]] = {}
    for row in ITEMS.rows(folder / ITEM_TABLE):
        rows.setdefault(row.task, []).append(row)
    return KeptEvaluation(folder=folder, results=results, rows=rows)


@dataclass(frozen=True, kw_only=True)
class KeptScores:
    """Scores of a task, of the items of one source or all, and what they follow from.

    Attributes:
        task: It.
        source: None: all items together.
        metrics: Metric -> its entry in metrics.json.
        rows: Those of these items, with the ranks among these.
    """

    task: str
    source: str | None
    metrics: Mapping[str, dict[str, Any]]
    rows: Sequence[ItemRow]


def score_name(task: str, metric: str, source: str | None) -> str:
    """For a person: `retrieval/i2t_recall@1`, and `retrieval/i2t_recall@1 (vqa_rad)` of the items of a source."""
    return f"{task}/{metric}" + ("" if source is None else f" ({source})")


def kept_scores(evaluation: KeptEvaluation) -> Iterator[KeptScores]:
    """Task by task, the scores of all items together, then those of each source."""
    for task, result in evaluation.results["tasks"].items():
        rows = evaluation.rows.get(task, [])
        together = [row for row in rows if not row.metric.startswith(AMONG_SOURCE)]
        yield KeptScores(task=task, source=None, metrics=result["metrics"], rows=together)
        for source, scores in result["by_source"].items():
            of_source = _of_source(rows, source)
            yield KeptScores(task=task, source=source, metrics=scores["metrics"], rows=of_source)


def _of_source(rows: Sequence[ItemRow], source: str) -> list[ItemRow]:
    """A source's rows as if there were no other source: of ranks those among its own candidates, and no other ones."""
    own = [row for row in rows if row.source == source]
    among = [
        replace(row, metric=row.metric.removeprefix(AMONG_SOURCE)) for row in own if row.metric.startswith(AMONG_SOURCE)
    ]
    return [*among, *(row for row in own if not row.metric.endswith("rank"))]


@dataclass(frozen=True, kw_only=True)
class _Statistic:
    """A metric that is no mean of its rows' values.

    Attributes:
        keys: Of its items.
        observations: (items,) equal numbers for items that are one observation.
        values: (items, ...).
        of: (..., items, ...) -> (...).
        strata: (items,) equal numbers for items that are resampled by themselves, the metric being the mean over these
            of their means; None: all are resampled together.
    """

    keys: list[Key]
    observations: np.ndarray
    values: np.ndarray
    of: Callable[[np.ndarray], np.ndarray]
    strata: np.ndarray | None = None


def _statistic(rows: Sequence[ItemRow], metric: str) -> _Statistic | None:
    if median := _MEDIAN.fullmatch(metric):
        ranks = items_of(rows, f"{median['queries']}rank")
        if not ranks:
            return None
        return _Statistic(
            keys=list(ranks),
            observations=observations(list(ranks.values()), metric),
            values=np.array([row.value for row in ranks.values()]),
            of=lambda of: np.median(of, axis=-1),
        )
    if (macro := _MACRO.fullmatch(metric)) and (found := items_of(rows, macro["metric"])):
        return _over_labels(list(found), list(found.values()), [row.label or "" for row in found.values()])
    if (over := _OVER_CLASSES.fullmatch(metric)) and (of_classes := _of_classes(rows, over["metric"])):
        names = [row.metric.partition("/")[0] for row in of_classes]
        keys = [(f"{name}/{row.item}", row.label) for name, row in zip(names, of_classes, strict=True)]
        return _over_labels(keys, of_classes, names, within_each=True)
    setting, _, name = metric.rpartition("/")
    if name not in OF_PIXELS or items_of(rows, metric):
        return None
    counts = {key: _counts(row) for key, row in items_of(rows, f"{setting}/dice").items()}
    kept = {key: of_image for key, of_image in counts.items() if of_image is not None}
    if not kept or len(kept) < len(counts):
        return None
    counted = np.array(list(kept.values()), dtype=np.int64)
    return _Statistic(keys=list(kept), observations=np.arange(len(kept)), values=counted, of=OF_PIXELS[name])


def _of_classes(rows: Sequence[ItemRow], metric: str) -> list[ItemRow]:
    """The values of each phrase, once for each of its classes: `<class>/<metric>` where the class is no setting."""
    parts = ((row, *row.metric.rpartition("/")) for row in rows)
    return [row for row, name, _, within in parts if within == metric and name not in SETTINGS]


def _over_labels(
    keys: list[Key], rows: Sequence[ItemRow], labels: Sequence[str], *, within_each: bool = False
) -> _Statistic:
    """The mean over labels of the means of their rows, which are resampled all together, or within each label."""
    numbers = np.unique(labels, return_inverse=True)[1]
    pairs = np.column_stack([[row.value for row in rows], numbers])
    strata = numbers if within_each else None
    return _Statistic(keys=keys, observations=np.arange(len(keys)), values=pairs, of=macro_mean, strata=strata)


def _counts(row: ItemRow) -> list[int] | None:
    output = {} if row.output is None else json.loads(row.output)
    return [output[name] for name in COUNTS] if all(name in output for name in COUNTS) else None


def _as_paired(rows: Sequence[ItemRow], metric: str) -> tuple[Sequence[ItemRow], str]:
    """The rows and the name by which `paired` knows a metric: `auc_ovr` is the mean AUC of other rows."""
    if metric != "auc_ovr":
        return rows, metric
    return [replace(row, metric="cosine_difference") for row in rows if row.metric == "log_probability"], AUC


def recomputed(rows: Sequence[ItemRow], metric: str) -> float | None:
    """A metric from the rows of its task; None where they do not hold what it follows from.

    Ranks stay those that the rows hold, and scores those of all images, whatever rows are given.
    """
    if drawn := _DRAWN.fullmatch(metric):
        return _mean_over_draws([row for row in rows if row.metric == f"{drawn['head']}score@{drawn['k']}"])
    statistic = _statistic(rows, metric)
    if statistic is not None:
        return float(statistic.of(statistic.values))
    return value_of(*_as_paired(rows, metric))


def _mean_over_draws(rows: Sequence[ItemRow]) -> float | None:
    """The mean, over draws of training images, of the mean AUC over findings; of the task `probe`."""
    by_finding: dict[tuple[str, str | None], list[dict[str, Any]]] = {}
    for row in rows:
        by_finding.setdefault((row.source, row.label), []).append(json.loads(row.output or "{}"))
    if not by_finding:
        return None
    findings = [
        (np.array([one["truth"] for one in of_finding]), np.array([one["draws"] for one in of_finding]))
        for of_finding in by_finding.values()
    ]
    everything = [np.arange(len(truth))[None] for truth, _ in findings]
    aucs = [
        macro_auc([(number, truth, scores[:, draw]) for number, (truth, scores) in enumerate(findings)], everything)[0]
        for draw in range(findings[0][1].shape[1])
    ]
    return float(np.mean(aucs)) if np.isfinite(aucs).all() else None


def kept_difference(
    rows: Sequence[ItemRow], others: Sequence[ItemRow], metric: str, bootstrap: Bootstrap
) -> Difference | None:
    """One evaluation less another on the items of both, with the interval of the paired bootstrap.

    Returns:
        None where the rows do not hold what the metric follows from, or share no item.
    """
    ours, theirs = _statistic(rows, metric), _statistic(others, metric)
    if ours is None or theirs is None:
        known, name = _as_paired(rows, metric)
        return difference(known, _as_paired(others, metric)[0], name, bootstrap)
    places = {key: place for place, key in enumerate(theirs.keys)}
    pairs = [(place, places[key]) for place, key in enumerate(ours.keys) if key in places]
    if not pairs:
        return None
    (one, other), of = np.array(pairs).T, ours.of
    of_one, of_other = ours.values[one], theirs.values[other]
    if ours.strata is None:
        score = clustered_score(
            ours.observations[one],
            lambda drawn: of(of_one[drawn]) - of(of_other[drawn]),
            float(of(of_one) - of(of_other)),
            0.0,
            bootstrap,
        )
    else:
        differences, strata = of_one[:, 0] - of_other[:, 0], ours.strata[one]
        score = mean_of_means([differences[strata == number] for number in np.unique(strata)], 0.0, bootstrap)
    return Difference(score=score, items=len(pairs), left_out=len(set(ours.keys) ^ set(theirs.keys)))

"""Precision at k over labels, for the task `retrieval`: who is asked about, and which texts are right.

A text is right for an image where its own image has the same set of labels; an image without finding has the set `No
Finding`. Where each image of a source has exactly one label of classes that exclude each other, as in CheXpert 5x200
(Huang et al. 2021, GLoRIA), that is the same class. Where images have several, one label in common is not enough: a
text that names every finding would be right for every image with one. Queries and candidates are the images of one
source whose labels are known, and their texts: whether the images of another source have a finding that this one names
is unknown. A source whose images all have the same labels tells nothing and is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.labelled import label_set, labelled_rows
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.metrics.precision import (
    chance_precision,
    chance_precision_of_texts,
    majority_precision,
    precisions,
)
from pipelines.evaluate.metrics.retrieval import asks_with_texts, queries_of

MAJORITY = "majority label"


@dataclass(frozen=True, kw_only=True)
class LabelledSource:
    """The images of one source whose labels are known.

    Attributes:
        source: Its name.
        rows: (images,) their places in the pool of the task.
        labels: (images,) equal numbers for equal sets of labels.
    """

    source: str
    rows: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, kw_only=True)
class SourcePrecision:
    """The precision of each query of one source.

    Attributes:
        labelled: The queries; those of either direction are in this order.
        values: `i2t_precision@5` -> (images,), of each k that the source has candidates for.
        chance: Name as in `values` -> (images,) that of a random order of the candidates.
        majority: Likewise that of the candidates by how frequent their labels are.
    """

    labelled: LabelledSource
    values: dict[str, np.ndarray]
    chance: dict[str, np.ndarray]
    majority: dict[str, np.ndarray]


def labelled_sources(images: Sequence[EvaluationImage]) -> tuple[list[LabelledSource], list[str]]:
    """The sources in alphabetical order, and the names of those whose labelled images all have the same labels.

    Args:
        images: Of the pool, in its order.
    """
    found, alike = [], []
    for source, of_source in sorted(labelled_rows(images).items()):
        numbers: dict[frozenset[str], int] = {}
        labels = [numbers.setdefault(label_set(images[row]), len(numbers)) for row in of_source]
        if len(numbers) > 1:
            found.append(LabelledSource(source=source, rows=np.array(of_source), labels=np.array(labels)))
        else:
            alike.append(source)
    return found, alike


def source_precision(
    images: np.ndarray,
    texts: np.ndarray,
    groups: np.ndarray,
    labelled: LabelledSource,
    ks: Sequence[int],
    *,
    exclude_own: bool,
) -> SourcePrecision:
    """Both directions of one source.

    Args:
        images: (pool, dimensions), of length 1.
        texts: (pool, dimensions), of length 1; row i belongs to image i.
        groups: (pool,) equal numbers for equal texts.
        labelled: The source.
        ks: The k of each precision; those above the number of candidates are left out.
        exclude_own: Whether a query's own text, or image, is no candidate.
    """
    of_images, of_texts, labels = images[labelled.rows], texts[labelled.rows], labelled.labels
    possible = [k for k in ks if k <= len(labels) - int(exclude_own)]
    values, chance, majority = dict[str, np.ndarray](), dict[str, np.ndarray](), dict[str, np.ndarray]()
    directions = {"i2t": (of_images, of_texts), "t2i": (of_texts, of_images)} if possible else {}
    for name, (queries, candidates) in directions.items():
        of_ks = precisions(queries, candidates, labels, possible, exclude_own=exclude_own)
        for k, of_k in zip(possible, of_ks, strict=True):
            metric = f"{name}_precision@{k}"
            values[metric] = of_k
            chance[metric] = (
                chance_precision(labels, exclude_own=exclude_own)
                if asks_with_texts(name)
                else chance_precision_of_texts(labels, groups[labelled.rows], k, exclude_own=exclude_own)
            )
            majority[metric] = majority_precision(labels, k, exclude_own=exclude_own)
    return SourcePrecision(labelled=labelled, values=values, chance=chance, majority=majority)


def precision_scores(found: Sequence[SourcePrecision], groups: np.ndarray, bootstrap: Bootstrap) -> dict[str, Score]:
    """The mean over the queries of all sources that have enough candidates for a k, beside chance and majority.

    Args:
        found: Of each source.
        groups: (pool,) equal numbers for equal texts.
        bootstrap: Resamples of the queries: of the images, or of the different texts.
    """
    scores = {}
    for name in dict.fromkeys(name for one in found for name in one.values):
        having = [one for one in found if name in one.values]
        chance = np.concatenate([one.chance[name] for one in having]).mean()
        majority = np.concatenate([one.majority[name] for one in having]).mean()
        values = np.concatenate([one.values[name] for one in having])
        clusters = queries_of(name, groups[np.concatenate([one.labelled.rows for one in having])])
        scores[name] = mean_score(values, float(chance), bootstrap, {MAJORITY: float(majority)}, clusters)
    return scores


def query_counts(found: Sequence[SourcePrecision]) -> dict[str, int]:
    """`i2t_precision@5` -> how many queries it is the mean of."""
    names = dict.fromkeys(name for one in found for name in one.values)
    return {name: sum(len(one.labelled.rows) for one in found if name in one.values) for name in names}


def precision_notes(
    found: Sequence[SourcePrecision], alike: Sequence[str], unlabelled: int, ks: Sequence[int], *, exclude_own: bool
) -> list[str]:
    """Which images are asked about, and which are left out.

    Args:
        found: Of each source that is scored.
        alike: Names of the sources whose labelled images all have the same labels.
        unlabelled: Images of the pool whose labels are unknown.
        ks: The k of each precision.
        exclude_own: As of `source_precision`.
    """
    queries = sum(len(one.labelled.rows) for one in found)
    classes = "; ".join(
        f"{one.labelled.source} {len(one.labelled.rows)} images, {len(np.unique(one.labelled.labels))} sets of labels"
        for one in found
    )
    own = "is no candidate" if exclude_own else "is a candidate, and right"
    notes = [
        f"precision@k is of {queries} images ({classes or 'no source'}); a text of the same source is right where its "
        f"image has the same labels; a query's own text or image {own}; left out: {unlabelled} images without labels"
    ]
    if alike:
        notes.append(f"precision@k leaves out sources whose images all have the same labels: {', '.join(alike)}")
    for one in found:
        candidates = len(one.labelled.rows) - int(exclude_own)
        if missing := [k for k in ks if k > candidates]:
            source = one.labelled.source
            notes.append(f"precision@k of {source} is left out for k in {missing}: it has {candidates} candidates")
    return notes

"""Classes of one source, each with a score of every labelled image of it, and the mean of their AUCs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.labelled import labelled_rows
from pipelines.evaluate.metrics import classification
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score
from pipelines.evaluate.metrics.retrieval import TIE
from pipelines.evaluate.source_classes import SourceClasses
from pipelines.records import NO_FINDING


@dataclass(frozen=True)
class FindingClass:
    """A finding of one source: `truth` (images of the source,) 0 or 1, `scores` beside it."""

    source: str
    label: str
    truth: np.ndarray
    scores: np.ndarray


def class_truths(
    images: Sequence[EvaluationImage], classes: Mapping[str, SourceClasses]
) -> tuple[dict[tuple[str, str], np.ndarray], dict[tuple[str, str], str]]:
    """The classes of a split, by (source, label).

    Args:
        images: Of the split.
        classes: Of each of their sources, by all splits.

    Returns:
        0 or 1 for each labelled image of the source; and why the other classes cannot be told there, for a person.
    """
    truths, skipped = {}, {}
    for source, rows in sorted(labelled_rows(images).items()):
        label_sets = [set(images[row].labels or ()) for row in rows]
        counts = Counter(label for labels in label_sets for label in labels)
        for label in classes[source].labels:
            if label == NO_FINDING:
                continue
            if 0 < counts[label] < len(label_sets):
                truths[source, label] = np.array([label in labels for labels in label_sets], dtype=np.int8)
            else:
                skipped[source, label] = "all images have it" if counts[label] else "no image has it"
    return truths, skipped


def images_by_source(classes: Sequence[FindingClass]) -> dict[str, int]:
    """Source -> number of its labelled images, sources in alphabetical order."""
    return dict(sorted({finding.source: len(finding.truth) for finding in classes}.items()))


def macro_auc(classes: Sequence[FindingClass], bootstrap: Bootstrap) -> Score:
    """Mean of the classes' AUCs; images are resampled within their source."""
    images = images_by_source(classes)
    sources = list(images)
    findings = [(sources.index(finding.source), finding.truth, finding.scores) for finding in classes]

    def resampled(*drawn: np.ndarray) -> np.ndarray:
        return classification.macro_auc(findings, drawn)

    value = float(resampled(*(np.arange(count)[None] for count in images.values()))[0])
    return bootstrap_score(list(images.values()), resampled, value, 0.5, bootstrap)


def z_scores(cosines: np.ndarray) -> np.ndarray:
    """(images, classes) float64: of each class mean 0 and standard deviation 1 over the images.

    As GLoRIA (Huang et al. 2021) normalises the similarities of a class over its whole test set, with ddof 0. A class
    that all images are equally near to is 0 throughout: what float32 leaves of its differences is no score.

    Args:
        cosines: (images, classes).
    """
    tied = np.stack([classification.with_ties(of_class) for of_class in cosines.T], axis=1)
    centred = tied - tied.mean(axis=0)
    deviation = centred.std(axis=0)
    return np.where(deviation > TIE, centred / np.maximum(deviation, TIE), 0.0)

"""Classes that exclude each other: each image of a source shows exactly one of them.

The classes of a source are the labels of its images on all splits, so that the truth of the scored split makes no
choice easier; an image without finding is of the class `No Finding`. A source of which an image of any split has
several labels is none of these (`not_exclusive`), and one whose images on the scored split all have the same label
tells nothing (`no_class_to_tell`). A class without an image there can be answered, and has no AUC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.labelled import label_set, labelled_rows
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.metrics.classification import with_ties
from pipelines.evaluate.metrics.retrieval import TIE
from pipelines.evaluate.source_classes import SourceClasses
from pipelines.evaluate.zero_shot.classes import FindingClass

MAJORITY = "majority class"
# Of a log probability: what differs less does so by the rounding of cosines in float32, and is a tie.
_LEAST = 1e-5


@dataclass(frozen=True, kw_only=True)
class ExclusiveSource:
    """The images of one source and the class of each.

    Attributes:
        source: Its name.
        rows: (images,) their places in the split.
        labels: The classes, in alphabetical order; also those that none of the images shows.
        truth: (images,) number of each image's class in `labels`.
    """

    source: str
    rows: np.ndarray
    labels: tuple[str, ...]
    truth: np.ndarray

    @property
    def not_shown(self) -> list[str]:
        """The classes that can be answered, but that none of the images shows."""
        return [label for number, label in enumerate(self.labels) if number not in self.truth]


def exclusive_sources(
    images: Sequence[EvaluationImage], classes: Mapping[str, SourceClasses]
) -> tuple[list[ExclusiveSource], dict[str, str], list[tuple[str, str]]]:
    """The sources in alphabetical order; reason codes of those that are left out; and (source, class) of the latter.

    Args:
        images: Of the scored split.
        classes: Of each of their sources, by all splits.
    """
    found: list[ExclusiveSource] = []
    left_out: dict[str, str] = {}
    skipped: list[tuple[str, str]] = []
    for source, rows in sorted(labelled_rows(images).items()):
        sets = [label_set(images[row]) for row in rows]
        labels = classes[source].labels
        if not classes[source].exclusive:
            left_out[source] = "not_exclusive"
        elif len(set(sets)) < 2:
            left_out[source] = "no_class_to_tell"
        if source in left_out:
            skipped += [(source, label) for label in labels]
            continue
        truth = np.array([labels.index(next(iter(of_image))) for of_image in sets])
        found.append(ExclusiveSource(source=source, rows=np.array(rows), labels=labels, truth=truth))
    return found, left_out, skipped


def source_note(source: ExclusiveSource) -> str:
    """What there is to choose among, and what the split lacks of it."""
    note = f"{source.source}: {len(source.rows)} images, {len(source.labels)} classes"
    if not source.not_shown:
        return note
    return (
        f"{note}; without an image on this split, and so without an AUC, but possible answers: "
        f"{', '.join(source.not_shown)}"
    )


def one_vs_rest(source: ExclusiveSource, logits: np.ndarray) -> list[FindingClass]:
    """Each class with images against the others; the score is the logarithm of its softmax, which has the same order.

    Args:
        source: Of the images.
        logits: (images, classes).
    """
    scores = scipy.special.log_softmax(logits.astype(np.float64), axis=1)
    return [
        FindingClass(
            source.source, label, (source.truth == number).astype(np.int8), with_ties(scores[:, number], _LEAST)
        )
        for number, label in enumerate(source.labels)
        if label not in source.not_shown
    ]


def correct(source: ExclusiveSource, scores: np.ndarray) -> np.ndarray:
    """(images,) bool: whether an image's own class has the highest score; one that is tied with it is no hit.

    Args:
        source: Of the images.
        scores: (images, classes) cosines, or cosines in standard deviations.
    """
    everyone = np.arange(len(source.truth))
    others = scores.copy()
    others[everyone, source.truth] = -np.inf
    return np.asarray(scores[everyone, source.truth] > others.max(axis=1) + TIE)


def accuracy(sources: Sequence[ExclusiveSource], hits: Sequence[np.ndarray], bootstrap: Bootstrap) -> Score:
    """The fraction of all images whose class is found.

    Chance is that of a guess among all classes of the image's source, and the majority class the most frequent one of
    its source on this split.

    Args:
        sources: At least one.
        hits: Of each (images,) bool.
        bootstrap: Resamples of the images.
    """
    chance = np.concatenate([np.full(len(one.truth), 1 / len(one.labels)) for one in sources])
    most = sum(int(np.bincount(one.truth).max()) for one in sources)
    return mean_score(np.concatenate(hits), float(chance.mean()), bootstrap, {MAJORITY: most / len(chance)})

"""Whether an image shows a finding: by its similarity with the finding's prompt, from a level on that is chosen."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.text import normalise
from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.detection.measure import Key
from pipelines.evaluate.metrics.bootstrap import Score, mean_score
from pipelines.evaluate.metrics.retrieval import TIE

# Cuts below, and above, the similarity of any image with any text.
ALWAYS, NEVER = -2.0, 2.0


@dataclass(frozen=True, kw_only=True)
class Presence:
    """A finding of one source, and which of the images that the source labelled show it.

    Attributes:
        rows: (images,) places of the source's labelled images.
        truth: (images,) bool.
        similarity: (images,) cosine of each image with the prompt.
    """

    rows: NDArray[np.int64]
    truth: NDArray[np.bool_]
    similarity: NDArray[np.float32]


def findings_told(
    sources: Sequence[str],
    labels: Sequence[Sequence[str] | None],
    embeddings: NDArray[np.float32],
    findings: Collection[Key],
    direction: Callable[[str], NDArray[np.float32]],
) -> dict[Key, Presence]:
    """Each finding that some labelled images of its source show, and others do not.

    Args:
        sources: Of each image.
        labels: Of each image; None where nobody said.
        embeddings: (images, dimensions), of length 1.
        findings: Sources and their findings, named as encoders read them.
        direction: Finding -> embedding of its prompt.
    """
    rows: dict[str, list[int]] = {}
    for index, source in enumerate(sources):
        if labels[index] is not None:
            rows.setdefault(source, []).append(index)
    named = {
        source: [{normalise(label) for label in labels[row] or ()} for row in rows.get(source, ())]
        for source in {source for source, _ in findings}
    }
    found = {}
    for source, finding in sorted(findings):
        truth = np.array([finding in of_image for of_image in named[source]], dtype=bool)
        if truth.any() and not truth.all():
            of_source = np.array(rows[source])
            similarity = embeddings[of_source] @ direction(finding)
            found[source, finding] = Presence(rows=of_source, truth=truth, similarity=similarity)
    return found


def best_cut(presence: Presence) -> float:
    """The similarity from which on most images are told rightly; of equal ones the lowest.

    It lies in the middle between two images, so that images that are alike fall on one side.
    """
    order = np.argsort(presence.similarity, kind="stable")
    values, truth = presence.similarity[order].astype(np.float64), presence.truth[order]
    # How many images lie below each cut.
    below = np.concatenate([[0], np.flatnonzero(np.diff(values) > TIE) + 1, [len(values)]])
    negatives = np.concatenate([[0], np.cumsum(~truth)])
    positives = np.concatenate([[0], np.cumsum(truth)])
    right = negatives[below] + positives[-1] - positives[below]
    best = int(below[np.argmax(right)])
    if best in (0, len(values)):
        return ALWAYS if best == 0 else NEVER
    return round(float(values[best - 1] + values[best]) / 2, 7)


def told_rightly(presence: Presence, cut: float) -> NDArray[np.bool_]:
    """(images,): whether each image is told rightly."""
    return np.asarray((presence.similarity >= cut) == presence.truth)


def accuracy(presences: Sequence[Presence], right: Sequence[NDArray[np.bool_]], bootstrap: Bootstrap) -> Score:
    """The fraction of images, of each finding once, that are told rightly.

    Chance is the better one of two constant answers for each finding, always there or never: the majority class.

    Args:
        presences: At least one.
        right: Of each, as `told_rightly` gives it.
        bootstrap: Resamples of the images.
    """
    majority = sum(max(int(one.truth.sum()), int((~one.truth).sum())) for one in presences)
    values = np.concatenate(right)
    return mean_score(values, majority / len(values), bootstrap)

"""What the heads of the task `probe` tell apart: the classes of each source, by its images of all splits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.evaluation_set import EvaluationImage
from pipelines.evaluate.source_classes import SourceClasses
from pipelines.evaluate.training_embeddings import TrainingEmbeddings
from pipelines.records import NO_FINDING

# Training images a class; `all` of them.
Shots = int | str
ALL = "all"

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """Classes that one head tells apart; each image of the source has exactly one of them.

    Attributes:
        source: Name of the source.
        classes: Their names.
        findings: Numbers of those that are findings; the others say that the source sees none, or not this one.
        exclusive: Whether the classes are all labels of the source, so that accuracy says something. Otherwise they are
            a finding and its absence.
        training: (training images of the source,) number of each image's class.
        truth: (test images of the source,) number of each image's class.
    """

    source: str
    classes: tuple[str, ...]
    findings: tuple[int, ...]
    exclusive: bool
    training: Numbers
    truth: Numbers

    @property
    def training_counts(self) -> Numbers:
        """(classes,) training images of each."""
        return np.bincount(self.training, minlength=len(self.classes))

    def known(self, shots: Shots) -> list[int]:
        """The classes that have so many training images: those that a head can answer; ascending."""
        needed = 1 if shots == ALL else int(shots)
        return [number for number, count in enumerate(self.training_counts.tolist()) if count >= needed]

    @property
    def told_in_test(self) -> list[int]:
        """The findings that some test images have and others lack."""
        counts = np.bincount(self.truth, minlength=len(self.classes))
        return [number for number in self.findings if 0 < counts[number] < len(self.truth)]

    def skipped(self, shots: Shots) -> dict[int, str]:
        """The findings that have no AUC with so many shots -> why not, for a person."""
        known, told = self.known(shots), self.told_in_test
        reasons = {}
        for number in self.findings:
            if number not in told:
                reasons[number] = "all test images have it" if number in self.truth else "no test image has it"
            elif number not in known:
                reasons[number] = "too few training images have it"
            elif len(known) < 2:
                reasons[number] = "too few training images lack it"
        return reasons


@dataclass(frozen=True)
class SourceProblems:
    """The problems of one source: one where its labels exclude one another, else one for each finding.

    Attributes:
        source: Its name.
        training_rows: Its labelled training images, as indices of `TrainingEmbeddings`; they ascend.
        test_rows: Its labelled test images, as indices of `EvaluationSet.images`; they ascend.
        problems: What its heads tell apart.
    """

    source: str
    training_rows: Numbers
    test_rows: Numbers
    problems: tuple[Problem, ...]


def source_problems(
    images: Sequence[EvaluationImage], training: TrainingEmbeddings, classes: Mapping[str, SourceClasses]
) -> list[SourceProblems]:
    """The problems of each source that has labelled test images, sources in alphabetical order.

    Labels of other sources are unknown, not negative.

    Args:
        images: Of the scored split.
        training: The training images.
        classes: Of each source of the scored split, by all splits.
    """
    of_test = _labelled((image.source, image.labels) for image in images)
    of_training = _labelled(zip(training.sources, training.labels, strict=True))
    return [
        _of_source(source, classes[source], of_training.get(source, {}), rows)
        for source, rows in sorted(of_test.items())
    ]


def _labelled(images: Iterable[tuple[str, tuple[str, ...] | None]]) -> dict[str, dict[int, tuple[str, ...]]]:
    """Source -> number of each labelled image -> its findings."""
    found: dict[str, dict[int, tuple[str, ...]]] = {}
    for number, (source, labels) in enumerate(images):
        if labels is not None:
            found.setdefault(source, {})[number] = _findings(labels)
    return found


@lru_cache(maxsize=1 << 14)
def _findings(labels: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(labels) - {NO_FINDING}))


def _of_source(
    source: str, classes: SourceClasses, training: dict[int, tuple[str, ...]], test: dict[int, tuple[str, ...]]
) -> SourceProblems:
    if classes.exclusive:
        problems = [_exclusive(source, classes.labels, training.values(), test.values())]
    else:
        names = [label for label in classes.labels if label != NO_FINDING]
        problems = [_one_finding(source, name, training.values(), test.values()) for name in names]
    return SourceProblems(source, np.array([*training], dtype=np.int64), np.array([*test]), tuple(problems))


def _exclusive(
    source: str, classes: tuple[str, ...], training: Iterable[tuple[str, ...]], test: Iterable[tuple[str, ...]]
) -> Problem:
    numbers = {name: number for number, name in enumerate(classes)}
    of_training, of_test = (
        np.array([numbers[one[0] if one else NO_FINDING] for one in split], dtype=np.int64)
        for split in (training, test)
    )
    findings = tuple(number for name, number in numbers.items() if name != NO_FINDING)
    return Problem(source, classes, findings, True, of_training, of_test)


def _one_finding(
    source: str, name: str, training: Iterable[tuple[str, ...]], test: Iterable[tuple[str, ...]]
) -> Problem:
    of_training, of_test = (np.array([name in one for one in split], dtype=np.int64) for split in (training, test))
    return Problem(source, (f"without {name}", name), (1,), False, of_training, of_test)

"""Scores of the task `probe`: means over draws, with intervals that cover draws and test images.

Each resample takes test images, within their source, and draws of shots, both with replacement and independently of
each other ("The pigeonhole bootstrap", Owen 2007, doi:10.1214/07-AOAS122), and is the mean over its draws. All images
of a class are one draw: the interval is then that of test images alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.config import Bootstrap
from pipelines.evaluate.metrics import classification
from pipelines.evaluate.metrics.bootstrap import Score, bootstrap_score
from pipelines.evaluate.probe.answers import Answers, Setting, SourceAnswers
from pipelines.evaluate.probe.heads import BlendHead, LinearHead
from pipelines.evaluate.probe.problems import Problem

AUC, ACCURACY = "auc_macro", "accuracy"
MAJORITY, PRIOR = "majority class", "prior of the labels"
# Head -> what stands before its metrics.
PREFIXES = {LinearHead.name: LinearHead.prefix, BlendHead.name: BlendHead.prefix}

# A score on some test images, by source, in one draw: number of the draw, (resamples, images) of each source ->
# (resamples,).
_OfDraw = Callable[[int, Sequence[NDArray[np.int64]]], np.ndarray]


@dataclass(frozen=True)
class DrawnScore:
    """A score over all draws.

    Attributes:
        score: The mean over draws, with its interval.
        deviation: Standard deviation over draws (n - 1); None where there is one draw.
        images: Test images that it is of.
    """

    score: Score
    deviation: float | None
    images: int


def probe_scores(
    sources: Sequence[SourceAnswers], settings: Sequence[Setting], bootstrap: Bootstrap
) -> dict[str, DrawnScore]:
    """`<prefix>auc_macro@<shots>` and `<prefix>accuracy@<shots>` of some sources together.

    Args:
        sources: Their answers.
        settings: Heads and shots, in the order of the metrics.
        bootstrap: Resamples and seed.
    """
    result = {}
    for name, k in settings:
        answers = [found for source in sources if (found := source.answers.get((name, k)))]
        for metric, scored in ((AUC, _auc(answers, bootstrap)), (ACCURACY, _accuracy(answers, bootstrap))):
            if scored is not None:
                result[f"{PREFIXES[name]}{metric}@{k}"] = scored
    return result


def _auc(sources: Sequence[Sequence[Answers]], bootstrap: Bootstrap) -> DrawnScore | None:
    """Mean over the findings of all sources."""
    told = [answers for answers in sources if any(one.scores for one in answers)]
    if not told:
        return None
    findings = [
        (number, (one.problem.truth == finding).astype(np.int8), scores)
        for number, answers in enumerate(told)
        for one in answers
        for finding, scores in one.scores.items()
    ]

    def of_draw(draw: int, images: Sequence[NDArray[np.int64]]) -> np.ndarray:
        return classification.macro_auc([(number, truth, scores[draw]) for number, truth, scores in findings], images)

    sizes = [len(answers[0].problem.truth) for answers in told]
    return _over_draws(sizes, of_draw, len(findings[0][2]), 0.5, bootstrap)


def _accuracy(sources: Sequence[Sequence[Answers]], bootstrap: Bootstrap) -> DrawnScore | None:
    """Mean over the images of all sources whose labels exclude one another; a source has one problem then."""
    rights = [(answers[0], right) for answers in sources if (right := answers[0].right) is not None]
    if not rights:
        return None
    guessed = [guesses(answers.problem, answers.known) for answers, _ in rights]
    chance, majority, prior = (float(np.concatenate(values).mean()) for values in zip(*guessed, strict=True))
    sizes = [len(answers.problem.truth) for answers, _ in rights]

    def of_draw(draw: int, images: Sequence[NDArray[np.int64]]) -> np.ndarray:
        sums = [
            right[draw][drawn].sum(axis=1, dtype=np.float64) for (_, right), drawn in zip(rights, images, strict=True)
        ]
        return np.asarray(np.sum(sums, axis=0) / sum(sizes))

    scored = _over_draws(sizes, of_draw, len(rights[0][1]), chance, bootstrap)
    baselines = {MAJORITY: round(majority, 6), PRIOR: round(prior, 6)}
    return replace(scored, score=replace(scored.score, baselines=baselines))


def guesses(problem: Problem, known: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How likely each guess is right, of each test image: (images,), 0 to 1.

    Args:
        problem: What is told apart.
        known: Numbers of the classes that can be answered.

    Returns:
        Chance: any of the known classes. The majority class: the most frequent one in training, of equal ones the first
        by name. The prior of the labels: a class as often as it is in training.
    """
    counts = problem.training_counts
    chance = np.isin(problem.truth, known) / len(known)
    return chance, (problem.truth == counts.argmax()).astype(float), counts[problem.truth] / counts.sum()


def _over_draws(sizes: Sequence[int], of_draw: _OfDraw, draws: int, chance: float, bootstrap: Bootstrap) -> DrawnScore:
    values = np.array([of_draw(draw, [np.arange(size)[None] for size in sizes])[0] for draw in range(draws)])

    def resampled(*drawn: NDArray[np.int64]) -> np.ndarray:
        of_draws = np.stack([of_draw(draw, drawn[: len(sizes)]) for draw in range(draws)], axis=1)
        if draws == 1:
            return np.asarray(of_draws[:, 0])
        return np.asarray(np.take_along_axis(of_draws, drawn[-1], axis=1).mean(axis=1))

    strata = [*sizes, draws] if draws > 1 else [*sizes]
    score = bootstrap_score(strata, resampled, float(values.mean()), chance, bootstrap)
    return DrawnScore(score, float(values.std(ddof=1)) if draws > 1 else None, sum(sizes))

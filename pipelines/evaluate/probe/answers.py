"""What the heads of the task `probe` answer for the test images of one source, in each draw of shots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluate.metrics.classification import roc_auc
from pipelines.evaluate.metrics.retrieval import TIE
from pipelines.evaluate.probe.draws import shots_of
from pipelines.evaluate.probe.heads import Head, Vectors
from pipelines.evaluate.probe.problems import ALL, Numbers, Problem, Shots, SourceProblems

# Head and shots.
Setting = tuple[str, Shots]
# Head -> shots -> option. They are JSON in `Result.chosen`, so shots are texts.
Options = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Answers:
    """Those of one head to one problem.

    Attributes:
        problem: What is told apart.
        known: Numbers of the classes that the head can answer.
        scores: Number of each finding that has an AUC -> (draws, test images): how much each image looks like it.
        right: (draws, test images) 1 where the answer is the image's class, a fraction where several are tied, and 0
            where the head cannot answer that class; None where accuracy says nothing.
    """

    problem: Problem
    known: tuple[int, ...]
    scores: Mapping[int, NDArray[np.float32]]
    right: NDArray[np.float32] | None


@dataclass(frozen=True)
class SourceAnswers:
    """Those of all heads to the problems of one source.

    Attributes:
        of: The source and its problems.
        answers: By head and shots, without those that can tell nothing.
        chosen: Head -> shots -> the option that was chosen on validation.
        unchosen: Heads and shots that answered with the head's default, for validation could choose none.
    """

    of: SourceProblems
    answers: Mapping[Setting, Sequence[Answers]]
    chosen: Options
    unchosen: Sequence[Setting]


def source_answers(
    source: SourceProblems,
    heads: Sequence[Head],
    shots: Sequence[Shots],
    orders: Numbers,
    given: Options | None,
) -> SourceAnswers:
    """Fit and ask each head with each number of shots.

    Args:
        source: What is told apart.
        heads: Over its features.
        shots: Of each class.
        orders: (draws, training images of the source) of `draw_orders`.
        given: The options that were chosen on validation. None: this is validation, and each head and number of shots
            has that of the head's candidates with the highest mean AUC over draws and findings; of equal ones that
            with the highest accuracy, and then the first.
    """
    answers: dict[Setting, Sequence[Answers]] = {}
    chosen: dict[str, dict[str, float]] = {}
    unchosen = []
    for head in heads:
        for k in shots:
            found: Sequence[Answers] = ()
            if given is None:
                option, found = _best(source.problems, head, k, orders)
            else:
                option = given.get(head.name, {}).get(str(k))
            found = found or _ask(source.problems, head, k, orders, head.default if option is None else option)
            if not found:
                continue
            answers[head.name, k] = found
            if option is None:
                unchosen.append((head.name, k))
            else:
                chosen.setdefault(head.name, {})[str(k)] = option
    return SourceAnswers(source, answers, chosen, unchosen)


def _best(
    problems: Sequence[Problem], head: Head, shots: Shots, orders: Numbers
) -> tuple[float | None, Sequence[Answers]]:
    """The best of the head's candidates with its answers; none where no finding has an AUC."""
    best: tuple[float | None, Sequence[Answers]] = (None, ())
    highest = (0.0, 0.0)
    for option in head.candidates:
        found = _ask(problems, head, shots, orders, option)
        aucs = [auc for answers in found for number in answers.scores for auc in draw_aucs(answers, number)]
        if not aucs:
            break
        # Rounded, so that sums of floats decide nothing.
        right = [float(answers.right.mean()) for answers in found if answers.right is not None]
        value = (round(float(np.mean(aucs)), 6), round(float(np.mean(right or [0.0])), 6))
        if best[0] is None or value > highest:
            best, highest = (option, found), value
    return best


def draw_aucs(answers: Answers, number: int) -> list[float]:
    """The AUC of one finding in each draw."""
    truth = (answers.problem.truth == number).astype(np.int8)
    everything = np.arange(len(truth))[None]
    return [float(roc_auc(truth, of_draw, everything)[0]) for of_draw in answers.scores[number]]


def _ask(problems: Sequence[Problem], head: Head, shots: Shots, orders: Numbers, option: float) -> list[Answers]:
    # All images are the same shots in every draw.
    draws = orders[:1] if shots == ALL else orders
    result = []
    for problem in problems:
        known, skipped = problem.known(shots), problem.skipped(shots)
        told = [number for number in problem.findings if number not in skipped]
        named = problem.exclusive and np.isin(problem.truth, known).any()
        if len(known) < 2 or not (told or named):
            continue
        shape = (len(draws), len(problem.truth))
        scores = {number: np.empty(shape, dtype=np.float32) for number in told}
        right = np.empty(shape, dtype=np.float32) if named else None
        for draw, order in enumerate(draws):
            found = head.scores(problem, shots_of(problem.training, order, known, shots), known, option)
            for number in told:
                scores[number][draw] = found[:, known.index(number)]
            if right is not None:
                right[draw] = rightness(found, known, problem.truth)
        result.append(Answers(problem, tuple(known), scores, right))
    return result


def rightness(scores: Vectors, known: Sequence[int], truth: Numbers) -> Vectors:
    """(images,) how far the class with the highest score is the image's own: of n tied classes each counts 1 / n.

    Args:
        scores: (images, known classes).
        known: Numbers of the classes.
        truth: (images,) number of each image's class, which may be none of the known.
    """
    highest = scores >= scores.max(axis=1, keepdims=True) - TIE
    own = truth[:, None] == np.array(known)
    return np.asarray((highest & own).sum(axis=1) / highest.sum(axis=1))

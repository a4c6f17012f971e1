"""The heads of the task `probe` over the frozen features of one source: a linear one, and prototypes with texts."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from pipelines.evaluate.metrics.retrieval import TIE
from pipelines.evaluate.probe.problems import Numbers, Problem
from pipelines.evaluate.zero_shot.prompts import ClassPrompts, Embed, class_directions, mean_directions

Vectors = NDArray[np.floating]

# Steps of L-BFGS at most; a head that needs more is counted.
_STEPS = 1000
# Scores are rounded: those of equal features may differ in the last digits, and are ties.
_DIGITS = 6


class LinearHead:
    """Multinomial logistic regression with an L2 penalty on the weights (scikit-learn's, by L-BFGS).

    A class's score is its log odds against the others. Features are centred on the mean of the source's training images
    and divided by one number, their root mean square distance from it: directions stay as the method has them, and one
    list of penalties serves all methods. Features that are all equal stay so.

    Args:
        training: (training images, dimensions), of length 1.
        tested: (test images, dimensions), of length 1.

    Attributes:
        fitted: Heads so far.
        unfinished: Those of them that had not converged after the last step.
    """

    name: ClassVar[str] = "linear"
    prefix: ClassVar[str] = ""
    # scikit-learn's C: beside the sum of the losses stands the squared length of the weights over 2 C.
    candidates: ClassVar[tuple[float, ...]] = (0.1, 1.0, 10.0, 100.0)
    default: ClassVar[float] = 1.0

    def __init__(self, training: Vectors, tested: Vectors) -> None:
        # L-BFGS's line search needs float64.
        self._training, self._tested = training.astype(np.float64), tested.astype(np.float64)
        mean = self._training.mean(axis=0)
        self._training -= mean
        self._tested -= mean
        spread = float(np.sqrt(np.einsum("ij,ij->", self._training, self._training) / len(training)))
        if spread > TIE:
            self._training /= spread
            self._tested /= spread
        self.fitted = self.unfinished = 0

    def scores(self, problem: Problem, shots: Numbers, known: Sequence[int], option: float) -> Vectors:
        """(test images, known classes): how much each image looks like each class.

        Args:
            problem: What is told apart.
            shots: The training images that the head learns from, as indices that ascend; some of each known class.
            known: Numbers of the classes, which ascend; two at least.
            option: One of `candidates`.
        """
        head = LogisticRegression(C=option, max_iter=_STEPS)
        features = self._training if len(shots) == len(self._training) else self._training[shots]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            head.fit(features, problem.training[shots])
        self.fitted += 1
        self.unfinished += any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
        logits = head.decision_function(self._tested)
        if len(known) == 2:
            return np.round(np.stack([-logits, logits], axis=1), _DIGITS)
        others = [logsumexp(np.delete(logits, column, axis=1), axis=1) for column in range(len(known))]
        return np.round(logits - np.stack(others, axis=1), _DIGITS)


@dataclass(frozen=True)
class BlendHead:
    """The cosine with each class's prototype, which is blended with the embedding of the class's prompts.

    The prototype of a class is the mean embedding of its shots (Snell et al. 2017, arXiv:1703.05175), made of length 1;
    with the weight w it becomes (1 - w) prototype + w text, of length 1 again. A class's score is its cosine less the
    mean of the other classes': of a finding and its absence, w = 1 scores as the task `zero_shot` does, and w = 0 is
    the nearest prototype.

    Attributes:
        training: (training images, dimensions), of length 1.
        tested: (test images, dimensions), of length 1.
        texts_of: Problem -> (classes, dimensions), of length 1: the embedding of each class's prompts.
    """

    training: Vectors
    tested: Vectors
    texts_of: Callable[[Problem], Vectors]
    name: ClassVar[str] = "blend"
    prefix: ClassVar[str] = "blend/"
    # w.
    candidates: ClassVar[tuple[float, ...]] = (0.0, 0.25, 0.5, 0.75, 1.0)
    default: ClassVar[float] = 0.5

    def scores(self, problem: Problem, shots: Numbers, known: Sequence[int], option: float) -> Vectors:
        """As of `LinearHead`."""
        of_shots = problem.training[shots]
        means = [self.training[shots[of_shots == number]].mean(axis=0, dtype=np.float64) for number in known]
        blended = unit((1 - option) * unit(np.stack(means)) + option * self.texts_of(problem)[list(known)])
        cosines = self.tested @ blended.T
        others = cosines.sum(axis=1, keepdims=True) - cosines
        return np.round(cosines - others / (len(known) - 1), _DIGITS)


Head = LinearHead | BlendHead


def unit(vectors: Vectors) -> Vectors:
    """Rows of length 1; one that has no direction stays 0, and scores every image alike."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def class_texts(embed: Embed, problem: Problem, prompts: ClassPrompts) -> Vectors:
    """(classes, dimensions), of length 1: what the prompts say of each class of a problem, as in the task `zero_shot`.

    Args:
        embed: Texts -> (texts, dimensions), of length 1.
        problem: What is told apart; of two classes at least.
        prompts: Of the classes; those for the absence of a finding stand for the images without it.
    """
    if problem.exclusive:
        return class_directions(embed, problem.classes, prompts)
    (finding,) = (problem.classes[number] for number in problem.findings)
    return mean_directions(embed, [prompts.negatives_for(finding), prompts.prompts_for(finding)])

"""The joint score: the probability that a candidate's IoU with the truth is at least 0.5, given all its features.

Gradient-boosted trees over the features (scikit-learn's HistGradientBoostingClassifier), calibrated by Platt scaling
(Platt, "Probabilistic outputs for support vector machines", 1999) of out-of-fold scores: those that each group's images
got from trees fitted without that group. CalibratedClassifierCV(ensemble=False) does the same; it is written out here
because the out-of-fold probabilities are needed too. They measure how good the score is, and they order the thresholds
of risk control.

A model lives in memory for one run of the stage and is never written to disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from pipelines.regions.candidates import Candidates
from pipelines.regions.features import features

POOLED = "pooled"
_FOLDS = 5
# Candidates whose features are in memory at a time, beside those that a model is fitted on.
_BLOCK = 2_048

Reals = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ScoreModel:
    """A fitted model of the joint score.

    Attributes:
        trees: Features -> log odds.
        platt: Log odds -> calibrated probability.
        indices: Indices of the candidates it was fitted on.
        out_of_fold: Probability of each of them, by trees that never saw its group.
    """

    trees: HistGradientBoostingClassifier
    platt: LogisticRegression
    indices: Indices
    out_of_fold: Reals

    def predict(self, values: Reals) -> Reals:
        """Probabilities, shape (candidates,), from features, shape (candidates, features)."""
        return _calibrated(self.platt, self.trees.decision_function(values))


@dataclass(frozen=True, kw_only=True)
class JointScores:
    """The joint score of all candidates.

    Attributes:
        probability: Of each candidate; out of fold for those that a model was fitted on; NaN where no model could be
            fitted.
        models: By modality; `pooled` serves the modalities with too few labelled images. Empty where there are too few
            labels for any model.
    """

    probability: Reals
    models: dict[str, ScoreModel]


class JointScorer:
    """Fits the joint score on candidates and applies it to all of them.

    Args:
        candidates: Sorted by image and number: sums of floats depend on the order.
        min_labelled: Images with a label from which a modality gets a model of its own; pseudo-labels do not count.
    """

    def __init__(self, candidates: Candidates, min_labelled: int) -> None:
        self.candidates = candidates
        self.min_labelled = min_labelled
        self.modality = candidates.images.modality.codes[candidates.image]

    def fit(self, targets: Reals, pseudo: NDArray[np.bool_]) -> JointScores:
        """Fit the score and apply it.

        Args:
            targets: 1 where a candidate is correct, 0 where it is wrong, NaN where that is unknown or must not be
                fitted on; shape (candidates,).
            pseudo: Which targets are pseudo-labels; the trees learn from them, the Platt scaling does not.
        """
        known = ~np.isnan(targets)
        probability = np.full(len(known), np.nan)
        models: dict[str, ScoreModel] = {}
        remaining = np.ones(len(known), dtype=bool)
        # A fixed number of threads, because sums of floats depend on it.
        with threadpool_limits(limits=1):
            for code, modality in enumerate(self.candidates.images.modality.categories):
                members = self.modality == code
                labelled_images = np.unique(self.candidates.image[members & known & ~pseudo])
                if len(labelled_images) < self.min_labelled:
                    continue
                if model := self._fit_model(targets, pseudo, np.flatnonzero(members & known)):
                    models[modality] = model
                    for block, values in self._features(np.flatnonzero(members)):
                        probability[block] = model.predict(values)
                    remaining &= ~members
            if remaining.any() and (model := self._fit_model(targets, pseudo, np.flatnonzero(known))):
                models[POOLED] = model
                for block, values in self._features(np.flatnonzero(remaining)):
                    probability[block] = model.predict(values)
        for name, model in models.items():
            # The pooled model is fitted on all modalities, but answers only for those without a model of their own.
            served = remaining[model.indices] if name == POOLED else np.ones(len(model.indices), dtype=bool)
            probability[model.indices[served]] = model.out_of_fold[served]
        return JointScores(probability=probability, models=models)

    def _features(self, indices: Indices) -> Iterator[tuple[Indices, Reals]]:
        """Some candidates, given by ascending indices, in blocks with their features."""
        for start in range(0, len(indices), _BLOCK):
            block = indices[start : start + _BLOCK]
            # With the others of their images, for some features compare them.
            whole = self.candidates.of_images(np.unique(self.candidates.image[block]))
            values = features(self.candidates.take(whole)).to_numpy()
            yield block, values[np.searchsorted(whole, block)]

    def _fit_model(self, targets: Reals, pseudo: NDArray[np.bool_], indices: Indices) -> ScoreModel | None:
        """A model of some candidates; None where one class is labelled in fewer groups than there are folds."""
        groups, labels = self.candidates.images.group[self.candidates.image[indices]], targets[indices].astype(int)
        labelled = ~pseudo[indices]
        if min(len(np.unique(groups[labelled & (labels == label)])) for label in (0, 1)) < _FOLDS:
            return None
        values = np.concatenate([block for _, block in self._features(indices)])
        trees = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=100,
            max_leaf_nodes=8,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=0,
        )
        folds = StratifiedGroupKFold(_FOLDS)
        log_odds = cross_val_predict(trees, values, labels, groups=groups, cv=folds, method="decision_function")
        platt = LogisticRegression(C=1e6).fit(log_odds[labelled, None], labels[labelled])
        trees.fit(values, labels)
        return ScoreModel(trees=trees, platt=platt, indices=indices, out_of_fold=_calibrated(platt, log_odds))


def _calibrated(platt: LogisticRegression, log_odds: Reals) -> Reals:
    return platt.predict_proba(log_odds[:, None])[:, 1]

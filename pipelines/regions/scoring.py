"""The joint score: the probability that a candidate's IoU with the truth is at least 0.5, given all its features.

Gradient-boosted trees over the features (scikit-learn's HistGradientBoostingClassifier), calibrated by Platt scaling
(Platt, "Probabilistic outputs for support vector machines", 1999) of out-of-fold scores: those that each group's images
got from trees fitted without that group. CalibratedClassifierCV(ensemble=False) does the same; it is written out here
because the out-of-fold probabilities are needed too. They measure how good the score is, and they order the thresholds
of risk control.

A model lives in memory for one run of the stage and is never written to disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from pipelines.regions.candidates import Candidate
from pipelines.regions.features import features

POOLED = "pooled"
_FOLDS = 5

Reals = NDArray[np.float64]


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
    indices: NDArray[np.int64]
    out_of_fold: Reals

    def predict(self, values: Reals) -> Reals:
        """Probabilities, shape (candidates,), from features, shape (candidates, features)."""
        if not len(values):
            return np.zeros(0)
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

    def __init__(self, candidates: Sequence[Candidate], min_labelled: int) -> None:
        self.min_labelled = min_labelled
        self.values: Reals = features(candidates).to_numpy()
        self.image_ids = np.array([candidate.image.image_id for candidate in candidates], dtype=object)
        self.groups = np.array([candidate.image.group for candidate in candidates], dtype=object)
        self.modalities = np.array([candidate.image.modality for candidate in candidates], dtype=object)

    def fit(self, targets: Reals, pseudo: NDArray[np.bool_]) -> JointScores:
        """Fit the score and apply it.

        Args:
            targets: 1 where a candidate is correct, 0 where it is wrong, NaN where that is unknown or must not be
                fitted on; shape (candidates,).
            pseudo: Which targets are pseudo-labels; the trees learn from them, the Platt scaling does not.
        """
        known = ~np.isnan(targets)
        probability = np.full(len(self.values), np.nan)
        models: dict[str, ScoreModel] = {}
        remaining = np.ones(len(self.values), dtype=bool)
        # A fixed number of threads, because sums of floats depend on it.
        with threadpool_limits(limits=1):
            for modality in sorted(set(self.modalities)):
                members = self.modalities == modality
                labelled_images = set(self.image_ids[members & known & ~pseudo])
                if len(labelled_images) < self.min_labelled:
                    continue
                if model := self._fit_model(targets, pseudo, np.flatnonzero(members & known)):
                    models[modality] = model
                    probability[members] = model.predict(self.values[members])
                    remaining &= ~members
            if remaining.any() and (model := self._fit_model(targets, pseudo, np.flatnonzero(known))):
                models[POOLED] = model
                probability[remaining] = model.predict(self.values[remaining])
        for name, model in models.items():
            # The pooled model is fitted on all modalities, but answers only for those without a model of their own.
            served = remaining[model.indices] if name == POOLED else np.ones(len(model.indices), dtype=bool)
            probability[model.indices[served]] = model.out_of_fold[served]
        return JointScores(probability=probability, models=models)

    def _fit_model(self, targets: Reals, pseudo: NDArray[np.bool_], indices: NDArray[np.int64]) -> ScoreModel | None:
        """A model of some candidates; None where one class is labelled in fewer groups than there are folds."""
        values, groups, labels = self.values[indices], self.groups[indices], targets[indices].astype(int)
        labelled = ~pseudo[indices]
        if min(len(set(groups[labelled & (labels == label)])) for label in (0, 1)) < _FOLDS:
            return None
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

"""The joint score: the probability that a proposal's IoU with the truth is at least 0.5, from all that is known of it.

Gradient-boosted trees over the features (scikit-learn's HistGradientBoostingClassifier), calibrated by Platt scaling
(Platt, "Probabilistic outputs for support vector machines", 1999) of scores that each group's images got from trees
fitted without that group. That is what CalibratedClassifierCV(ensemble=False) does; it is written out because the
out-of-fold probabilities are needed too: they say how good the score is, and they order the thresholds of the promise.

A model lives in memory for one run of the stage and is never written to disk.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits

POOLED = "pooled"
_FOLDS = 5

Reals = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One model.

    Attributes:
        trees: Features -> log odds.
        platt: Log odds -> calibrated probability.
        rows: Places of the rows it was fitted on.
        out_of_fold: Probability of each of them, by trees that never saw its group.
    """

    trees: HistGradientBoostingClassifier
    platt: LogisticRegression
    rows: NDArray[np.int64]
    out_of_fold: Reals

    def predict(self, values: Reals) -> Reals:
        if not len(values):
            return np.zeros(0)
        return _calibrated(self.platt, self.trees.decision_function(values))


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Probabilities of all candidates.

    Attributes:
        probability: One a candidate; out of fold for those that were fitted on; NaN where no model could be fitted.
        models: By modality, `pooled` for the modalities with too few labelled images; empty where labels are too few.
    """

    probability: Reals
    models: dict[str, Fitted]


def score(
    table: pd.DataFrame, candidates: pd.DataFrame, target: Reals, pseudo: NDArray[np.bool_], min_labelled: int
) -> Scored:
    """Fit and apply the score.

    Args:
        table: Features, a row a candidate, in an order that the data alone decides: sums of floats depend on it.
        candidates: With `image_id`, `group` (images that belong together, never parted between folds) and `modality`.
        target: 1 where the candidate is right, 0 where it is wrong, NaN where nobody knows or it must not be fitted on.
        pseudo: Targets that a former round guessed; the trees learn from them, the calibration does not.
        min_labelled: Images with a target that nobody guessed, from which a modality has a model of its own.
    """
    values = table.to_numpy()
    known = ~np.isnan(target)
    modality = candidates["modality"].to_numpy()
    probability = np.full(len(candidates), np.nan)
    models: dict[str, Fitted] = {}
    rest = np.ones(len(candidates), dtype=bool)
    # A fixed thread count, for sums of floats depend on it.
    with threadpool_limits(limits=1):
        for name in sorted(set(modality)):
            here = modality == name
            rows = np.flatnonzero(here & known)
            enough = candidates["image_id"].to_numpy()[here & known & ~pseudo]
            if len(set(enough)) >= min_labelled and (model := _fit(values, candidates, target, pseudo, rows)):
                models[name] = model
                probability[here] = model.predict(values[here])
                rest &= ~here
        if rest.any() and (model := _fit(values, candidates, target, pseudo, np.flatnonzero(known))):
            models[POOLED] = model
            probability[rest] = model.predict(values[rest])
    for name, model in models.items():
        answered = rest[model.rows] if name == POOLED else np.ones(len(model.rows), dtype=bool)
        probability[model.rows[answered]] = model.out_of_fold[answered]
    return Scored(probability=probability, models=models)


def _fit(
    values: Reals, candidates: pd.DataFrame, target: Reals, pseudo: NDArray[np.bool_], rows: NDArray[np.int64]
) -> Fitted | None:
    """A model of some rows, or None where one class is known in fewer groups than there are folds."""
    groups, known, seen = candidates["group"].to_numpy()[rows], target[rows].astype(int), ~pseudo[rows]
    if min(len(set(groups[seen & (known == label)])) for label in (0, 1)) < _FOLDS:
        return None
    trees = HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=100, max_leaf_nodes=8, l2_regularization=1.0, early_stopping=False, random_state=0
    )
    folds = StratifiedGroupKFold(_FOLDS)
    log_odds = cross_val_predict(trees, values[rows], known, groups=groups, cv=folds, method="decision_function")
    platt = LogisticRegression(C=1e6).fit(log_odds[seen, None], known[seen])
    trees.fit(values[rows], known)
    return Fitted(trees=trees, platt=platt, rows=rows, out_of_fold=_calibrated(platt, log_odds))


def _calibrated(platt: LogisticRegression, log_odds: Reals) -> Reals:
    return platt.predict_proba(log_odds[:, None])[:, 1]

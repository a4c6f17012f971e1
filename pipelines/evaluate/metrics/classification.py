"""Area under the receiver operating characteristic."""

import numpy as np
import scipy.stats


def roc_auc(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """ROC AUC of each row: (R - P (P + 1) / 2) / (P N), R being the sum of the positives' ranks.

    The rank sum is the Mann-Whitney U statistic (Hanley and McNeil 1982, "The meaning and use of the area under a
    receiver operating characteristic (ROC) curve"); tied scores share their mean rank. scikit-learn's `roc_auc_score`
    gives the same and takes 1.7 ms a call, too slow for resampling.

    Args:
        truth: (resamples, images) 0 or 1; P of them are 1 and N are 0.
        scores: (resamples, images).

    Returns:
        (resamples,); NaN where a row holds one class only.
    """
    positives = truth.sum(axis=1)
    pairs = positives * (truth.shape[1] - positives)
    rank_sum = (scipy.stats.rankdata(scores, axis=1) * truth).sum(axis=1)
    wins = rank_sum - positives * (positives + 1) / 2
    return np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan)

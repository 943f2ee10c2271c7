"""Probabilities of a hospital brought nearer to even shares of the classes, without a label."""

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax

EVEN = 0.3  # of the way from the hospital's mean probabilities to even ones
SMALLEST = 1e-6  # a probability of 0 would stay 0, whatever is added to its logarithm


def shift_to_even(probabilities: pd.DataFrame, share: float = EVEN) -> pd.DataFrame:
    """Add to the logarithms what brings the mean probabilities nearer to even ones.

    Parameters
    ----------
    probabilities : pandas.DataFrame, shape (n_images, n_classes)
        Of the images of one hospital; each row sums to 1.
    share : float
        How much of the way: 0 changes nothing, 1 makes every class as probable on average.

    Returns
    -------
    pandas.DataFrame
        As `probabilities`; their means are ``share / n_classes + (1 - share)`` times the old ones.

    Notes
    -----
    Where a hospital's stain makes one class look like another, all of its images move the same
    way: the order within the hospital is kept, the level is wrong. One number a class, added to
    the logarithms, is what another prior does to probabilities [1]_. Here the prior is not known;
    it is drawn a little towards even. Where a hospital's true shares are far from even, this is
    worse than nothing.

    The numbers are where a convex function has its minimum, whose gradient is the mean
    probabilities minus those that are wanted.

    References
    ----------
    .. [1] M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to
       new a priori probabilities: a simple procedure", Neural Comput. 14 (2002), 21-41.
    """
    if probabilities.empty:
        return probabilities
    values = np.clip(probabilities.to_numpy(np.float64), SMALLEST, None)
    logits = np.log(values / values.sum(axis=1, keepdims=True))
    wanted = share / logits.shape[1] + (1 - share) * softmax(logits, axis=1).mean(axis=0)

    def miss(shift: np.ndarray) -> tuple[float, np.ndarray]:
        moved = logits + shift
        slope = softmax(moved, axis=1).mean(axis=0) - wanted
        return float(logsumexp(moved, axis=1).mean() - wanted @ shift), slope

    found = minimize(miss, np.zeros(logits.shape[1]), jac=True, method="BFGS")
    moved = softmax(logits + found.x, axis=1)
    return pd.DataFrame(moved, probabilities.index, probabilities.columns)

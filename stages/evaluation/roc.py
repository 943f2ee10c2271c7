"""The area under the ROC curve, for many weightings of the same images at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.evaluation.bootstrap import HALF, MIN_GROUPS, Array, Draws, count_by_group, expand

Flags = npt.NDArray[np.bool_]


def weighted_auc(scores: Array, positive: Flags, weights: Array) -> Array:
    """Compute the area under the ROC curve.

    Parameters
    ----------
    scores : numpy.ndarray, shape (n_images,)
        Ties count half.
    positive : numpy.ndarray of bool, shape (n_images,)
        Whether the image is of the class.
    weights : numpy.ndarray, shape (n_draws, n_images)
        Weight of each image in each draw.

    Returns
    -------
    numpy.ndarray, shape (n_draws,)
        Share of pairs of a positive and a negative in which the positive has the higher score;
        NaN where a draw has no such pair.
    """
    above, below = count_by_score(scores, positive, weights)
    pairs = above.sum(axis=1) * below.sum(axis=1)
    areas: Array = np.divide(
        _count_wins(above, below), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0
    )
    return areas


def describe_auc(
    scores: Array, positive: Flags, groups: Sequence[str] | pd.Series, n_draws: int, seed: int
) -> dict[str, Any]:
    """Describe the area under the ROC curve with an interval that knows which images go together.

    Parameters
    ----------
    scores, positive
        As `weighted_auc` takes them.
    groups : sequence of str, shape (n_images,)
        The group of each image, in any order.
    n_draws, seed : int
        For the interval.

    Returns
    -------
    dict
        ``value``, ``low``, ``high``, ``n_positive`` and ``n_negative``. Without an image on one
        side the first three are None; below `bootstrap.MIN_GROUPS` groups on one side the two ends
        are, or where all images have one score, and ``interval_reason`` tells why.

    Notes
    -----
    Half an image is imagined on each side that ties with all others, so that three positives above
    all the rest do not promise an area of 1.
    """
    positive = np.asarray(positive, bool)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    block: dict[str, Any] = {"value": None, "low": None, "high": None}
    block |= {"n_positive": n_positive, "n_negative": n_negative}
    if not n_positive or not n_negative:
        return block
    block["value"] = float(weighted_auc(scores, positive, np.ones((1, len(scores))))[0])
    names = np.asarray(groups, object)
    sides = [
        count_by_group(np.zeros(one.sum(), int), names[one], 1) for one in (positive, ~positive)
    ]
    n_groups = min(one.n_groups for one in sides)
    if n_groups < MIN_GROUPS:
        reason = f"too few groups on one side: {n_groups}; {MIN_GROUPS} are needed"
        return block | {"interval_reason": reason}
    if np.ptp(scores) == 0:
        return block | {"interval_reason": "all images have the same score"}
    weights = draw_weights(pd.factorize(names)[0], n_draws, seed)
    above, below = count_by_score(scores, positive, weights)
    n_above, n_below = above.sum(axis=1), below.sum(axis=1)
    wins = _count_wins(above, below) + HALF * (n_above + n_below + HALF) / 2
    areas = wins / ((n_above + HALF) * (n_below + HALF))
    effective = min(one.n_effective for one in sides)
    block["low"], block["high"] = expand([Draws(areas, effective)], block["value"])
    return block


def draw_weights(groups: npt.NDArray[np.int64], n_draws: int, seed: int) -> Array:
    """Return how often each draw of groups has each image, shape (n_draws, n_images)."""
    places = np.unique(groups, return_inverse=True)[1]
    n_groups = int(places.max(initial=0)) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=n_draws)
    weights: Array = drawn[:, places].astype(np.float64)
    return weights


def count_by_score(scores: Array, positive: Flags, weights: Array) -> tuple[Array, Array]:
    """Weigh the class and the rest by score, lowest first; each of shape (n_draws, n_scores)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    drawn = weights[:, order]
    own = np.add.reduceat(drawn * positive[order], starts, axis=1)
    return own, np.add.reduceat(drawn, starts, axis=1) - own


def _count_wins(above: Array, below: Array) -> Array:
    """Count the pairs in which the positive has the higher score, by draw."""
    wins: Array = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
    return wins

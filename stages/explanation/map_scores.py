"""How good a map is: on the cell, decisive, stable, and not the same for a network that forgot."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
from scipy import stats

from stages.evaluation.bootstrap import MIN_GROUPS, too_few
from stages.explanation import maps
from stages.explanation.maps import Map, Mask, Pixels
from stages.models.trained import SingleModel

N_STEPS = 8  # of the curves: each hides, or shows, an eighth more of the picture
COARSE = 16  # side at which two maps are compared: finer than any method tells places apart
NOT_COMPARED = "there is no network, or one that forgot everything shows nothing"
USELESS = 0.5  # rank correlation with the map of a network that forgot; from here on no evidence


def score_places(found: Map, cell: Mask, nucleus: Mask) -> dict[str, float | None]:
    """Tell how much of a map lies on the cell.

    Parameters
    ----------
    found : numpy.ndarray of float64, shape (size, size)
        Not below 0, with a sum of 1; or all 0, where nothing can be told.
    cell, nucleus : numpy.ndarray of bool, shape (size, size)

    Returns
    -------
    dict
        ``in_cell``, ``in_nucleus`` (shares of the relevance), ``cell_area`` (share of the picture:
        what a map without an opinion has in the cell), ``points_at_cell`` (1 where the largest
        value lies there, else 0: the pointing game [1]_), ``rank`` (of as many pixels as the cell
        has, the most relevant ones, the share that lies in it [2]_). None where there is no cell
        or no evidence.

    References
    ----------
    .. [1] J. Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016.
    .. [2] L. Arras, A. Osman, W. Samek, "CLEVR-XAI: A benchmark dataset for the ground truth
       evaluation of neural network explanations", Information Fusion 81 (2022).
    """
    names = ("in_cell", "in_nucleus", "points_at_cell", "rank", "cell_area")
    if not cell.any() or not found.any():
        return dict.fromkeys(names)
    n = int(cell.sum())
    most = np.argsort(-found, axis=None, kind="stable")[:n]
    return {
        "in_cell": float(found[cell].sum()),
        "in_nucleus": float(found[nucleus].sum()),
        "points_at_cell": float(cell.flat[int(found.argmax())]),
        "rank": float(cell.ravel()[most].mean()),
        "cell_area": n / cell.size,
    }


def score_curves(
    part: SingleModel, x: Pixels, column: int, found: Map, rng: np.random.Generator
) -> dict[str, float | None]:
    """Hide the most relevant pixels first, or show them first, beside pixels in random blocks.

    Parameters
    ----------
    part : SingleModel
    x : numpy.ndarray of uint8, shape (size, size, 3)
    column : int
        Place of the class.
    found : numpy.ndarray of float64, shape (size, size)
    rng : numpy.random.Generator
        For the order that is compared with.

    Returns
    -------
    dict
        ``deletion``: by how much the mean probability of the class lies lower than in random
        order, while pixels are hidden (above 0: the map knows what the class needs);
        ``insertion``: by how much it lies higher while they are shown. None without evidence.

    References
    ----------
    .. [1] V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of
       Black-box Models", BMVC 2018.
    """
    if not found.any():
        return {"deletion": None, "insertion": None}
    blocks = rng.random((COARSE, COARSE))
    chance = cv2.resize(blocks, found.shape[::-1], interpolation=cv2.INTER_NEAREST)
    ground = maps.find_ground(x)
    pictures = []
    for order in (found, chance):
        # Ties, such as all that has no evidence, fall in random order too.
        ranks = np.lexsort((chance.ravel(), -order.ravel())).argsort().reshape(found.shape)
        for step in range(1, N_STEPS):
            first = (ranks < step * found.size / N_STEPS)[..., None]
            pictures += [np.where(first, ground, x), np.where(first, x, ground)]
    p = maps.ask(part, np.stack(pictures).astype(np.uint8))[:, column].reshape(2, -1, 2)
    (deleted, inserted), (by_chance, shown_by_chance) = p.mean(axis=1)
    return {
        "deletion": float(by_chance - deleted),
        "insertion": float(inserted - shown_by_chance),
    }


def compare(first: Map, second: Map) -> float | None:
    """Return the rank correlation of two maps, -1..1; None where one of them says nothing."""
    small = [
        cv2.resize(one, (COARSE, COARSE), interpolation=cv2.INTER_AREA).ravel()
        for one in (first, second)
    ]
    if any(np.ptp(one) == 0 for one in small):
        return None
    return float(stats.spearmanr(*small).statistic)


def mean_by_group(values: pd.Series, groups: pd.Series) -> dict[str, Any]:
    """Return the mean of the groups' means, with its interval by Student's t over groups.

    All scores lie in -1..1, and so does the interval.

    Parameters
    ----------
    values : pandas.Series of float, shape (n_maps,)
        Missing ones do not count.
    groups : pandas.Series of str, shape (n_maps,)

    Returns
    -------
    dict
        ``value``, ``low``, ``high``, ``n`` maps, ``n_groups``; the ends are None below
        `bootstrap.MIN_GROUPS` groups, beside ``interval_reason``.
    """
    known = values.astype(np.float64).dropna()
    means = known.groupby(groups.loc[known.index]).mean()
    block: dict[str, Any] = {
        "value": None,
        "low": None,
        "high": None,
        "n": len(known),
        "n_groups": len(means),
    }
    if not len(means):
        return block
    block["value"] = float(means.mean())
    if len(means) < MIN_GROUPS:
        return block | {"interval_reason": too_few(len(means))}
    half = stats.t.ppf(0.975, len(means) - 1) * means.std() / np.sqrt(len(means))
    low, high = np.clip([means.mean() - half, means.mean() + half], -1, 1).tolist()
    return block | {"low": low, "high": high}


def average(scores: pd.DataFrame) -> dict[str, Any]:
    """Return a block of `mean_by_group` for each score."""
    names = [name for name in scores if name not in ("group", "hospital", "method")]
    return {str(name): mean_by_group(scores[name], scores["group"]) for name in names}


def summarise(scores: pd.DataFrame, methods: Sequence[str]) -> dict[str, Any]:
    """Gather the scores of single maps.

    Parameters
    ----------
    scores : pandas.DataFrame, shape (n_maps, n_columns)
        ``hospital``, ``group``, ``method`` and the scores of a map.
    methods : sequence of str

    Returns
    -------
    dict
        By method ``all`` and ``by_hospital``, each as `average` gives it, and ``useless``: whether
        maps of a network that forgot everything are much the same; None, beside
        ``useless_reason``, where it has none.
    """
    found: dict[str, Any] = {}
    for method in methods:
        own = scores[scores["method"] == method]
        whole = average(own)
        forgot = whole["forgotten"]["value"]
        found[method] = {
            "all": whole,
            "by_hospital": {str(name): average(rows) for name, rows in own.groupby("hospital")},
            "useless": None if forgot is None else forgot >= USELESS,
        }
        if forgot is None:
            found[method]["useless_reason"] = NOT_COMPARED
    return found


def judge(
    explain: Callable[..., Map],
    part: SingleModel,
    forgot: SingleModel | None,
    x: Pixels,
    found: Map,
    column: int,
    masks: Sequence[Mask],
    seed: int,
    with_checks: bool = True,
) -> dict[str, float | None]:
    """Return all scores of the map of one picture's call.

    Parameters
    ----------
    explain : callable
        Gives maps of shape (1, size, size) anew, of a model ``part`` and pixels ``x``.
    part, forgot : SingleModel
        The model, and one that forgot everything; None where it has no network.
    x : numpy.ndarray of uint8, shape (size, size, 3)
    found : numpy.ndarray of float64, shape (size, size)
    column : int
        Place of the call among the model's classes.
    masks : sequence of numpy.ndarray of bool, each of shape (size, size)
        Cell and nucleus.
    seed : int
    with_checks : bool
        Whether to make the last two scores, which take as long as two maps more.

    Returns
    -------
    dict
        Those of `score_places` and `score_curves`; ``mirrored``, the rank correlation with the map
        of the mirrored picture, mirrored back; ``forgotten``, that with the map of `forgot`.
    """
    scores = score_places(found, masks[0], masks[1])
    scores |= score_curves(part, x, column, found, np.random.default_rng(seed))
    if not with_checks:
        return scores | {"mirrored": None, "forgotten": None}
    mirrored = explain(part=part, x=np.ascontiguousarray(x[:, ::-1]))[0][:, ::-1]
    return scores | {
        "mirrored": compare(found, np.ascontiguousarray(mirrored)),
        "forgotten": None if forgot is None else compare(found, explain(part=forgot, x=x)[0]),
    }

"""How far classes and hospitals are mixed among pictures: whose neighbours are of their own."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from stages.core.settings import seed_for
from stages.evaluation import bootstrap
from stages.evaluation.bootstrap import HALF, MIN_GROUPS, Draws

K = 10  # neighbours of a picture
N_DRAWS = 2000
BLOCK = 256  # pictures whose distances are in memory at once
ASKED = {"class": "label", "hospital": "hospital"}
TOO_FEW = f"no picture has {K} others beside its own patient, slide and near twins"


def measure(x: npt.NDArray[Any], images: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Measure how many of a picture's nearest neighbours share its class, and its hospital.

    Parameters
    ----------
    x : numpy.ndarray, shape (n_images, n_columns)
        Where each picture lies.
    images : pandas.DataFrame, shape (n_images, n_columns)
        In the same order: ``hospital``, ``label``, ``group`` and ``twin_group``.
    seed : int
        For the intervals.

    Returns
    -------
    dict
        ``all`` and ``by_hospital``, each with ``class`` and ``hospital``: ``value``, the mean
        share of the ten nearest neighbours that are of the same class, or hospital, 0..1, with
        ``low`` and ``high``; ``chance``, what the share would be if neighbours were drawn;
        ``n`` pictures and ``n_groups``. What cannot be told is None, beside its reason.

    Notes
    -----
    A picture's own group (patient, slide) and near twins are no neighbours of it: they would be
    alike whatever the map shows. Chance differs between pictures, by what is left.

    The interval redraws the groups of the pictures, `bootstrap.expand`; who is whose neighbour is
    not drawn anew.
    """
    codes = {name: pd.factorize(images[column])[0] for name, column in ASKED.items()}
    apart = [pd.factorize(images[name])[0] for name in ("group", "twin_group")]
    known = np.zeros(len(images), np.bool_)
    same = {name: np.zeros(len(images), np.int64) for name in ASKED}
    chance = {name: np.zeros(len(images)) for name in ASKED}
    for rows, nearest, can_be in _find_neighbours(x, apart):
        known[rows] = can_be.sum(axis=1) >= K
        for name, own in codes.items():
            is_same = own[rows, None] == own[None, :]
            same[name][rows] = np.take_along_axis(is_same, nearest, axis=1).sum(axis=1)
            n_others = np.maximum(can_be.sum(axis=1), 1)
            chance[name][rows] = (is_same & can_be).sum(axis=1) / n_others
    table = images[["hospital", "group"]].reset_index(drop=True)
    for name in ASKED:
        table = table.assign(**{f"{name}_same": same[name], f"{name}_chance": chance[name]})
    table = table[known]
    return {
        "all": _describe(table, seed_for(seed, "mixing")),
        "by_hospital": {
            str(name): _describe(table[table["hospital"] == name], seed_for(seed, "mixing", name))
            for name in sorted(images["hospital"].unique())
        },
    }


def _find_neighbours(
    x: npt.NDArray[Any], apart: list[npt.NDArray[Any]]
) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.bool_]]]:
    """Yield rows, the places of their nearest others, and which others could be; block by block.

    Of equally near ones the first come. Where fewer than `K` could be, the rest is arbitrary.
    """
    points = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    squares = (points**2).sum(axis=1)
    n_nearest = min(K, len(points))
    for start in range(0, len(points), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(points)))
        with threadpool_limits(1):  # several would move the last bits, and so break ties anew
            distances = squares[rows, None] + squares[None, :] - 2 * points[rows] @ points.T
        can_be = np.all([own[rows, None] != own[None, :] for own in apart], axis=0)
        distances[~can_be] = np.inf
        yield rows, np.argsort(distances, axis=1, kind="stable")[:, :n_nearest], can_be


def _describe(table: pd.DataFrame, seed: int) -> dict[str, Any]:
    return {
        name: _describe_share(table[f"{name}_same"], table[f"{name}_chance"], table["group"], seed)
        for name in ASKED
    }


def _describe_share(
    same: pd.Series, chance: pd.Series, groups: pd.Series, seed: int
) -> dict[str, Any]:
    block: dict[str, Any] = {"value": None, "low": None, "high": None, "chance": None}
    block |= {"n": len(same), "n_groups": groups.nunique()}
    if same.empty:
        return block | {"reason": TOO_FEW}
    block |= {"value": float(same.mean() / K), "chance": float(chance.mean())}
    if block["n_groups"] < MIN_GROUPS:
        return block | {"interval_reason": bootstrap.too_few(block["n_groups"])}
    # A picture is one observation, however many of its neighbours are alike.
    grouped = bootstrap.count_by_group(same.to_numpy(np.int64), groups, K + 1)
    imagined = np.zeros(K + 1)
    imagined[[0, K]] = HALF
    drawn = bootstrap.redraw(grouped, N_DRAWS, seed, imagined)
    shares = drawn @ (np.arange(K + 1) / K) / drawn.sum(axis=1)
    draws = Draws(shares, grouped.n_effective)
    block["low"], block["high"] = bootstrap.expand([draws], block["value"])
    return block

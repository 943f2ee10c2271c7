"""Intervals by redrawing whole groups: pictures of one patient do not vary independently."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

Array: TypeAlias = npt.NDArray[np.float64]

LEVEL = 0.95
METHOD = (
    f"{LEVEL:.0%} bootstrap over groups, percentile method; "
    "a class that a draw lacks counts with its observed score"
)
MAX_BLOCK = 4_000_000  # numbers drawn at once: 32 MB, however many groups there are


@dataclass(frozen=True)
class GroupedCounts:
    """How often each cell of a table was hit, group by group; equal groups are kept once.

    Attributes
    ----------
    kinds : numpy.ndarray of float64, shape (n_kinds, n_cells)
        Counts of one group of each kind.
    times : numpy.ndarray of int64, shape (n_kinds,)
        How many groups are of the kind.

    Notes
    -----
    Groups with equal counts are exchangeable, so drawing kinds with their frequencies is the same
    experiment as drawing groups. Where every picture is a group of its own there are at most
    n_cells kinds, so that a million pictures cost no more than a hundred.
    """

    kinds: Array
    times: npt.NDArray[np.int64]

    @property
    def n_groups(self) -> int:
        """Number of groups."""
        return int(self.times.sum())

    @property
    def total(self) -> Array:
        """Counts of all groups together, shape (n_cells,)."""
        summed: Array = self.times.astype(np.float64) @ self.kinds
        return summed


def count_by_group(
    cells: npt.NDArray[np.int64], groups: Sequence[str] | pd.Series, n_cells: int
) -> GroupedCounts:
    """Count the pictures by cell within each group.

    Parameters
    ----------
    cells : numpy.ndarray of int64, shape (n_images,)
        The cell that each picture hits, 0 to ``n_cells - 1``; for a confusion matrix
        ``truth * n_classes + predicted``.
    groups : sequence of str, shape (n_images,)
        The group of each picture, in any order.
    n_cells : int
        Number of cells.

    Returns
    -------
    GroupedCounts
        The same for any order of the pictures and any names of the groups.
    """
    place, _ = pd.factorize(np.asarray(groups, dtype=object))
    is_alone = np.bincount(place)[place] == 1
    # A lone picture is its cell: no row of n_cells numbers is made for each of a million.
    alone = np.bincount(cells[is_alone], minlength=n_cells)
    shared, names = pd.factorize(place[~is_alone])
    flat = np.bincount(shared * n_cells + cells[~is_alone], minlength=len(names) * n_cells)
    kinds, times = np.unique(flat.reshape(len(names), n_cells), axis=0, return_counts=True)
    return GroupedCounts(
        np.concatenate([np.eye(n_cells)[alone > 0], kinds.astype(np.float64)]),
        np.concatenate([alone[alone > 0], times]).astype(np.int64),
    )


def redraw(grouped: GroupedCounts, n_draws: int, seed: int) -> Array:
    """Draw as many groups as there are, with replacement, again and again.

    Parameters
    ----------
    grouped : GroupedCounts
        At least one group.
    n_draws : int
        How often.
    seed : int
        The same seed gives the same draws.

    Returns
    -------
    numpy.ndarray of float64, shape (n_draws, n_cells)
        Counts of each draw. Whole numbers, so that no sum depends on its order.

    Notes
    -----
    Pictures of one patient share smear, stain and camera: drawing pictures would give an interval
    that is too narrow [1]_. With few groups (below about 20) that of groups is too narrow as
    well; so the number of groups belongs beside every interval.

    References
    ----------
    .. [1] C. A. Field and A. H. Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69
       (2007), 369-390.
    """
    rng = np.random.default_rng(seed)
    shares = grouped.times / grouped.n_groups
    block = max(1, MAX_BLOCK // len(shares))
    pieces = [
        rng.multinomial(grouped.n_groups, shares, size=min(block, n_draws - start)) @ grouped.kinds
        for start in range(0, n_draws, block)
    ]
    drawn: Array = np.concatenate(pieces)
    return drawn


def bounds(draws: Array) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of redrawn scores (percentile method)."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)

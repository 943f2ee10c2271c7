"""Intervals by redrawing whole groups: pictures of one patient do not vary independently."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr, stdtrit

Array: TypeAlias = npt.NDArray[np.float64]

LEVEL = 0.95
MIN_GROUPS = 6  # below, no method tried covers the truth as often as it says (bench_coverage)
METHOD = (  # of `bounds`
    f"{LEVEL:.0%} bootstrap over groups, percentile method; "
    "a class that a draw lacks counts with its observed score"
)
EXPANDED = (  # of `expand`
    f"{LEVEL:.0%} bootstrap over groups, expanded percentile method, with half pictures imagined "
    f"beside those seen; none below {MIN_GROUPS} groups"
)
TOO_NARROW = (
    "no patients are published: pictures that may be of one patient are drawn apart, so the "
    "interval is too narrow (in made hospitals three in four such held the truth)"
)
HALF = 0.5  # picture: Jeffreys' prior of a share
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

    @property
    def n_effective(self) -> float:
        """How many groups of one size tell as much: (sum of sizes)^2 / sum of their squares."""
        sizes = self.kinds.sum(axis=1)
        return float((self.times @ sizes) ** 2 / (self.times @ sizes**2))

    def keep(self, cells: npt.NDArray[np.bool_]) -> "GroupedCounts":
        """Return the counts of some cells, shape (n_cells,), without groups that hit no other."""
        kept = self.kinds * cells
        is_hit = kept.any(axis=1)
        return GroupedCounts(kept[is_hit], self.times[is_hit])


@dataclass(frozen=True)
class Draws:
    """Redrawn scores of one hospital, and how far their spread is to be trusted.

    Attributes
    ----------
    scores : numpy.ndarray, shape (n_draws,)
    n_effective : float
        Of `GroupedCounts`.
    """

    scores: Array
    n_effective: float

    def times(self, weight: float) -> "Draws":
        """Return the share that the hospital has in a mean, or in a difference of means."""
        return Draws(weight * self.scores, self.n_effective)


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


def redraw(grouped: GroupedCounts, n_draws: int, seed: int, imagined: Array | None = None) -> Array:
    """Draw as many groups as there are, with replacement, again and again.

    Parameters
    ----------
    grouped : GroupedCounts
        At least one group.
    n_draws : int
        How often.
    seed : int
        The same seed gives the same draws.
    imagined : numpy.ndarray, shape (n_cells,), optional
        How many pictures on average each draw adds to each cell, beside those seen. None: none,
        and the counts of a draw are whole numbers, so that no sum depends on its order.

    Returns
    -------
    numpy.ndarray of float64, shape (n_draws, n_cells)
        Counts of each draw.

    Notes
    -----
    Pictures of one patient share smear, stain and camera: drawing pictures would give an interval
    that is too narrow [1]_.

    Where all pictures of a class are right, they are right in every draw, though three of three
    tell little. So a draw adds imagined pictures, in a number that varies as a gamma variable of
    that mean. With half a hit and half a miss the draws of a share of independent pictures spread
    as its posterior under Jeffreys' prior [2]_, whose interval holds the truth as often as it
    says even at shares near 1.

    References
    ----------
    .. [1] C. A. Field and A. H. Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69
       (2007), 369-390.
    .. [2] L. D. Brown, T. T. Cai and A. DasGupta, "Interval estimation for a binomial
       proportion", Stat. Sci. 16 (2001), 101-133.
    """
    rng = np.random.default_rng(seed)
    shares = grouped.times / grouped.n_groups
    block = max(1, MAX_BLOCK // len(shares))
    pieces = [
        rng.multinomial(grouped.n_groups, shares, size=min(block, n_draws - start)) @ grouped.kinds
        for start in range(0, n_draws, block)
    ]
    drawn: Array = np.concatenate(pieces)
    if imagined is not None:
        places = np.flatnonzero(imagined)
        drawn[:, places] += rng.standard_gamma(imagined[places], size=(n_draws, len(places)))
    return drawn


def bounds(draws: Array) -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of redrawn scores (percentile method).

    Too narrow for few groups: `expand` is the one for intervals that are shown.
    """
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def expand(parts: Sequence[Draws], value: float) -> tuple[float, float] | tuple[None, None]:
    """Return the interval of a score that is a sum over hospitals, of one at least.

    Parameters
    ----------
    parts : sequence of Draws
        For each hospital its share in the sum; the hospitals are drawn independently.
    value : float
        The observed score, which the interval always holds.

    Returns
    -------
    tuple of float, or of None
        Lower and upper end. None where no draw differs from another: then nothing is known of
        the spread, and it is not 0.

    Notes
    -----
    The expanded percentile interval [1]_. Draws of n groups spread by (n - 1) / n too little, and
    normal quantiles are too near where the spread comes from n groups; so quantiles further out
    are taken: those of a normal variable at -t sqrt(n / (n - 1)), t of n - 1 degrees of freedom.
    Where the groups differ in size, n is the effective number of them. For a sum over hospitals
    the spreads add up, with degrees of freedom by Satterthwaite [2]_.

    References
    ----------
    .. [1] T. C. Hesterberg, "What teachers should know about the bootstrap", Am. Stat. 69 (2015),
       371-386.
    .. [2] F. E. Satterthwaite, "An approximate distribution of estimates of variance components",
       Biometrics Bull. 2 (1946), 110-114.
    """
    draws = np.sum([part.scores for part in parts], axis=0)
    drawn = np.array([part.scores.var() for part in parts])
    if np.ptp(draws) == 0:
        return None, None
    freedom = np.array([max(part.n_effective - 1, 1.0) for part in parts])
    spread = drawn * (freedom + 1) / freedom
    joint = spread.sum() ** 2 / (spread**2 / freedom).sum()
    stretch = np.sqrt(spread.sum() / drawn.sum()) * stdtrit(joint, (1 + LEVEL) / 2)
    low, high = np.quantile(draws, [ndtr(-stretch), ndtr(stretch)])
    return min(float(low), value), max(float(high), value)


def describe_share(
    hits: Sequence[bool] | pd.Series, groups: Sequence[str] | pd.Series, n_draws: int, seed: int
) -> dict[str, Any]:
    """Describe a share of pictures with an interval that knows which belong together.

    Parameters
    ----------
    hits : sequence of bool, shape (n_images,)
        The pictures that count, in any order.
    groups : sequence of str, shape (n_images,)
        The group of each picture.
    n_draws, seed : int
        For the interval.

    Returns
    -------
    dict
        ``value``, ``low`` and ``high`` (0..1), ``n`` images and ``n_groups``. Without a picture
        the first three are None; below `MIN_GROUPS` the two ends are, and ``interval_reason``
        tells why.
    """
    hit = np.asarray(hits, np.int64)
    block: dict[str, Any] = {"value": None, "low": None, "high": None, "n": len(hit), "n_groups": 0}
    if not len(hit):
        return block
    grouped = count_by_group(hit, groups, 2)
    block |= {"value": float(hit.mean()), "n_groups": grouped.n_groups}
    if grouped.n_groups < MIN_GROUPS:
        return block | {"interval_reason": too_few(grouped.n_groups)}
    misses, found = redraw(grouped, n_draws, seed, np.array([HALF, HALF])).T
    draws = Draws(found / (misses + found), grouped.n_effective)
    block["low"], block["high"] = expand([draws], block["value"])
    return block


def too_few(n_groups: int) -> str:
    """Say why there is no interval."""
    return f"too few groups: {n_groups}; {MIN_GROUPS} are needed"


def note_units(units: Collection[str]) -> dict[str, str]:
    """Return ``interval_note`` where some groups are less than a patient, and nothing else."""
    return {"interval_note": TOO_NARROW} if set(units) - {"patient"} else {}

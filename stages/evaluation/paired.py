"""Two models on the same images: whether they differ by more than chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import convolve
from scipy.stats import binom

CHANCE = 0.05  # a p-value from here on is called chance
MIN_GROUPS = 6  # of five that all agree the p-value is 2 / 2^5, which is still chance
METHOD = "exact paired test over groups, Holm's correction"


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes
    ----------
    n, n_groups : int
        Images, and groups of them.
    first_alone, second_alone : int
        Images that only the first hits, and only the second.
    p_value : float
        How probable so great a difference, or a greater one, is where the two are exchangeable;
        two-sided. 1 without an image.
    """

    n: int
    n_groups: int
    first_alone: int
    second_alone: int
    p_value: float

    @property
    def difference(self) -> float | None:
        """Share of hits of the first minus that of the second, -1..1; None without an image."""
        return (self.first_alone - self.second_alone) / self.n if self.n else None


def compare(
    first: npt.ArrayLike, second: npt.ArrayLike, groups: Sequence[str] | pd.Series
) -> Comparison:
    """Compare what two models hit of the same images.

    Parameters
    ----------
    first, second : array_like of bool, shape (n_images,)
        Whether each model hits the image: calls it rightly, or misses it, or what else is counted.
    groups : sequence of str, shape (n_images,)
        What belongs together: patient, slide, twins, else the image.

    Returns
    -------
    Comparison
        The same for any order of the images; turned round where the two are.

    Notes
    -----
    Images that both hit, or neither, tell nothing of the difference. If the two were equally good,
    the answers to a group might as well have been exchanged, all of them, since those of one
    patient err together [1]_; the p-value is the share of all ways to exchange in which the two
    differ at least as much. It is counted, not drawn. Where every image is a group this is
    McNemar's exact test [2]_.

    References
    ----------
    .. [1] P. I. Good, "Permutation, Parametric, and Bootstrap Tests of Hypotheses", 3rd ed.,
       Springer, 2005.
    .. [2] Q. McNemar, "Note on the sampling error of the difference between correlated proportions
       or percentages", Psychometrika 12 (1947), 153-157.
    """
    gain = np.asarray(first, np.int64) - np.asarray(second, np.int64)
    place, names = pd.factorize(np.asarray(groups, dtype=object))
    by_group = np.zeros(len(names), np.int64)
    np.add.at(by_group, place, gain)
    return Comparison(
        n=len(gain),
        n_groups=len(names),
        first_alone=int((gain > 0).sum()),
        second_alone=int((gain < 0).sum()),
        p_value=_count_swaps(by_group),
    )


def correct(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number, by Holm's method [1]_.

    Parameters
    ----------
    p_values : sequence of float
        Of all tests of one question, in any order.

    Returns
    -------
    list of float
        In the same order. Below `CHANCE` with a probability of at most that where nothing differs,
        however many tests there are and whatever they share.

    References
    ----------
    .. [1] S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6
       (1979), 65-70.
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(steps, 1)
    return [float(one) for one in corrected]


def judge(found: Comparison, p_value: float) -> str:
    """Say in words what a p-value, corrected or not, means for a comparison."""
    if found.n_groups < MIN_GROUPS:
        return "too few groups to tell"
    return "within chance" if p_value >= CHANCE else "more than chance"


def _count_swaps(gains: npt.NDArray[np.int64]) -> float:
    """Return the share of all signs of the gains whose sum is as far from 0, or further."""
    sizes, times = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    shares = np.ones(1)  # of sums from the lowest to the highest, in steps of two
    for size, n in zip(sizes, times, strict=True):
        own = np.zeros(size * n + 1)
        own[::size] = binom.pmf(np.arange(n + 1), n, 0.5)
        shares = convolve(shares, own) if len(shares) > 1 else own
    beyond = (int((sizes * times).sum()) - abs(int(gains.sum()))) // 2
    least = 2.0 * 0.5 ** int(times.sum())  # below it there is only the rounding of long products
    return float(np.clip(2 * shares[: beyond + 1].sum(), min(least, 1), 1))

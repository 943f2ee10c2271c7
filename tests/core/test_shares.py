"""Shares with Wilson's interval: recomputed bounds, SciPy's, and the ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from stages.core.shares import describe_share, wilson

# PyCell's matrices: accuracy and sensitivity, hits and images, bounds in percent as recomputed.
PYCELL = [
    (6557, 6874, 94.867, 95.859), (6522, 6874, 94.333, 95.376), (6494, 6874, 93.906, 94.988),
    (4104, 4112, 99.617, 99.901), (4111, 4112, 99.862, 99.996), (4110, 4112, 99.823, 99.987),
]  # fmt: skip


@pytest.mark.parametrize(("hits", "n", "low", "high"), PYCELL)
def test_wilson_gives_the_recomputed_bounds(hits, n, low, high):
    """To the printed digit: the intervals of three published accuracies and sensitivities."""
    ours = [100 * bound for bound in wilson(hits, n)]
    assert ours == pytest.approx([low, high], abs=5.1e-4)


@given(st.integers(1, 100_000), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_wilson_equals_that_of_scipy(n, share):
    hits = round(share * n)
    theirs = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@given(st.integers(1, 1000), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_wilson_stays_within_0_and_1_around_the_share(n, share):
    """Also for none and all, where it is exactly 0 and 1 at one end; misses mirror hits."""
    hits = round(share * n)
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n <= high <= 1
    assert (low == 0) == (hits == 0)
    assert (high == 1) == (hits == n)
    mirrored = wilson(n - hits, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize("n", [10, 11, 14, 1000])
def test_wilson_of_all_ends_at_1_exactly(n):
    """Where rounding gives 0.9999999999999999 or 1.0000000000000002."""
    assert wilson(n, n)[1] == 1.0


def test_a_share_comes_with_bounds_and_count():
    assert describe_share(3, 4) == {
        "value": 0.75, "low": wilson(3, 4)[0], "high": wilson(3, 4)[1], "n": 4,
    }  # fmt: skip


def test_a_share_of_nothing_is_null():
    assert describe_share(0, 0) == {"value": None, "low": None, "high": None, "n": 0}

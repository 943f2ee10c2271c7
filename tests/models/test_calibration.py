"""Calibration without labels: the means that are asked for, by one number a class."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import fsolve

from stages.models import calibration


def draw(kind, n, n_classes, seed):
    """Probabilities of a network (soft, sharp), of neighbours (thirds), of one vote (hard)."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.9, *[0.1 / (n_classes - 1)] * (n_classes - 1)])
    made = {
        "soft": lambda: rng.dirichlet(np.ones(n_classes), n),
        "sharp": lambda: rng.dirichlet(np.full(n_classes, 0.02), n),
        "thirds": lambda: rng.multinomial(3, shares, n) / 3,
        "hard": lambda: rng.multinomial(1, shares, n).astype(float),
    }
    return pd.DataFrame(made[kind](), [f"h/{i}" for i in range(n)], list("abcdefghijk"[:n_classes]))


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(["soft", "sharp", "thirds", "hard"]),
    n=st.integers(1, 60),
    n_classes=st.integers(2, 11),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_the_means_are_those_that_are_wanted(kind, n, n_classes, seed, share):
    """A share of the way to even ones; rows sum to 1; one number a class moves every image."""
    before = draw(kind, n, n_classes, seed)
    after = calibration.shift_to_even(before, share)
    wanted = share / n_classes + (1 - share) * before.mean()
    np.testing.assert_allclose(after.mean(), wanted, atol=1e-4)
    np.testing.assert_allclose(after.sum(axis=1), 1)
    assert after.index.equals(before.index)
    if kind == "soft":
        moved = np.log(after) - np.log(before)
        np.testing.assert_allclose(moved.sub(moved["a"], axis=0).std(ddof=0), 0, atol=1e-6)


def test_the_shift_is_that_of_another_solver():
    """Oracle: the root of the means, found for two classes by their one free number."""
    before = draw("soft", 40, 2, 5)
    odds = np.log(before["b"] / before["a"])
    wanted = 0.15 + 0.7 * before["b"].mean()
    [shift] = fsolve(lambda b: (1 / (1 + np.exp(-odds - b))).mean() - wanted, 0.0)
    after = calibration.shift_to_even(before)
    np.testing.assert_allclose(after["b"], 1 / (1 + np.exp(-odds - shift)), atol=1e-5)


def test_a_level_that_is_off_is_mended_and_an_order_is_kept():
    """Every second image is b, and all look too much like a: with even shares all are right."""
    truth = np.arange(100) % 2
    odds = np.where(truth == 1, -0.5, -3.0) + np.linspace(0, 0.4, 100)
    p = 1 / (1 + np.exp(-odds))
    after = calibration.shift_to_even(pd.DataFrame({"a": 1 - p, "b": p}), 1.0)
    assert ((p > 0.5) == truth).mean() < 0.6
    assert ((after["b"] > 0.5) == truth).all()
    assert (np.argsort(after["b"]) == np.argsort(p)).all()


def test_no_image_stays_none():
    assert calibration.shift_to_even(pd.DataFrame(columns=["a", "b"], dtype=float)).empty


def test_the_shipped_share_is_the_one_that_was_measured():
    """.625 -> .641 over seven hospitals; another needs another measurement."""
    assert pytest.approx(0.3) == calibration.EVEN

"""Paired comparison: McNemar's numbers, whole groups swapped, enumeration, and Holm's steps."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from stages.evaluation import paired

ROOT = Path(__file__).resolve().parents[2]


def alone(first, second):
    """The comparison of images that each stand for themselves."""
    return paired.compare(first, second, [f"image{place}" for place in range(len(first))])


def test_nested_misses_are_more_than_chance():
    """10 and 18 of 157: where all ten are among the eighteen, eight swap, and 2 / 2^8 is the p.

    Fisher's test, which does not know the pairs, gave .16.
    """
    first = np.arange(157) < 10
    found = alone(first, np.arange(157) < 18)
    assert (found.n, found.n_groups, found.first_alone, found.second_alone) == (157, 157, 0, 8)
    assert found.p_value == pytest.approx(2 / 2**8)
    assert found.difference == pytest.approx(-8 / 157)


def test_the_same_counts_without_a_common_miss_are_less():
    """Ten alone against eighteen alone: the pairing decides, not the margins."""
    found = alone(np.arange(157) < 10, np.arange(157) >= 139)
    assert (found.first_alone, found.second_alone) == (10, 18)
    assert found.p_value == pytest.approx(binomtest(10, 28).pvalue)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_images_that_stand_alone_give_mcnemars_exact_test(first, second, agreed):
    """The two-sided sign test of the images that one has and the other has not."""
    places = np.arange(first + second + agreed + 1)
    found = alone(places < first, (places >= first) & (places < first + second))
    expected = binomtest(first, first + second).pvalue if first + second else 1
    assert found.p_value == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=1, max_size=24)
)
@settings(max_examples=60, deadline=None)
def test_whole_groups_are_swapped(rows):
    """The share of all ways to swap the two within groups that differ as much, or more."""
    groups, first, second = (list(column) for column in zip(*rows, strict=True))
    found = paired.compare(first, second, [f"group{one}" for one in groups])
    gains = [sum(a - b for g, a, b in rows if g == group) for group in sorted(set(groups))]
    sums = [
        abs(sum(sign * gain for sign, gain in zip(signs, gains, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(gains))
    ]
    assert found.p_value == pytest.approx(np.mean([one >= abs(sum(gains)) for one in sums]))
    assert found.n_groups == len(gains)


def test_pictures_of_one_patient_are_one_witness():
    """Forty pictures of three patients, all in favour: three witnesses, of which 2 / 2^3 agree."""
    groups = [f"patient{place % 3}" for place in range(40)]
    assert paired.compare([True] * 40, [False] * 40, groups).p_value == pytest.approx(0.25)


def test_the_order_of_the_two_and_of_the_images_does_not_matter():
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 300)) < [[0.8], [0.7]]
    groups = rng.integers(0, 60, 300).astype(str)
    found, order = paired.compare(first, second, groups), rng.permutation(300)
    assert paired.compare(first[order], second[order], groups[order]) == found
    turned = paired.compare(second, first, groups)
    assert turned.p_value == found.p_value
    assert (turned.difference, turned.first_alone) == (-found.difference, found.second_alone)


def test_chance_alone_is_seldom_called_more():
    """Two equal models on correlated pictures: at most 5 % of 400 have p below .05.

    McNemar's test on the images finds more than 20 %.
    """
    rng = np.random.default_rng(1)
    n_called = {"groups": 0, "images": 0}
    for _ in range(400):
        groups = np.repeat(np.arange(12), 20)
        # Each patient suits one of the two models: the pictures of one err together.
        first, second = rng.random((2, 240)) < np.repeat(rng.beta(2, 2, (2, 12)), 20, axis=1)
        n_called["groups"] += paired.compare(first, second, groups.astype(str)).p_value < 0.05
        n_called["images"] += alone(first, second).p_value < 0.05
    assert n_called["groups"] <= 30  # .05 and two and a half standard errors
    assert n_called["images"] > 80


def test_a_million_images_are_compared_exactly():
    """Cost follows the sizes of groups that occur, and small p-values are not lost."""
    places = np.arange(1_000_000)
    found = alone(places < 500_300, places >= 499_900)
    assert found.p_value == pytest.approx(binomtest(499_900, 999_600).pvalue, rel=1e-9)
    assert alone(places < 300, places < 0).p_value == pytest.approx(2.0**-299)


@pytest.mark.parametrize(("table", "greatest"), [("eleven", 0.0081), ("eight", 0.000394)])
def test_what_the_documents_call_a_difference_holds_however_misses_are_paired(table, greatest):
    """The default against the best recipe of the two projects; at worst no miss is in common."""
    rows = pd.read_csv(ROOT / "data/results.csv", dtype=str)
    rows = rows[(rows["table"] == table) & (rows["metric"] == "accuracy")].set_index("experiment")
    n = int(rows.loc[f"default-{table}", "n"])
    ours, theirs = (
        n - round(float(rows.loc[name, "value"]) * n)
        for name in (f"default-{table}", f"{table}-vgg19-svm-cell")
    )
    places = np.arange(n)
    p_values = [
        alone(places < ours, (places >= ours - common) & (places < ours - common + theirs)).p_value
        for common in range(ours + 1)
    ]
    assert p_values[0] == pytest.approx(greatest, rel=0.01)
    assert max(p_values) == p_values[0]


def test_nothing_to_compare_is_no_difference():
    found = paired.compare([], [], [])
    assert (found.n, found.n_groups, found.p_value) == (0, 0, 1)
    assert found.difference is None


def test_five_groups_cannot_tell():
    """With fewer than six no difference, however clear, can have a p-value below .05."""
    for n_groups, verdict in ((5, "too few groups to tell"), (6, "more than chance")):
        found = alone([True] * n_groups, [False] * n_groups)
        assert paired.judge(found, found.p_value) == verdict
    assert paired.judge(found, 0.05) == "within chance"


def test_holm_multiplies_by_the_tests_that_are_left():
    """Holm's own steps: .01 x 4, .02 x 3, .03 x 2, .04 x 1, and none below the one before."""
    assert paired.correct([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert paired.correct([0.6, 0.7]) == [1, 1]
    assert paired.correct([0.02]) == [0.02]
    assert paired.correct([]) == []

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stages.evaluation import bootstrap
from stages.evaluation.bootstrap import Draws, bounds, count_by_group, expand, redraw


def share_of_cell_1(counts):
    return counts[..., 1] / counts.sum(axis=-1)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_group_counts_add_up_to_those_of_all_pictures(rows):
    """No picture and no group is lost where equal groups are kept once."""
    cells = np.array([cell for cell, _ in rows])
    groups = [f"p{group}" for _, group in rows]
    grouped = count_by_group(cells, groups, 6)
    np.testing.assert_array_equal(grouped.total, np.bincount(cells, minlength=6))
    assert grouped.n_groups == len(set(groups))
    assert len(np.unique(grouped.kinds, axis=0)) == len(grouped.kinds)
    one_by_one = sorted(
        tuple(np.bincount(cells[[name == group for name in groups]], minlength=6))
        for group in set(groups)
    )
    repeated = np.repeat(grouped.kinds.astype(int), grouped.times, axis=0)
    assert sorted(map(tuple, repeated)) == one_by_one


def test_lone_pictures_cost_no_row_each():
    """A hundred thousand pictures that are groups of their own make as many kinds as cells."""
    cells = np.arange(100_000) % 121
    grouped = count_by_group(cells, [f"i{i}" for i in range(100_000)], 121)
    assert grouped.kinds.shape == (121, 121)
    assert grouped.n_groups == 100_000


def test_draws_take_as_many_groups_as_there_are():
    """Groups of equal size: every draw has as many pictures as the hospital."""
    cells = np.arange(60) % 3
    grouped = count_by_group(cells, [f"p{i // 4}" for i in range(60)], 3)
    drawn = redraw(grouped, 500, 7)
    assert drawn.shape == (500, 3)
    assert (drawn.sum(axis=1) == 60).all()
    np.testing.assert_array_equal(drawn, np.round(drawn))
    assert len(np.unique(drawn, axis=0)) > 10


def test_equal_seeds_give_equal_draws_whatever_the_block(monkeypatch):
    """Draws are taken in blocks to save memory; the block's size shows in no number."""
    cells = np.arange(90) % 4
    grouped = count_by_group(cells, [f"p{i // 7}" for i in range(90)], 4)
    known = redraw(grouped, 200, 3)
    monkeypatch.setattr(bootstrap, "MAX_BLOCK", 50)
    np.testing.assert_array_equal(redraw(grouped, 200, 3), known)
    assert not np.array_equal(redraw(grouped, 200, 4), known)


def test_bootstrap_has_the_known_spread_of_a_share():
    """Lone pictures: the interval of a share is the binomial's, p +- 1.96 sqrt(p q / n)."""
    cells = (np.arange(1000) < 300).astype(np.int64)
    grouped = count_by_group(cells, list(map(str, range(1000))), 2)
    low, high = bounds(share_of_cell_1(redraw(grouped, 20_000, 1)))
    half = 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert low == pytest.approx(0.3 - half, abs=0.002)
    assert high == pytest.approx(0.3 + half, abs=0.002)


def test_groups_of_copies_widen_the_interval():
    """Nine copies of each picture add nothing: by group the width stays, by picture it shrinks."""
    cells = np.repeat((np.arange(100) % 5 == 0).astype(np.int64), 9)
    patients = [f"p{i // 9}" for i in range(900)]
    by_group = bounds(share_of_cell_1(redraw(count_by_group(cells, patients, 2), 5000, 1)))
    pictures = [f"i{i}" for i in range(900)]
    by_picture = bounds(share_of_cell_1(redraw(count_by_group(cells, pictures, 2), 5000, 1)))
    ratio = (by_group[1] - by_group[0]) / (by_picture[1] - by_picture[0])
    assert ratio == pytest.approx(3, rel=0.12)


def test_about_95_percent_of_intervals_cover_the_truth():
    """Forty simulated patients whose own share varies: by group it covers, by picture it fails."""
    rng = np.random.default_rng(11)
    n_worlds, n_patients, n_pictures = 300, 40, 20
    covered = {"patient": 0, "picture": 0}
    for world in range(n_worlds):
        shares = rng.beta(3.5, 1.5, n_patients)  # mean 0.7
        cells = (rng.random((n_patients, n_pictures)) < shares[:, None]).astype(np.int64).ravel()
        patients = np.repeat(np.arange(n_patients), n_pictures)
        for unit, groups in (("patient", patients), ("picture", np.arange(len(cells)))):
            drawn = redraw(count_by_group(cells, groups, 2), 400, world)
            low, high = bounds(share_of_cell_1(drawn))
            covered[unit] += low <= 0.7 <= high
    assert 0.90 <= covered["patient"] / n_worlds <= 0.985
    assert covered["picture"] / n_worlds < 0.8


def share_with_interval(hits, groups, n_draws=4000):
    return bootstrap.describe_share(hits, groups, n_draws, 1)


@pytest.mark.parametrize("n_hits", [40, 39, 30, 0])
def test_a_share_of_lone_pictures_has_the_interval_of_jeffreys(n_hits):
    """Against scipy's beta quantiles, at the ends too, where redrawing alone has no width."""
    hits = np.arange(40) < n_hits
    share = share_with_interval(hits, list(map(str, range(40))), 20_000)
    low, high = stats.beta.ppf([0.025, 0.975], n_hits + 0.5, 40 - n_hits + 0.5)
    # Jeffreys' interval leaves out a share of 0 or 1 that was seen; ours holds what was seen.
    assert share["low"] == pytest.approx(0 if n_hits == 0 else low, abs=0.012)
    assert share["high"] == pytest.approx(1 if n_hits == 40 else high, abs=0.012)
    assert (share["value"], share["n"], share["n_groups"]) == (n_hits / 40, 40, 40)


@pytest.mark.parametrize("n", [6, 10, 50])
def test_one_hospital_has_hesterbergs_expanded_percentiles(n):
    """Quantiles of equal groups at Phi(-t sqrt(n / (n - 1))), as the paper tells them."""
    draws = np.random.default_rng(0).random(2001)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * stats.t.ppf(0.975, n - 1))
    assert expand([Draws(draws, n)], 0.5) == pytest.approx(np.quantile(draws, [tail, 1 - tail]))


def test_many_groups_have_plain_percentiles():
    draws = np.random.default_rng(0).normal(size=5000)
    assert expand([Draws(draws, 1e7)], 0.0) == pytest.approx(bounds(draws), abs=1e-4)


def test_the_mean_of_two_normal_samples_has_the_interval_of_welch():
    """Six groups of much spread, fifty of little: as Welch's t gives it for the difference."""
    rng = np.random.default_rng(3)
    small, large = rng.normal(0, 3, 6), rng.normal(0, 1, 50)
    draws = [rng.choice(sample, (100_000, len(sample))).mean(axis=1) for sample in (small, large)]
    value = small.mean() - large.mean()
    parts = [Draws(draws[0], 6), Draws(draws[1], 50).times(-1)]
    low, high = expand(parts, value)
    known = stats.ttest_ind(small, large, equal_var=False).confidence_interval(0.95)
    assert high - low == pytest.approx(known.high - known.low, rel=0.1)
    assert (high + low) / 2 == pytest.approx(value, abs=0.4)


def test_draws_that_do_not_differ_have_no_interval():
    """No spread seen is not no spread."""
    assert expand([Draws(np.ones(100), 20)], 1.0) == (None, None)


def test_the_interval_holds_the_score():
    draws = np.linspace(0.8, 0.9, 500)
    assert expand([Draws(draws, 20)], 0.95)[1] == 0.95
    assert expand([Draws(draws, 20)], 0.75)[0] == 0.75


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_effective_groups_are_fewer_where_sizes_differ(sizes, factor):
    """Between one and all; all where the sizes are equal; the scale of the sizes is nothing."""

    def effective(sizes):
        groups = np.repeat(np.arange(len(sizes)), sizes)
        return count_by_group(np.zeros(len(groups), np.int64), groups, 1).n_effective

    n = effective(sizes)
    assert 1 <= n <= len(sizes) + 1e-9
    assert effective([factor * size for size in sizes]) == pytest.approx(n)
    assert effective([factor] * len(sizes)) == pytest.approx(len(sizes))


def test_kept_cells_leave_groups_out_that_have_no_other():
    """Of three groups one has pictures of the second cell alone."""
    grouped = count_by_group(np.array([0, 1, 1, 0, 1]), ["a", "a", "b", "c", "c"], 2)
    kept = grouped.keep(np.array([True, False]))
    assert (kept.n_groups, kept.total.tolist()) == (2, [2.0, 0.0])


def test_few_groups_have_a_share_and_no_interval():
    """However many pictures they hold; six have one, and pictures of one patient widen it."""
    hits = np.arange(600) % 10 > 0
    few = share_with_interval(hits, [f"p{i % 5}" for i in range(600)])
    assert (few["value"], few["low"], few["high"], few["n_groups"]) == (0.9, None, None, 5)
    assert few["interval_reason"] == "too few groups: 5; 6 are needed"
    enough = share_with_interval(hits, [f"p{i % 6}" for i in range(600)])
    assert enough["low"] < 0.9 < enough["high"]
    alike = share_with_interval(np.arange(600) < 540, [f"p{i // 60}" for i in range(600)])
    assert alike["high"] - alike["low"] > 0.3
    nothing = share_with_interval([], [])
    assert nothing == {"value": None, "low": None, "high": None, "n": 0, "n_groups": 0}


def test_imagined_pictures_do_not_hang_on_the_block(monkeypatch):
    """They come after the groups are drawn, with the mean asked for, where it is asked for."""
    cells = np.arange(90) % 3
    grouped = count_by_group(cells, [f"p{i // 7}" for i in range(90)], 3)
    imagined = np.array([0.5, 0.0, 0.1])
    known = redraw(grouped, 4000, 3, imagined)
    added = known - redraw(grouped, 4000, 3)
    assert added.mean(axis=0) == pytest.approx(imagined, abs=0.05)
    assert (added[:, 1] == 0).all()
    monkeypatch.setattr(bootstrap, "MAX_BLOCK", 50)
    np.testing.assert_array_equal(redraw(grouped, 4000, 3, imagined), known)


def test_where_no_patient_is_published_the_interval_says_that_it_is_too_narrow():
    assert bootstrap.note_units(["patient"]) == {}
    for units in (["image"], ["patient", "slide"], ["twins"], ["field"]):
        assert "too narrow" in bootstrap.note_units(units)["interval_note"]

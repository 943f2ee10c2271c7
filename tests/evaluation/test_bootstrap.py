import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.evaluation import bootstrap
from stages.evaluation.bootstrap import bounds, count_by_group, redraw


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

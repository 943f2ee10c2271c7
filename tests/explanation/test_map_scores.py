"""Scores of maps: known answers, nulls where nothing can be told, and a planted useless method."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from stages.explanation import map_scores, maps
from stages.models import trained
from tests.explanation.test_maps import INPUTS, cornered
from tests.made.lenets import CLASSES, CORNER, LENET, made_lenet


def square(side, top, left, height, width):
    mask = np.zeros((side, side), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def even(mask):
    return mask / mask.sum()


def test_known_shares():
    """A map over four squares of eight pixels: two in the cell, of which one in the nucleus."""
    cell, nucleus = square(8, 0, 0, 4, 4), square(8, 0, 0, 2, 4)
    found = np.zeros((8, 8))
    found[0:2, 0:4], found[2:4, 0:4] = 0.4 / 8, 0.2 / 8
    found[4:6, 0:4], found[6:8, 0:4] = 0.3 / 8, 0.1 / 8
    scores = map_scores.score_places(found, cell, nucleus)
    assert scores == {
        "in_cell": pytest.approx(0.6), "in_nucleus": pytest.approx(0.4), "points_at_cell": 1.0,
        "rank": 0.5, "cell_area": 0.25,
    }  # fmt: skip
    assert map_scores.score_places(found[::-1], cell, nucleus)["points_at_cell"] == 0.0


def test_an_even_map_has_the_cells_area_in_the_cell():
    cell = square(10, 2, 2, 5, 6)
    scores = map_scores.score_places(np.full((10, 10), 0.01), cell, cell)
    assert scores["in_cell"] == pytest.approx(scores["cell_area"]) == pytest.approx(0.3)


def test_without_cell_or_evidence_nothing_is_told():
    cell, none = square(8, 0, 0, 4, 4), np.zeros((8, 8), bool)
    for scores in (
        map_scores.score_places(even(cell), none, none),
        map_scores.score_places(np.zeros((8, 8)), cell, cell),
    ):
        assert set(scores.values()) == {None}


@pytest.fixture(scope="module")
def lenet():
    network = made_lenet("ground", CORNER)
    return trained.SingleModel(CLASSES, LENET, INPUTS, (32, 32, 3), network)


def test_curves_tell_the_map_that_knows_from_one_that_does_not(lenet):
    """The corner decides: hidden first the call is gone at once, hidden last it stays."""
    right, wrong = even(square(32, 0, 0, 10, 10)), even(square(32, 12, 12, 20, 20))
    column = CLASSES.index("basophil")
    good, bad, none = (
        map_scores.score_curves(lenet, cornered(), column, one, np.random.default_rng(0))
        for one in (right, wrong, np.zeros((32, 32)))
    )
    assert good["deletion"] > 0.2 > 0 > bad["deletion"]
    assert good["insertion"] > 0.05 > 0 > bad["insertion"]
    assert none == {"deletion": None, "insertion": None}


def test_maps_are_compared_by_rank():
    ramp = np.arange(32 * 32, dtype=float).reshape(32, 32)
    assert map_scores.compare(ramp, ramp**2) == pytest.approx(1)
    assert map_scores.compare(ramp, -ramp) == pytest.approx(-1)
    assert abs(map_scores.compare(ramp, np.random.default_rng(0).random((32, 32)))) < 0.2
    assert map_scores.compare(ramp, np.zeros((32, 32))) is None


def test_all_scores_of_a_map_of_a_made_network(lenet):
    """A method that follows the picture and not the model is the same for one that forgot."""

    def brightness(part, x):
        return maps.normalise(
            255.0 - x.astype(float).mean(axis=2, keepdims=True).transpose(2, 0, 1)
        )

    x = cornered()
    cell = square(32, 0, 0, 10, 10)
    scores = map_scores.judge(
        brightness, lenet, maps.forget(lenet, 0), x, brightness(lenet, x)[0], 0, [cell, cell], 0
    )
    assert scores["mirrored"] == pytest.approx(1)
    assert scores["forgotten"] == pytest.approx(1)
    assert scores["in_cell"] > scores["cell_area"]
    alone = map_scores.judge(
        brightness, lenet, None, x, brightness(lenet, x)[0], 0, [cell, cell], 0
    )
    assert alone["forgotten"] is None


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-1, 1)), min_size=1, max_size=40))
@settings(deadline=None, max_examples=40)
def test_means_are_over_groups(rows):
    """By Student's t over the groups' means; below six groups without an interval."""
    groups, values = (pd.Series(list(one)) for one in zip(*rows, strict=True))
    block = map_scores.mean_by_group(values, groups.astype(str))
    means = [np.mean([v for g, v in rows if g == group]) for group in set(groups)]
    assert block["value"] == pytest.approx(np.mean(means), abs=1e-9)
    assert (block["n"], block["n_groups"]) == (len(rows), len(means))
    if len(means) < 6:
        assert block["low"] is block["high"] is None
        assert block["interval_reason"].startswith("too few groups")
    else:
        half = stats.t.ppf(0.975, len(means) - 1) * np.std(means, ddof=1) / len(means) ** 0.5
        assert block["high"] == pytest.approx(min(1, np.mean(means) + half), abs=1e-9)
        assert block["low"] == pytest.approx(max(-1, np.mean(means) - half), abs=1e-9)


def test_what_is_missing_does_not_count():
    values = pd.Series([None, 0.5, None, 1.0])
    block = map_scores.mean_by_group(values, pd.Series(["a", "a", "b", "c"]))
    assert (block["value"], block["n"], block["n_groups"]) == (0.75, 2, 2)
    empty = map_scores.mean_by_group(pd.Series([None, None]), pd.Series(["a", "b"]))
    assert (empty["value"], empty["n"]) == (None, 0)


def test_a_method_that_shows_the_same_for_a_network_that_forgot_is_useless():
    rows = [
        {"hospital": "ab"[i % 2], "group": str(i), "method": method, "in_cell": 0.5,
         "forgotten": forgotten}
        for i in range(8)
        for method, forgotten in (("same", 0.9), ("other", 0.1), ("unknown", None))
    ]  # fmt: skip
    found = map_scores.summarise(pd.DataFrame(rows), ["same", "other", "unknown"])
    assert [found[name]["useless"] for name in found] == [True, False, None]
    assert found["unknown"]["useless_reason"] == map_scores.NOT_COMPARED
    assert found["same"]["by_hospital"]["a"]["in_cell"]["n"] == 4
    assert found["same"]["all"]["in_cell"]["n_groups"] == 8

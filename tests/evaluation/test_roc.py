"""Areas under the ROC curve: scikit-learn's, and intervals that know groups."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from stages.evaluation import roc


@settings(max_examples=25, deadline=None)
@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), min_size=4, max_size=40),
    seed=st.integers(0, 100),
)
def test_weighted_auc_is_that_of_scikit_learn(scores, seed):
    """With ties and whole weights, for several draws at once."""
    rng = np.random.default_rng(seed)
    positive = rng.random(len(scores)) < 0.4
    positive[:2] = True, False
    weights = rng.integers(0, 4, (5, len(scores)))
    weights[:, :2] += 1
    found = roc.weighted_auc(np.array(scores), positive, weights.astype(float))
    expected = [roc_auc_score(positive, scores, sample_weight=own) for own in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_weighted_auc_without_a_class_is_missing():
    """A draw without positives, or without negatives, has no AUC."""
    positive = np.array([True, False, False])
    weights = np.array([[0.0, 1, 1], [2, 0, 0], [1, 1, 0]])
    found = roc.weighted_auc(np.array([0.3, 0.2, 0.9]), positive, weights)
    np.testing.assert_array_equal(found, [np.nan, np.nan, 1.0])


def describe(scores, positive, groups=None):
    scores = np.asarray(scores, float)
    groups = groups or [f"g{number}" for number in range(len(scores))]
    return roc.describe_auc(scores, np.asarray(positive, bool), groups, 500, 1)


def test_a_few_images_above_all_others_do_not_promise_an_area_of_1():
    few = describe([*range(100, 107), *range(60)], [True] * 7 + [False] * 60)
    many = describe([*range(100, 160), *range(60)], [True] * 60 + [False] * 60)
    assert few["value"] == few["high"] == many["value"] == 1
    assert 0.8 < few["low"] < many["low"] - 0.02
    assert (few["n_positive"], few["n_negative"]) == (7, 60)


def test_images_of_one_group_count_as_less():
    """The same scores, each patient with ten images that go together."""
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(24), 10)
    positive = patients % 2 == 0
    scores = positive + np.repeat(rng.normal(0, 1.5, 24), 10)
    alone = describe(scores, positive)
    together = describe(scores, positive, [f"p{one}" for one in patients])
    assert alone["value"] == together["value"] == pytest.approx(roc_auc_score(positive, scores))
    assert together["high"] - together["low"] > 2 * (alone["high"] - alone["low"])


def test_the_side_of_fewer_groups_says_how_far_the_spread_is_trusted(monkeypatch):
    trusted = []
    expand = roc.expand
    monkeypatch.setattr(
        roc, "expand", lambda parts, value: (trusted.append(parts[0]), expand(parts, value))[1]
    )
    describe(np.random.default_rng(1).normal(0, 1, 70), [True] * 7 + [False] * 63)
    assert [one.n_effective for one in trusted] == [7]


def test_what_cannot_be_told_is_missing():
    """No image on one side; too few groups on one side; one score for all."""
    assert describe([1, 2], [True, True])["value"] is None
    block = describe(range(20), [True] * 5 + [False] * 15)
    assert (block["value"], block["low"]) == (0, None)
    assert block["interval_reason"] == "too few groups on one side: 5; 6 are needed"
    assert describe([3] * 20, [True] * 10 + [False] * 10)["value"] == 0.5
    assert "same score" in describe([3] * 20, [True] * 10 + [False] * 10)["interval_reason"]

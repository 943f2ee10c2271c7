"""Probing: what tells a class is found, nothing is cried without cause, groups stay whole."""

import warnings

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.shortcuts import probing
from tests.made.looks import barcelona_sizes, make_cohort

# FACTS of the Barcelona collection: images by prefix, and the few of another size than 360 x 363.


def test_images_are_drawn_evenly():
    """Each class of a hospital gets the same; what a small one leaves goes to the others."""
    images = barcelona_sizes()
    unread = pd.DataFrame({"image_id": [f"x/{n}" for n in range(900)], "hospital": "x"})
    images = pd.concat([images, unread.assign(label=None, group="g")], ignore_index=True)
    chosen = probing.draw(images, 4000, seed=3)
    assert len(chosen) == 4000
    assert chosen["image_id"].is_monotonic_increasing
    counts = chosen.groupby(["hospital", chosen["label"].fillna("unread")]).size()
    small = {("barcelona", "NEUTROPHIL"): 50, ("barcelona", "IG"): 151}
    assert {name: counts[name] for name in small} == small
    others = counts.drop(index=list(small))
    assert len(others) == 12
    assert others.max() - others.min() <= 1
    assert probing.draw(images, 10**6, seed=3)["image_id"].nunique() == len(images)


def test_the_draw_follows_names_not_rows():
    """Another order draws the same; another seed does not; a larger draw holds the smaller one."""
    images = barcelona_sizes()
    chosen = probing.draw(images, 300, seed=3)
    mixed = probing.draw(images.sample(frac=1, random_state=1), 300, seed=3)
    pd.testing.assert_frame_equal(chosen, mixed)
    assert set(chosen["image_id"]) != set(probing.draw(images, 300, seed=4)["image_id"])
    assert set(chosen["image_id"]) <= set(probing.draw(images, 400, seed=3)["image_id"])


# -- folds ---------------------------------------------------------------------------------------

GROUPED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60)


def as_series(pairs):
    ids = [f"i{n:03d}" for n in range(len(pairs))]
    truth = pd.Series([f"c{c}" for c, _ in pairs], index=ids)
    return truth, pd.Series([f"g{g}" for _, g in pairs], index=ids)


@settings(max_examples=100, deadline=None)
@given(pairs=GROUPED, seed=st.integers(0, 5), by_image=st.booleans())
def test_groups_are_held_out_whole_and_every_class_stays_learnable(pairs, seed, by_image):
    """No group in two folds; every class in two folds at least, or left out with a reason."""
    truth, groups = as_series(pairs)
    question = probing.ask(truth, groups, by_image, seed)
    held = truth.index.to_series() if by_image else groups
    folds = pd.Series(question.folds, index=question.image_ids)
    assert folds.groupby(held.loc[folds.index]).nunique().le(1).all()
    named = [question.names[code] for code in question.truth]
    assert named == list(truth.loc[question.image_ids])
    assert folds.groupby(named).nunique().ge(2).all()
    assert set(question.names) | question.left_out.keys() == set(truth)
    assert not set(question.names) & question.left_out.keys()
    one_group = {name for name, own in held.groupby(truth) if own.nunique() < 2}
    assert one_group <= question.left_out.keys()
    assert folds.nunique() <= probing.FOLDS


@settings(max_examples=50, deadline=None)
@given(pairs=GROUPED, seed=st.integers(0, 5))
def test_folds_know_neither_rows_nor_names(pairs, seed):
    """Shuffled rows and renamed classes and groups are held out in the same folds."""
    truth, groups = as_series(pairs)
    first = probing.ask(truth, groups, False, seed)
    order = np.random.default_rng(0).permutation(len(truth))
    renamed = truth.map({"c0": "z", "c1": "m", "c2": "a", "c3": "k"})
    second = probing.ask(renamed.iloc[order], "x" + groups.iloc[order].str[::-1], False, seed)
    assert list(first.image_ids) == list(second.image_ids)
    np.testing.assert_array_equal(first.folds, second.folds)
    np.testing.assert_array_equal(first.truth, second.truth)


def test_folds_are_stratified():
    """Each fold holds about a fifth of every class, the rare one included."""
    images, _ = make_cohort(0, n_groups=40, per_group=12)
    some = images["group"].str.endswith(("0", "5")) & (images["label"] == "class0")
    images.loc[some, "label"] = "rare"
    rows = images.set_index("image_id")
    question = probing.ask(rows["label"], rows["group"], False, 1)
    table = pd.crosstab(question.folds, question.truth, normalize="columns")
    assert table.shape == (5, 5)
    assert table.to_numpy().min() >= 0.1
    assert table.to_numpy().max() <= 0.3


def test_folds_are_of_one_size_where_groups_are_not():
    """Five large slides and twenty small ones fill five folds alike."""
    sizes = [30] * 5 + [2] * 20
    truth, groups = as_series([(0, g) for g, size in enumerate(sizes) for _ in range(size)])
    for seed in range(5):
        assert np.bincount(probing.ask(truth, groups, False, seed).folds).tolist() == [38] * 5


def test_a_class_of_two_groups_is_in_two_folds():
    """Two pure slides of a class never fall together, whatever else is dealt; one is left out."""
    for seed in range(20):
        pairs = [(0, g) for g in range(9) for _ in range(7)] + [(1, 20)] * 9 + [(1, 21)] * 4
        truth, groups = as_series([*pairs, (2, 30), (2, 30)])
        question = probing.ask(truth, groups, False, seed)
        folds = question.folds[question.truth == question.names.index("c1")]
        assert len(set(folds)) == 2
        assert list(question.left_out) == ["c2"]


# -- scores --------------------------------------------------------------------------------------


def test_discriminants_are_those_of_scikit_learn():
    """With classes of one size, the shrunk covariance is scikit-learn's."""
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 40)
    x = rng.normal(0, 1, (120, 9)) + rng.normal(0, 0.7, (3, 9))[truth]
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    asked = rng.normal(0, 1, (30, 9))
    oracle = LinearDiscriminantAnalysis("lsqr", shrinkage=probing.SHRINKAGE, priors=[1 / 3] * 3)
    expected = oracle.fit(x, truth).predict_proba(asked)
    np.testing.assert_allclose(probing._answer_linear(x, truth, asked, 3), expected, atol=1e-9)


def test_discriminants_bear_constant_measures():
    """Fewer images than measures, and measures that never change, are no failure."""
    x = np.full((6, 30), 0.1)  # whose mean is not 0.1 to the last digit
    x[:, 0] = [0, 1, 0.1, 1.1, 0, 1]
    truth = np.array([0, 1] * 3)
    asked = x[:2] + 5 * (np.arange(30) > 0)
    answers = probing._answer_linear(x, truth, asked, 2)
    np.testing.assert_array_equal(answers.argmax(axis=1), [0, 1])
    np.testing.assert_allclose(answers, probing._answer_linear(x, truth, x[:2], 2))
    still = probing._answer_linear(x * 0, truth, x[:2] * 0, 2)
    np.testing.assert_allclose(still, 0.5)


def test_a_class_of_one_picture_is_learnt_without_a_warning():
    """A lone picture has no spread: the answers are scikit-learn's, which would print of it."""
    rng = np.random.default_rng(0)
    truth = np.array([0] * 20 + [1] * 20 + [2])
    x = rng.normal(0, 1, (41, 5)) + truth[:, None]
    asked = rng.normal(1, 1, (10, 5))
    oracle = LinearDiscriminantAnalysis("lsqr", shrinkage=probing.SHRINKAGE, priors=[1 / 3] * 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = make_pipeline(StandardScaler(), oracle).fit(x, truth).predict_proba(asked)
    np.testing.assert_allclose(probing._answer_linear(x, truth, asked, 3), expected, atol=1e-9)


def test_together_is_the_mean_of_the_families_of_a_level():
    """`all` needs no model of its own; probabilities sum to 1."""
    images, measures = make_cohort(0, shortcut=1.0)
    rows = images.set_index("image_id")
    answers = probing.answer(probing.ask(rows["label"], rows["group"], False, 1), measures, 1)
    own = [answers["published", "colour"], answers["published", "size"]]
    np.testing.assert_allclose(answers["published", "all"], np.mean(own, axis=0))
    for probabilities in answers.values():
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)

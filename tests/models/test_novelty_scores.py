"""Scores of strangeness: their formulas, written out once more, and what they must tell."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from stages.core.params import InputsParams
from stages.models import novelty_scores, trained
from stages.models.recipes import ClassifierRecipe, NetworkRecipe, Step
from tests.made.lenets import CLASSES, LENET, MIDDLE, made_lenet

INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["none"], hide="nothing"
)


@pytest.fixture(scope="module")
def lenet():
    network = made_lenet("cell", MIDDLE)
    return trained.SingleModel(CLASSES, LENET, INPUTS, (32, 32, 3), network)


def draw(n=120, n_features=128, seed=0):
    """Three classes of features around three means."""
    rng = np.random.default_rng(seed)
    labels = np.array(CLASSES)[np.arange(n) % 3]
    return rng.normal(0, 1, (n, n_features)) + 6 * np.eye(n_features)[np.arange(n) % 3], labels


def test_the_energy_is_that_of_the_logits(lenet):
    """They are the logarithms of the probabilities, but for what each image has in common."""
    x = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    x[:, 14:20, 14:20] //= 4  # the middle, where the made network looks
    features = novelty_scores.extract(lenet, x)
    assert features.shape == (8, 128)
    known = novelty_scores.learn(*draw())
    energy = novelty_scores.measure(lenet, known, features)["energy"]
    kernel, bias = lenet.network.layers[-1].get_weights()
    logits = features @ kernel.astype(float) + bias
    shares = np.exp(logits + energy[:, None])  # exp(logit - log(sum of exp))
    np.testing.assert_allclose(shares, lenet.predict(x), atol=1e-6)
    assert np.ptp(energy) > 0.1


def test_distances_are_their_formulas(lenet):
    """Image by image: the smallest to a class less that to all; one minus the tenth cosine."""
    features, labels = draw()
    asked = draw(n=15, seed=1)[0] * 1.5
    known = novelty_scores.learn(features, labels)
    found = novelty_scores.measure(lenet, known, asked)
    for place, row in enumerate(asked):
        near = min(
            (row - features[labels == name].mean(axis=0))
            @ known.within
            @ (row - features[labels == name].mean(axis=0))
            for name in CLASSES
        )
        off = row - features.mean(axis=0)
        assert found["mahalanobis"][place] == pytest.approx(near - off @ known.overall @ off)
    nearest = NearestNeighbors(n_neighbors=10, metric="cosine").fit(features).kneighbors(asked)[0]
    np.testing.assert_allclose(found["neighbours"], nearest[:, -1], atol=1e-9)


@pytest.mark.parametrize("n_images", [60, 1200])
def test_both_covariances_have_the_same_ridge(n_images):
    """Fewer images than features, and more: without classes both are the same."""
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (n_images, 128))
    known = novelty_scores.learn(features, np.full(n_images, "one"))
    np.testing.assert_allclose(known.within, known.overall, rtol=1e-6)
    apart = novelty_scores.learn(*draw(n_images))
    across = np.eye(128)[0] - np.eye(128)[1]  # along which two classes lie apart
    assert across @ apart.within @ across > 3 * (across @ apart.overall @ across)
    aside = np.eye(128)[100]
    assert aside @ apart.within @ aside == pytest.approx(aside @ apart.overall @ aside, rel=0.1)


def test_what_lies_between_the_classes_is_strange_to_each_score(lenet):
    features, labels = draw(300)
    known = novelty_scores.learn(features, labels)
    usual, strange = draw(60, seed=2)[0], np.random.default_rng(3).normal(0, 1, (60, 128)) * 2
    for name in ("mahalanobis", "neighbours"):
        one, other = (novelty_scores.measure(lenet, known, rows)[name] for rows in (usual, strange))
        assert np.median(other) > np.quantile(one, 0.95), name


def test_features_that_never_move_and_few_images_are_no_fault(lenet):
    features = np.zeros((4, 128))
    features[:, 0] = [1, 2, 1, 2]
    known = novelty_scores.learn(features, np.array(["a", "b", "a", "b"]))
    for values in novelty_scores.measure(lenet, known, features).values():
        assert np.isfinite(values).all()


def test_a_classifier_has_no_logits_and_trees_no_features():
    single = NetworkRecipe(
        kind="network", network="lenet", size=32, steps=[Step()], then={"classifier": "svm"}
    )
    trees = ClassifierRecipe(kind="classifier", vectors="grey", classifier="knn", size=32)
    assert not trees.has_network
    assert set(novelty_scores.say_lacking({"model": single})) == {"energy"}
    assert set(novelty_scores.say_lacking({"model": single, "other": LENET})) == set()
    assert set(novelty_scores.say_lacking({})) == {"energy", "mahalanobis", "neighbours"}

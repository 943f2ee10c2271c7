"""Classifiers inside a graph answer as `classifiers` does, and walk no other way through a tree."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stages.core import backend
from stages.core.errors import ModelError
from stages.models import vector_graphs
from tests.made import clouds

NAMES = ["svm", "svm_pca", "knn", "knn_pca", "logistic", "logistic_l1", "forest", "extra_trees"]

LARGE = 2.0**100


def classify(classifier, x, exact=True):
    tf = backend.load_tensorflow()[1]
    return vector_graphs.classify(classifier, tf.constant(x), exact).numpy()


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_every_classifier_answers_as_it_was_trained(name, n_classes):
    """To a ten-millionth; in float32 to a ten-thousandth. With two classes two others stay at 0."""
    classifier, x = clouds.fitted(name, n_classes), clouds.new_rows(n_classes)
    expected = classifier.predict(x)
    exact = classify(classifier, x)
    assert exact.dtype == np.float32
    np.testing.assert_allclose(exact, expected, atol=3e-7)
    np.testing.assert_allclose(classify(classifier, x, exact=False), expected, atol=1e-4)


def test_far_rows_end_in_numbers():
    """Rows beyond everything that taught the classifier are held back as in training."""
    far = np.full((2, 6), 3e38, np.float32) * np.array([[1], [-1]], np.float32)
    for name in NAMES:
        expected = clouds.fitted(name).predict(far)
        np.testing.assert_allclose(classify(clouds.fitted(name), far), expected, atol=1e-6)


def test_a_row_as_near_to_two_neighbours_follows_the_first():
    """Of equally near training rows the first decides, in the graph as in training."""
    classifier = clouds.fitted("knn")
    stored = classifier.arrays | {"vectors": np.zeros_like(classifier.arrays["vectors"])}
    twins = dataclasses.replace(classifier, arrays=stored)
    x = clouds.new_rows()[:3]
    np.testing.assert_allclose(classify(twins, x), twins.predict(x), atol=1e-7)


@given(
    arrays.arrays(np.float64, 8, elements=st.floats(-LARGE, LARGE)),
    arrays.arrays(np.float32, 8, elements=st.floats(-LARGE, LARGE, width=32)),
)
def test_a_rounded_threshold_parts_the_same_values(thresholds, values):
    """What lies above a threshold of float64 lies above its float32, and nothing else does."""
    rounded = vector_graphs._round_down(thresholds)
    assert rounded.dtype == np.float32
    nearest = thresholds.astype(np.float32)
    for x in (values, nearest, np.nextafter(nearest, np.float32(np.inf))):
        np.testing.assert_array_equal(x > rounded, x > thresholds)


def test_the_walk_reaches_the_deepest_leaf():
    """One step fewer than the longest way, and rows end above their leaf."""
    chain = {
        "roots": np.array([0, 5]),
        "children": np.array([[1, 2], [1, 1], [3, 4], [3, 3], [4, 4], [5, 5]], np.int32),
    }
    assert vector_graphs._measure_depth(chain) == 2
    alone = {"roots": np.array([0]), "children": np.array([[0, 0]], np.int32)}
    assert vector_graphs._measure_depth(alone) == 0


def test_umap_is_refused_in_one_line():
    """A place in a UMAP is searched among stored rows; the way out is named."""
    made = clouds.fitted("logistic")
    settings = made.settings.model_copy(update={"reduce": "umap_supervised"})
    with pytest.raises(ModelError, match=r"reduce: umap_supervised.*Train with reduce: pca"):
        classify(dataclasses.replace(made, settings=settings), clouds.new_rows())

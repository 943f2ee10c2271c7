"""The networks that are trained: sizes as published, standardising that holds elsewhere."""

import numpy as np
import pytest

from stages.core import networks
from stages.core.errors import ModelError
from stages.core.params import HeadRecipe, PixelRecipe

LEARNING = {
    "learning_rate": 1e-3,
    "epochs": 2,
    "batch": 8,
    "patience": 1,
    "class_weights": "balanced",
}


def make_recipe(hidden=(5,), dropout=0.5, l2=0.1):
    """A small head."""
    return HeadRecipe(
        learns_from="features", hidden=list(hidden), dropout=dropout, l2=l2, **LEARNING
    )


@pytest.mark.parametrize(("n_classes", "n_weights"), [(11, 7_880_675), (8, 7_880_288)])
def test_lenet_has_the_published_number_of_weights(n_classes, n_weights):
    """At 256 px the counts are those of the earlier work's report."""
    network = networks.lenet(256, n_classes)
    assert network.count_params() == n_weights
    assert network.output_shape == (None, n_classes)


def test_lenet_scales_pixels_itself():
    """Raw 0..255 goes in; the first layer that computes sees 0..1."""
    network = networks.build(
        PixelRecipe(learns_from="pixels", network="lenet", size=32, **LEARNING), 3, 2
    )
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    assert network.input_shape == (None, 32, 32, 3)
    np.testing.assert_allclose(network.get_layer("rescale")(white), 1.0, rtol=1e-6)


def test_a_head_counts_two_stored_vectors_and_its_dense_layers():
    """7 means, 7 spreads, (7+1) x 5 and (5+1) x 3 weights; only the dense ones learn."""
    network = networks.build(make_recipe(), 7, 3)
    assert network.count_params() == 7 + 7 + 40 + 18
    assert sum(int(np.prod(weight.shape)) for weight in network.trainable_weights) == 58


def test_a_linear_head_has_one_dense_layer():
    """No hidden layer: features, standardised, to probabilities that sum to 1."""
    network = networks.build(make_recipe(hidden=()), 4, 3)
    assert network.count_params() == 8 + 15
    answer = network.predict_on_batch(np.ones((2, 4), np.float32))
    np.testing.assert_allclose(answer.sum(axis=1), 1.0, rtol=1e-6)


def test_l2_adds_the_squared_kernels_to_the_loss():
    """The penalty is l2 times the sum of squares of both kernels, not of the biases."""
    network = networks.build(make_recipe(), 7, 3)
    kernels = [
        layer.get_weights()[0]
        for layer in network.layers
        if "/kernel" in str([weight.path for weight in layer.weights])
    ]
    expected = 0.1 * sum(float(np.square(kernel).sum()) for kernel in kernels)
    assert len(kernels) == 2
    assert float(sum(network.losses)) == pytest.approx(expected, rel=1e-5)


def test_training_rows_come_out_with_mean_0_and_spread_1():
    """In training mode as in use: the layer never follows the batch."""
    x = np.random.default_rng(0).normal([5, -3], [2, 7], (5000, 2)).astype(np.float32)
    network = networks.build(make_recipe(), 2, 2)
    networks.standardise(network, x)
    layer = network.get_layer(networks.STANDARDISE)
    for training in (False, True):
        answer = np.asarray(layer(x, training=training))
        np.testing.assert_allclose(answer.mean(axis=0), 0.0, atol=1e-4)
        np.testing.assert_allclose(answer.std(axis=0), 1.0, atol=1e-4)
    one = np.asarray(layer(x[:1], training=True))
    np.testing.assert_allclose(one, (x[:1] - x.mean(0)) / x.std(0), rtol=1e-3)


def test_a_silent_feature_does_not_explode_at_another_hospital():
    """A feature without spread in training gets 1 % of the typical spread, not a division by 0."""
    x = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    x[:, 2] = 0
    network = networks.build(make_recipe(), 4, 2)
    networks.standardise(network, x)
    strange = np.array([[0, 0, 1, 0]], np.float32)
    answer = np.asarray(network.get_layer(networks.STANDARDISE)(strange))[0, 2]
    assert 100 < answer < 130


def test_constant_features_do_not_divide_by_zero():
    """Where nothing varies at all, differences are left as they are."""
    network = networks.build(make_recipe(), 2, 2)
    networks.standardise(network, np.full((3, 2), 4, np.float32))
    answer = np.asarray(network.get_layer(networks.STANDARDISE)(np.array([[5, 4]], np.float32)))
    assert answer.tolist() == [[1, 0]]


def test_features_that_are_no_numbers_are_refused():
    """NaN is found before the training, with the way out."""
    x = np.array([[1, 2], [np.nan, 3]], np.float32)
    with pytest.raises(ModelError, match=r"not finite.*features stages"):
        networks.standardise(networks.build(make_recipe(), 2, 2), x)

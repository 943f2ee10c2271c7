"""The networks that are trained: sizes as published, what learns and what not, where to cut."""

import numpy as np
import pytest

from stages.core import backend
from stages.core.errors import ModelError
from stages.models import networks
from stages.models.recipes import NetworkRecipe, Step


def make_recipe(network="lenet", **changes):
    """A network from pixels; only what it is built of matters here."""
    return NetworkRecipe(kind="network", network=network, size=32, steps=[Step()], **changes)


def build(network, n_classes=3, size=32, **changes):
    recipe = make_recipe(network, **changes)
    return recipe, networks.build(recipe, (size, size, 3), n_classes)


def learning(network):
    """Return the layers that have weights which learn."""
    return [layer.name for layer in network.layers if layer.trainable_weights]


# -- from scratch ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_classes", "n_weights"), [(11, 7_880_675), (8, 7_880_288)])
def test_lenet_has_the_published_number_of_weights(n_classes, n_weights):
    """At 256 px the counts are those of the earlier work's report."""
    _, network = build("lenet", n_classes, 256)
    assert networks.count_weights(network) == (n_weights, n_weights)
    assert network.output_shape == (None, n_classes)


@pytest.mark.parametrize("name", ["lenet", "plain_cnn"])
def test_networks_from_scratch_scale_pixels_themselves(name):
    """Raw 0..255 goes in; the first layer that computes sees 0..1; probabilities come out."""
    _, network = build(name)
    white = np.full((1, 32, 32, 3), 255, np.uint8)
    assert network.input_shape == (None, 32, 32, 3)
    np.testing.assert_allclose(network.get_layer("rescale")(white), 1.0, rtol=1e-6)
    np.testing.assert_allclose(network.predict_on_batch(white).sum(), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "layers"),
    [("lenet", ["conv_1", "conv_2", "hidden_1"]),
     ("plain_cnn", ["conv_1", "conv_2", "conv_3", "hidden_1", "hidden_2"])],
)  # fmt: skip
def test_activation_and_dropout_reach_the_layers(name, layers):
    """Every layer but the last has the recipe's activation; every dropout its rate."""
    _, network = build(name, activation="elu", dropout=0.35, hidden=[7, 5])
    active = {
        layer.name: layer.activation.__name__
        for layer in network.layers
        if hasattr(layer, "activation") and layer.weights
    }
    assert active == dict.fromkeys(layers, "elu") | {"probabilities": "softmax"}
    rates = [layer.rate for layer in network.layers if layer.name.startswith("dropout")]
    assert rates == [0.35] * (1 if name == "lenet" else 2)


def test_plain_cnn_has_three_blocks_and_the_given_dense_layers():
    """32 px: 4 x 4 x 128 values into hidden layers of the recipe's widths."""
    _, network = build("plain_cnn", hidden=[7, 5])
    convolutions = 3 * 9 * 32 + 32 + 32 * 9 * 64 + 64 + 64 * 9 * 128 + 128
    assert network.count_params() == convolutions + (2048 * 7 + 7) + (7 * 5 + 5) + (5 * 3 + 3)


# -- a backbone with a head ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "norms", "expected"),
    [
        ([], [], ["dropout", ""]),
        ([], ["input"], ["norm", "dropout", ""]),
        ([9], [], ["hidden_1", "dropout_1", ""]),
        ([9, 4], ["hidden"], ["hidden_1", "hidden_1_norm", "dropout_1", "hidden_2",
                              "hidden_2_norm", "dropout_2", ""]),
        ([9], ["input", "hidden"], ["norm", "hidden_1", "hidden_1_norm", "dropout_1", ""]),
    ],
)  # fmt: skip
def test_a_head_has_dense_norm_and_dropout_in_this_order(small_base, hidden, norms, expected):
    """As the published ViT heads: batch normalisation after Dense, dropout last."""
    _, network = build("vgg19", hidden=hidden, norms=norms, dropout=0.3, activation="gelu")
    names = [layer.name for layer in network.layers if layer.name.startswith("classifier")]
    assert names == [f"classifier_{name}".rstrip("_") for name in expected]
    widths = [network.get_layer(name).units for name in names if name.split("_")[-2:][0] == "hidden"
              and name[-1].isdigit()]  # fmt: skip
    assert widths == hidden
    for layer in network.layers:
        if "dropout" in layer.name:
            assert layer.rate == 0.3
        if layer.name.startswith("classifier_hidden") and hasattr(layer, "units"):
            assert layer.activation.__name__ == "gelu"
    assert network.layers[-1].activation.__name__ == "softmax"


def test_a_linear_head_starts_with_equal_chances(small_base):
    """It leaves the backbone alone at first; a head with hidden layers must not start at 0."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    _, linear = build("vgg19")
    np.testing.assert_allclose(linear.predict_on_batch(pixels), 1 / 3, rtol=1e-6)
    _, deep = build("vgg19", hidden=[4])
    assert np.ptp(deep.get_layer("classifier").get_weights()[0]) > 0.1


# -- what learns -----------------------------------------------------------------------------------

BASE = ["block1_conv", "block1_norm", "block2_conv", "block2_norm"]
HEAD = ["classifier_norm", "classifier_hidden_1", "classifier_hidden_1_norm", "classifier"]


@pytest.mark.parametrize(
    ("train", "weights", "expected"),
    [
        ("all", "none", BASE + HEAD),
        ("all", "imagenet", ["block1_conv", "block2_conv", *HEAD]),
        ("head", "imagenet", HEAD),
        ("head", "none", HEAD),
        ("block2", "imagenet", ["block2_conv", *HEAD]),
        ("block2", "none", ["block2_conv", "block2_norm", *HEAD]),
        ("block1_norm", "none", ["block1_norm", "block2_conv", "block2_norm", *HEAD]),
    ],
)
def test_what_learns(small_base, train, weights, expected):
    """The named part and all after it; of published weights no normalisation but the head's own."""
    recipe, network = build("vgg19", weights=weights, hidden=[4], norms=["input", "hidden"])
    for _ in range(2):  # also where another step has frozen other layers before
        networks.freeze(network, recipe, train)
        assert learning(network) == expected
        networks.freeze(network, recipe, "head")


def test_the_head_of_a_network_from_scratch_is_its_last_layer():
    recipe, network = build("lenet")
    networks.freeze(network, recipe, "head")
    assert learning(network) == ["probabilities"]
    networks.freeze(network, recipe, "hidden_1")
    assert learning(network) == ["hidden_1", "probabilities"]
    total, learns = networks.count_weights(network)
    assert learns == sum(network.get_layer(name).count_params() for name in learning(network))
    assert total == network.count_params() > learns


def test_leukopys_block_7_starts_with_block7a():
    """EfficientNet of Keras counts its blocks with letters."""
    recipe, network = build("efficientnetb0", weights="imagenet")
    networks.freeze(network, recipe, "block7")
    assert learning(network)[0].startswith("block7a_")
    assert not any(name.startswith("block6") for name in learning(network))


def chain(*names):
    """A network of dense layers with these names."""
    keras = backend.load_keras()
    x = start = keras.Input((2,), name="pixels")
    for name in names:
        x = keras.layers.Dense(2, name=name)(x)
    return keras.Model(start, x)


def test_block1_is_not_block10():
    """A name stands for what starts with it and goes on with a letter, never with a digit."""
    network = chain("block10_conv", "block1_conv", "end")
    networks.freeze(network, make_recipe(), "block1")
    assert learning(network) == ["block1_conv", "end"]
    with pytest.raises(ModelError, match=r"no layer or block 'block1'\..*'block10"):
        networks.freeze(chain("block10_conv", "block12_conv"), make_recipe(), "block1")


@pytest.mark.parametrize(
    ("asked", "near"), [("blok2", "'block2'"), ("block2_cnv", "'block2_conv'"), ("block", "block")]
)
def test_an_unknown_layer_is_named_with_the_nearest(small_base, asked, near):
    recipe, network = build("vgg19", weights="imagenet")
    with pytest.raises(ModelError, match=rf"no layer or block '{asked}'\. Did you mean .*{near}"):
        networks.freeze(network, recipe, asked)
    with pytest.raises(ModelError) as caught:
        networks.freeze(network, recipe, "zzz")
    assert "Did you mean" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Correct train in the recipe's steps" in str(caught.value)


# -- where to cut ----------------------------------------------------------------------------------


@pytest.mark.parametrize("train", ["head", "block2"])
@pytest.mark.parametrize("hidden", [[], [4]])
def test_trunk_and_tail_are_the_network(small_base, train, hidden):
    """Same numbers, the very same layers, nothing that learns in the trunk."""
    recipe, network = build("vgg19", weights="imagenet", hidden=hidden)
    network.get_layer("classifier").set_weights(
        [np.random.default_rng(1).normal(size=w.shape) for w in network.layers[-1].get_weights()]
    )
    networks.freeze(network, recipe, train)
    trunk, tail = networks.split(network)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    whole = network.predict_on_batch(pixels)
    assert np.ptp(whole) > 1e-4
    joined = tail.predict_on_batch(trunk.predict_on_batch(pixels))
    np.testing.assert_allclose(joined, whole, rtol=1e-5, atol=1e-7)
    own = {id(layer) for layer in network.layers}
    real = [layer for layer in tail.layers if "Input" not in type(layer).__name__]
    assert all(id(layer) in own for layer in real)
    assert len(tail.trainable_weights) == len(network.trainable_weights) > 0
    assert not trunk.trainable_weights
    assert any("dropout" in layer.name for layer in real)


def test_a_network_from_scratch_can_be_cut_too():
    recipe, network = build("lenet")
    networks.freeze(network, recipe, "hidden_1")
    trunk, tail = networks.split(network)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    joined = tail.predict_on_batch(trunk.predict_on_batch(pixels))
    np.testing.assert_allclose(joined, network.predict_on_batch(pixels), rtol=1e-5)
    assert [layer.name for layer in tail.layers[1:]] == ["hidden_1", "probabilities"]


def test_nothing_is_cut_where_the_first_layer_learns(small_base):
    recipe, network = build("vgg19", weights="imagenet")
    networks.freeze(network, recipe, "all")
    assert networks.split(network) is None
    # Rescaling in front of it costs nothing: there is nothing worth storing.
    networks.freeze(network, recipe, "block1")
    assert networks.split(network) is None


def bypassed(around):
    """A network whose first learning layer is passed by another path, or joins two."""
    keras = backend.load_keras()
    layers = keras.layers
    start = keras.Input((3,), name="pixels")
    frozen, other = (layers.Dense(3, name=name)(start) for name in ("a_frozen", "a_other"))
    if around:
        x = layers.Add(name="join")([layers.Dense(3, name="b_first")(frozen), other])
    else:
        x = layers.Concatenate(name="b_first")([frozen, other])
    return keras.Model(start, layers.Dense(2, name="end")(x))


@pytest.mark.parametrize("around", [True, False])
def test_a_network_without_a_single_edge_is_not_cut(around):
    network = bypassed(around)
    networks.freeze(network, make_recipe(), "b_first")
    assert learning(network)[-1] == "end"
    assert networks.split(network) is None


# -- its first hidden layer ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width"), [("lenet", 128), ("plain_cnn", 6), ("vgg19", 6)]
)  # fmt: skip
def test_the_first_hidden_layer_can_be_asked(small_base, name, width):
    _, network = build(name, hidden=[6, 4])
    part = networks.first_hidden(network)
    assert part.output_shape == (None, width)
    assert part.layers[-1] is network.get_layer(part.layers[-1].name)


def test_without_a_hidden_layer_nothing_can_follow(small_base):
    _, network = build("vgg19")
    with pytest.raises(ModelError, match=r"no hidden layer.*Give hidden a width, or take then out"):
        networks.first_hidden(network)

"""A backbone of two blocks in place of the published ones, built in no time."""

import numpy as np

from stages.core import backend
from stages.models import backbones


def build(name, size):
    """Two blocks of convolution and normalisation; the weights are drawn."""
    keras = backend.load_keras()
    layers = keras.layers
    pixels = keras.Input((size, size, 3), name="pixels")
    x = layers.Rescaling(1 / 255, name="rescale")(pixels)
    for block in (1, 2):
        x = layers.Conv2D(3 + block, 3, 2, name=f"block{block}_conv")(x)
        x = layers.BatchNormalization(name=f"block{block}_norm")(x)
        x = layers.ReLU(name=f"block{block}_relu")(x)
    return keras.Model(pixels, layers.GlobalAveragePooling2D(name="average")(x), name=name)


def load(network, name, weights_dir):
    """Its published weights: features that know red, green and blue, and little noise."""
    rng = np.random.default_rng(0)
    for block in (1, 2):
        layer = network.get_layer(f"block{block}_conv")
        kernel = rng.normal(0, 0.02, layer.kernel.shape)
        for channel in range(3):
            kernel[..., channel, channel] += 1 / 9
        layer.set_weights([kernel, np.zeros(layer.bias.shape)])


def put_in_place(setattr_):
    """Let every name of a backbone build it; `setattr_` is monkeypatch's, or Python's own."""
    setattr_(backbones, "_build", build)
    setattr_(backbones, "_load", load)

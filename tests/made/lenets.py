"""LeNets whose weights are set by hand: each looks at one place of the picture, and no other."""

import numpy as np

from stages.models import networks
from stages.models.recipes import NetworkRecipe, Step

CLASSES = ["basophil", "eosinophil", "monocyte"]
LENET = NetworkRecipe(kind="network", network="lenet", size=32, steps=[Step()])
STEEP = 50.0  # of the made models: a clear colour is called with a probability near 1
MIDDLE, CORNER = 3, 0  # places among the 6 x 6 that LeNet's second pooling leaves of 32 px


def made_lenet(looks_at, place, unsure=0.0):
    """Return a LeNet whose weights are set by hand, so that it looks at one place alone.

    Its first two filters give the darkness of red and of blue in one pixel; blue ground is
    darker in red. At the corner it calls by their difference, in the middle by darkness above
    that of any ground. What is neither gets no confident call.
    """
    network = networks.build(LENET, (32, 32, 3), len(CLASSES))
    for layer in network.layers:
        layer.set_weights([np.zeros_like(weight) for weight in layer.get_weights()])
    kernel, bias = network.get_layer("conv_1").get_weights()
    kernel[0, 0, 0, 0], kernel[0, 0, 2, 1], bias[:2] = -1, -1, 1
    network.get_layer("conv_1").set_weights([kernel, bias])
    kernel, bias = network.get_layer("conv_2").get_weights()
    kernel[0, 0, 0, 0] = kernel[0, 0, 1, 1] = 1
    network.get_layer("conv_2").set_weights([kernel, bias])
    kernel, bias = network.get_layer("hidden_1").get_weights()
    first = (place * 6 + place) * 16  # of the 16 channels there
    if looks_at == "ground":
        kernel[first : first + 2, :2] = STEEP * np.array([[1, -1], [-1, 1]])
    else:
        kernel[first : first + 2, :2], bias[:2] = STEEP * np.eye(2), -0.3 * STEEP
    network.get_layer("hidden_1").set_weights([kernel, bias])
    network.get_layer("probabilities").set_weights(call_by_two(128, unsure))
    return network


def call_by_two(n_hidden, unsure=0.0):
    """Weights of a last layer: the first hidden unit is for basophil, the second for monocyte.

    Where both are silent, `unsure` above 0 calls eosinophil.
    """
    kernel = np.zeros((n_hidden, len(CLASSES)), np.float32)
    kernel[0, 0] = kernel[1, 2] = 1
    return [kernel, np.array([0, unsure, 0], np.float32)]

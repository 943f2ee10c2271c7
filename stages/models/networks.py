"""The networks that are trained: from scratch, or a backbone with a head."""

from typing import Any

import numpy as np

from stages.core import backend
from stages.core.errors import ModelError, did_you_mean
from stages.models import backbones
from stages.models.recipes import NetworkRecipe

CLASSIFIER = "classifier"  # every layer of a backbone's head has this at the start of its name
PLAIN_CNN_FILTERS = (32, 64, 128)


def build(
    recipe: NetworkRecipe,
    shape: tuple[int, ...],
    n_classes: int,
    weights_dir: str | None = None,
    pretrained: bool = False,
) -> Any:
    """Build the network that a recipe names.

    Parameters
    ----------
    recipe : NetworkRecipe
        What to build.
    shape : tuple of int
        Of one input: (size, size, 3).
    n_classes : int
        Number of classes.
    weights_dir : str, optional
        Folder with published weights; see `backbones.build`.
    pretrained : bool
        Fill in the published weights that the recipe names. Without, every weight is random:
        enough to count, or to load a model that was trained here.

    Returns
    -------
    keras.Model
        Not compiled; gives probabilities of shape (n_rows, n_classes), float32. Its random start
        follows the seed that was set last.

    Raises
    ------
    ModelError
        The network cannot be built at that size, or its weights cannot be had.
    """
    if recipe.network == "lenet":
        return lenet(recipe, shape[0], n_classes)
    if recipe.network == "plain_cnn":
        return plain_cnn(recipe, shape[0], n_classes)
    weights = recipe.weights if pretrained else "none"
    base = backbones.build(recipe.network, shape[0], weights, weights_dir)
    return _put_head_on(base, recipe, n_classes)


def lenet(recipe: NetworkRecipe, size: int, n_classes: int) -> Any:
    """Build the LeNet that earlier work trained on the images of Barcelona.

    Parameters
    ----------
    recipe : NetworkRecipe
        Its activation and dropout.
    size : int
        Side of the square input, px.
    n_classes : int
        Number of classes.

    Returns
    -------
    keras.Model
        Takes RGB 0..255 of shape (n_images, size, size, 3); the division by 255 is inside. At
        256 px it has 7 880 675 weights for 11 classes and 7 880 288 for 8.

    Notes
    -----
    It is kept as it was published (valid convolutions, one dropout, no batch normalisation),
    because it is here to be compared with. Nearly all weights sit in the first dense layer.
    """
    keras = backend.load_keras()
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((size, size, 3), name="pixels"),
            layers.Rescaling(1 / 255, name="rescale"),
            layers.Conv2D(30, 5, activation=recipe.activation, name="conv_1"),
            layers.MaxPooling2D(2, name="pool_1"),
            layers.Conv2D(16, 3, activation=recipe.activation, name="conv_2"),
            layers.MaxPooling2D(2, name="pool_2"),
            layers.Dropout(recipe.dropout, name="dropout"),
            layers.Flatten(name="flatten"),
            layers.Dense(128, activation=recipe.activation, name="hidden_1"),
            layers.Dense(n_classes, activation="softmax", dtype="float32", name="probabilities"),
        ],
        name="lenet",
    )


def plain_cnn(recipe: NetworkRecipe, size: int, n_classes: int) -> Any:
    """Build a plain convolutional network: three blocks of convolution and pooling, dense layers.

    Parameters
    ----------
    recipe : NetworkRecipe
        ``hidden``: widths of the dense layers; activation and dropout.
    size : int
        Side of the square input, px.
    n_classes : int
        Number of classes.

    Returns
    -------
    keras.Model
        Takes RGB 0..255; the division by 255 is inside.

    Notes
    -----
    PyCell names a plain CNN, but none of its layers: these are what an introduction to
    convolutional networks has.
    """
    keras = backend.load_keras()
    layers = keras.layers
    stack = [keras.Input((size, size, 3), name="pixels"), layers.Rescaling(1 / 255, name="rescale")]
    for number, filters in enumerate(PLAIN_CNN_FILTERS, 1):
        stack.append(
            layers.Conv2D(
                filters, 3, padding="same", activation=recipe.activation, name=f"conv_{number}"
            )
        )
        stack.append(layers.MaxPooling2D(2, name=f"pool_{number}"))
    stack.append(layers.Flatten(name="flatten"))
    for number, width in enumerate(recipe.hidden, 1):
        stack.append(layers.Dense(width, activation=recipe.activation, name=f"hidden_{number}"))
        stack.append(layers.Dropout(recipe.dropout, name=f"dropout_{number}"))
    stack.append(layers.Dense(n_classes, "softmax", dtype="float32", name="probabilities"))
    # At once: what is added one by one forgets the input, and could not be cut in two.
    return keras.Sequential(stack, name="plain_cnn")


def _put_head_on(base: Any, recipe: NetworkRecipe, n_classes: int) -> Any:
    """Append dense layers with dropout, and normalisations where the recipe wants them."""
    keras = backend.load_keras()
    layers = keras.layers
    x = base.output
    if "input" in recipe.norms:
        x = layers.BatchNormalization(name=f"{CLASSIFIER}_norm")(x)
    for number, width in enumerate(recipe.hidden, 1):
        x = layers.Dense(width, activation=recipe.activation, name=f"{CLASSIFIER}_hidden_{number}")(
            x
        )
        if "hidden" in recipe.norms:
            x = layers.BatchNormalization(name=f"{CLASSIFIER}_hidden_{number}_norm")(x)
        x = layers.Dropout(recipe.dropout, name=f"{CLASSIFIER}_dropout_{number}")(x)
    if not recipe.hidden:
        x = layers.Dropout(recipe.dropout, name=f"{CLASSIFIER}_dropout")(x)
    # A linear head that starts at 0 calls all classes equally likely, and leaves the backbone's
    # weights alone until it has learnt something.
    start = "glorot_uniform" if recipe.hidden else "zeros"
    x = layers.Dense(
        n_classes, "softmax", kernel_initializer=start, dtype="float32", name=CLASSIFIER
    )(x)
    return keras.Model(base.input, x, name=recipe.network)


def freeze(network: Any, recipe: NetworkRecipe, train: str) -> None:
    """Say which layers learn, and leave all before them as they are.

    Parameters
    ----------
    network : keras.Model
        What `build` returned; changed in place. Compile it afterwards: a compiled network may
        go on as before.
    recipe : NetworkRecipe
        Where its weights are published ones, the backbone's batch normalisations never learn:
        their statistics belong to ImageNet's millions, and a batch of 32 cells would undo them.
    train : str
        ``"all"``, ``"head"``, or a layer or block: that one learns and everything after it.

    Raises
    ------
    ModelError
        The network has no such layer.
    """
    keras = backend.load_keras()
    names = [layer.name for layer in network.layers]
    first = 0 if train == "all" else _find_layer(names, train)
    for place, layer in enumerate(network.layers):
        is_norm = isinstance(layer, keras.layers.BatchNormalization)
        keeps = recipe.weights != "none" and is_norm and not layer.name.startswith(CLASSIFIER)
        layer.trainable = place >= first and not keeps


def _find_layer(names: list[str], train: str) -> int:
    """Return the place of a layer, or of the first one of a block or of the head."""
    if train == "head":
        found = [i for i, name in enumerate(names) if name.startswith(CLASSIFIER)]
        return found[0] if found else len(names) - 1
    for place, name in enumerate(names):
        if name == train or name.startswith(f"{train}_"):
            return place
    for place, name in enumerate(names):  # block7 of EfficientNet starts with block7a_
        if name.startswith(train) and not name[len(train)].isdigit():
            return place
    blocks = sorted({name.split("_")[0] for name in names}, key=len)
    hint = did_you_mean(train, [*names, *blocks], 3, 0.5)
    raise ModelError(
        f"the network has no layer or block {train!r}.{hint} Correct train in the recipe's steps; "
        "it takes all, head, or a layer's name or its start."
    )


def split(network: Any) -> tuple[Any, Any] | None:
    """Cut a network in front of its first layer that learns.

    Parameters
    ----------
    network : keras.Model
        After `freeze`.

    Returns
    -------
    trunk, tail : keras.Model
        Parts of the network, with its very layers: what the tail learns, the network knows. The
        trunk holds nothing that learns, and its answers can be stored. None where the first layer
        learns already, or where the network has no single tensor to be cut at.
    """
    keras = backend.load_keras()
    place = next(i for i, layer in enumerate(network.layers) if layer.trainable)
    if not any(layer.weights for layer in network.layers[:place]):
        return None
    edge = network.layers[place].input
    if isinstance(edge, list | tuple):
        return None
    try:
        return keras.Model(network.inputs[0], edge), keras.Model(edge, network.outputs[0])
    except ValueError:  # another path leads around the edge
        return None


def count_weights(network: Any) -> tuple[int, int]:
    """Return the number of all weights, and of those that learn."""
    learning = sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)
    return int(network.count_params()), learning


def first_hidden(network: Any) -> Any:
    """Return the part of a network up to the output of its first hidden dense layer.

    Raises
    ------
    ModelError
        It has none.
    """
    keras = backend.load_keras()
    for layer in network.layers:
        if layer.name in ("hidden_1", f"{CLASSIFIER}_hidden_1"):
            return keras.Model(network.inputs[0], layer.output)
    raise ModelError(
        "the recipe has no hidden layer whose output its classifier (then) could learn from. "
        "Give hidden a width, or take then out."
    )

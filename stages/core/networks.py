"""The networks that are trained: LeNet on pixels, and a head on stored features."""

from typing import Any

import numpy as np

from stages.core import frameworks
from stages.core.errors import ModelError
from stages.core.params import HeadRecipe, PixelRecipe

STANDARDISE = "standardise"
SMALLEST_SPREAD = 0.01  # of the typical spread of a feature; see standardise
ROWS_AT_ONCE = 4096  # the float64 copy of so many rows is small


def build(recipe: HeadRecipe | PixelRecipe, n_features: int, n_classes: int) -> Any:
    """Build the network that a recipe names.

    Parameters
    ----------
    recipe : HeadRecipe or PixelRecipe
        What to build.
    n_features : int
        Length of one row of features; not used where the recipe learns from pixels.
    n_classes : int
        Number of classes.

    Returns
    -------
    keras.Model
        Not compiled; gives probabilities of shape (n_rows, n_classes). Its random start follows
        the seed that was set last.
    """
    if isinstance(recipe, HeadRecipe):
        return head(n_features, n_classes, recipe)
    return lenet(recipe.size, n_classes)


def lenet(size: int, n_classes: int) -> Any:
    """Build the LeNet that earlier work trained on the pictures of Barcelona.

    Parameters
    ----------
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
    keras = frameworks.load_keras()
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((size, size, 3), name="pixels"),
            layers.Rescaling(1 / 255, name="rescale"),
            layers.Conv2D(30, 5, activation="relu", name="conv_1"),
            layers.MaxPooling2D(2, name="pool_1"),
            layers.Conv2D(16, 3, activation="relu", name="conv_2"),
            layers.MaxPooling2D(2, name="pool_2"),
            layers.Dropout(0.2, name="dropout"),
            layers.Flatten(name="flatten"),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dense(n_classes, activation="softmax", name="probabilities"),
        ],
        name="lenet",
    )


def head(n_features: int, n_classes: int, recipe: HeadRecipe) -> Any:
    """Build a classifier of feature vectors: standardise, hidden layers, probabilities.

    Parameters
    ----------
    n_features : int
        Length of one vector.
    n_classes : int
        Number of classes.
    recipe : HeadRecipe
        ``hidden`` gives the width of each hidden layer (none: a linear model), ``dropout`` stands
        between hidden layers and before the last one, ``l2`` is the weight of the squared
        kernels in the loss.

    Returns
    -------
    keras.Model
        Takes float32 of shape (n_rows, n_features). `standardise` fits its first layer.

    Notes
    -----
    The standardising layer is a batch normalisation that never learns: it then subtracts a
    stored mean and divides by a stored spread, in training as in use, and its two vectors are
    ordinary weights, which are saved and loaded with the others.
    """
    keras = frameworks.load_keras()
    layers = keras.layers
    features = keras.Input((n_features,), name="features")
    x = layers.BatchNormalization(
        center=False, scale=False, epsilon=0.0, trainable=False, name=STANDARDISE
    )(features)
    penalty = keras.regularizers.L2(recipe.l2) if recipe.l2 else None
    for number, width in enumerate(recipe.hidden, 1):
        if number > 1:
            x = layers.Dropout(recipe.dropout, name=f"dropout_{number - 1}")(x)
        x = layers.Dense(
            width, activation="relu", kernel_regularizer=penalty, name=f"hidden_{number}"
        )(x)
    x = layers.Dropout(recipe.dropout, name="dropout")(x)
    x = layers.Dense(
        n_classes, activation="softmax", kernel_regularizer=penalty, name="probabilities"
    )(x)
    return keras.Model(features, x, name="head")


def standardise(network: Any, x: np.ndarray) -> None:
    """Set mean and spread of a head's first layer to those of the training rows.

    Parameters
    ----------
    network : keras.Model
        What `head` returned; changed in place.
    x : numpy.ndarray, shape (n_rows, n_features)
        Features of the training part, and of no other.

    Raises
    ------
    ModelError
        A feature is not finite.

    Notes
    -----
    A feature that is silent in the training hospitals (spread near 0) may speak at another one;
    divided by its own tiny spread it would drown all others. So no spread counts as smaller than
    1 % of the typical one (the root of the mean variance).
    """
    mean = x.mean(axis=0, dtype=np.float64)
    total = np.zeros_like(mean)
    for start in range(0, len(x), ROWS_AT_ONCE):
        total += np.square(x[start : start + ROWS_AT_ONCE] - mean).sum(axis=0)
    variance = total / len(x)
    if not np.isfinite(variance).all():
        raise ModelError(
            "features of the training part hold numbers that are not finite. "
            "Run 'uv run dvc repro -f' on the features stages of the training hospitals."
        )
    floor = SMALLEST_SPREAD**2 * variance.mean()
    spread = np.maximum(variance, floor) if floor > 0 else np.ones_like(variance)
    network.get_layer(STANDARDISE).set_weights([mean, spread])

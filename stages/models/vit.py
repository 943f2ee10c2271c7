"""Vision transformers ViT-B/16 and ViT-B/32, and their weights under Google's names or ours."""

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy import ndimage

from stages.core import backend
from stages.core.errors import ModelError

PATCHES = {"vit_b16": 16, "vit_b32": 32}
N_BLOCKS = 12
WIDTH = 768
N_HEADS = 12
EPSILON = 1e-6
THEIR_TOP = ("head/", "pre_logits/")
POSITIONS = "tokens/positions"


def build(name: str, size: int) -> Any:
    """Build the transformer with drawn weights.

    Parameters
    ----------
    name : str
        A name of `PATCHES`.
    size : int
        Side of the square input, px; a multiple of the patch's side.

    Returns
    -------
    keras.Model
        Takes pictures of shape (n_images, size, size, 3), RGB, 0..255; gives the class token
        after the last normalisation, shape (n_images, 768). Layers: ``patches``, ``tokens``
        (class token and positions), ``block0_...`` to ``block11_...``, ``norm``. Between two
        blocks lies one tensor: the tokens, shape (n_images, n_patches + 1, 768).

    Raises
    ------
    ModelError
        The patches do not fill the picture.

    Notes
    -----
    The network of [1]_: pixels as p / 127.5 - 1, normalisation before attention and before the
    perceptron, GELU by its tanh formula, as in the code that the published weights come from.

    References
    ----------
    .. [1] A. Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image
       Recognition at Scale", ICLR 2021.
    """
    patch = PATCHES[name]
    if size % patch:
        raise ModelError(
            f"{name}: size is {size} px; it takes multiples of {patch}. "
            f"Set size to {size // patch * patch} or {(size // patch + 1) * patch} in params.yaml."
        )
    keras = backend.load_keras()
    pixels = keras.Input((size, size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0, dtype="float32", name="rescale")(pixels)
    x = keras.layers.Conv2D(WIDTH, patch, patch, name="patches")(x)
    n_patches = (size // patch) ** 2
    x = keras.layers.Reshape((n_patches, WIDTH), name="row")(x)
    x = _token_layer()(name="tokens")(x)
    for number in range(N_BLOCKS):
        x = _add_block(x, f"block{number}")
    x = keras.layers.LayerNormalization(epsilon=EPSILON, name="norm")(x)
    x = keras.layers.Cropping1D((0, n_patches), name="class_token")(x)
    return keras.Model(pixels, keras.layers.Flatten(name="vector")(x), name=name)


def _add_block(x: Any, name: str) -> Any:
    """Append one encoder block: attention among the tokens, then a perceptron on each."""
    keras = backend.load_keras()
    layers = keras.layers
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm1")(x)
    y = layers.MultiHeadAttention(N_HEADS, WIDTH // N_HEADS, name=f"{name}_attention")(y, y)
    x = layers.Add(name=f"{name}_add1")([x, y])
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm2")(x)
    y = layers.Dense(4 * WIDTH, name=f"{name}_expand")(y)
    y = keras.ops.gelu(y, approximate=True)
    y = layers.Dense(WIDTH, name=f"{name}_project")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


@functools.cache
def _token_layer() -> Any:
    """Return the class of the layer ``tokens``; Keras has none like it."""
    keras = backend.load_keras()

    class Tokens(keras.layers.Layer):  # type: ignore[misc, name-defined]
        """Puts the class token before the patches and adds the positions."""

        def build(self, shape: tuple[int, int, int]) -> None:
            n_patches, width = shape[1:]
            self.cls = self.add_weight(name="cls", shape=(1, 1, width), initializer="zeros")
            self.positions = self.add_weight(
                name="positions",
                shape=(1, n_patches + 1, width),
                initializer=keras.initializers.RandomNormal(stddev=0.02),
            )

        def call(self, patches: Any) -> Any:
            n_images = keras.ops.shape(patches)[0]
            token = keras.ops.broadcast_to(self.cls, (n_images, 1, patches.shape[-1]))
            return keras.ops.concatenate([token, patches], axis=1) + self.positions

    return Tokens


def translate(arrays: Mapping[str, np.ndarray], size: int, patch: int) -> dict[str, np.ndarray]:
    """Name arrays as the layers here are named, and stretch the positions to the picture.

    Parameters
    ----------
    arrays : mapping of str to numpy.ndarray
        By Google's names (``Transformer/encoderblock_0/LayerNorm_0/scale``) or by ours
        (``block0_norm1/gamma``).
    size, patch : int
        Side of the network's input and of a patch, px.

    Returns
    -------
    dict of str to numpy.ndarray
        By our names; what is no part of the network keeps its name, and a top is left out.

    Raises
    ------
    ValueError
        The positions are not those of a square picture and a class token.
    """
    ours = dict(_names())
    given = {
        ours.get(name, name): array
        for name, array in arrays.items()
        if not name.startswith(THEIR_TOP)
    }
    if POSITIONS in given:
        given[POSITIONS] = stretch(given[POSITIONS], size // patch)
    return given


def stretch(positions: np.ndarray, side: int) -> np.ndarray:
    """Interpolate position embeddings linearly to another grid of patches.

    Parameters
    ----------
    positions : numpy.ndarray, shape (1, n_patches + 1, width)
        The first belongs to the class token and stays.
    side : int
        Of the wanted square grid, patches.

    Returns
    -------
    numpy.ndarray, shape (1, side * side + 1, width)

    Raises
    ------
    ValueError
        The patches are not a square grid.
    """
    if positions.ndim != 3 or positions.shape[0] != 1 or positions.shape[1] < 2:
        raise ValueError(f"the position embeddings have shape {positions.shape}")
    token, grid = positions[:, :1], positions[0, 1:]
    given = math.isqrt(len(grid))
    if given * given != len(grid):
        raise ValueError(f"{len(grid)} position embeddings are not those of a square picture")
    if given == side:
        return positions
    # As the published fine-tuning code does it: the corners stay the corners.
    zoom = (side / given, side / given, 1)
    grid = ndimage.zoom(grid.reshape(given, given, -1), zoom, order=1)
    return np.concatenate([token, grid.reshape(1, side * side, -1)], axis=1)


def _names() -> Iterator[tuple[str, str]]:
    """Yield Google's name of each array and ours."""
    yield "cls", "tokens/cls"
    yield "Transformer/posembed_input/pos_embedding", POSITIONS
    layers = {"embedding": "patches"}
    norms = {"Transformer/encoder_norm": "norm"}
    for number in range(N_BLOCKS):
        theirs, ours = f"Transformer/encoderblock_{number}", f"block{number}"
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            layers[f"{attention}/{part}"] = f"{ours}_attention/{part}"
        layers[f"{attention}/out"] = f"{ours}_attention/attention_output"
        layers[f"{theirs}/MlpBlock_3/Dense_0"] = f"{ours}_expand"
        layers[f"{theirs}/MlpBlock_3/Dense_1"] = f"{ours}_project"
        norms[f"{theirs}/LayerNorm_0"] = f"{ours}_norm1"
        norms[f"{theirs}/LayerNorm_2"] = f"{ours}_norm2"
    for theirs, ours in layers.items():
        yield f"{theirs}/kernel", f"{ours}/kernel"
        yield f"{theirs}/bias", f"{ours}/bias"
    for theirs, ours in norms.items():
        yield f"{theirs}/scale", f"{ours}/gamma"
        yield f"{theirs}/bias", f"{ours}/beta"

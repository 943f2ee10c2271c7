"""The network that outlines cell and nucleus, in whole numbers: the same bits on every processor.

Its weights, ``outline_network.npz`` beside this file, are ours: ``python -m
stages.tools.train_outlines`` draws smears, learns from them alone, and writes the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.uint8]
Maps = NDArray[np.float32]  # whole numbers 0..127, as floats: BLAS multiplies nothing else fast

WEIGHTS = Path(__file__).with_name("outline_network.npz")
SIDE = 160  # px, of what it looks at; its answer has half as many
OD_UNIT = 42  # levels of one optical density in what it looks at
CLEAR = 8  # level of the background
MOST = 127  # the highest level, also of what lies between two layers
EVEN = 128  # in the answer: as likely inside as outside
SHIFT = 24  # fractions of a level while sums are scaled


@dataclass(frozen=True)
class Layer:
    """A convolution in whole numbers.

    Attributes
    ----------
    weights : numpy.ndarray of int8, shape (n_taps * n_inputs, n_outputs)
        Rows by tap (row by row), then by input.
    scales, biases : numpy.ndarray of int64, shape (n_outputs,)
        What a sum is multiplied by, and what is added then, in 2 ** -SHIFT levels.
    """

    weights: NDArray[np.int8]
    scales: NDArray[np.int64]
    biases: NDArray[np.int64]


def answer(levels: Levels, layers: Sequence[Layer]) -> Levels:
    """Outline one picture.

    Parameters
    ----------
    levels : numpy.ndarray of uint8, shape (SIDE, SIDE, 3)
        Optical density of each channel, `OD_UNIT` levels for one, and `CLEAR` for none.
    layers : sequence of Layer, length 13

    Returns
    -------
    numpy.ndarray of uint8, shape (SIDE / 2, SIDE / 2, 2)
        Cell and nucleus: 16 (logarithm of the odds) + `EVEN`.

    Notes
    -----
    A U-Net [1]_ of four scales, 16 to 64 channels. Levels lie in 0..127 and weights in -127..127,
    so that each sum of up to 1,000 products is a whole number below 2 ** 24: floats hold it
    exactly, in whatever order a processor adds.

    References
    ----------
    .. [1] O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image
       Segmentation", MICCAI 2015.
    """
    weights = iter(layers)

    def convolve(*maps: Maps, stride: int = 1) -> Maps:
        x = maps[0] if len(maps) == 1 else np.concatenate(maps, axis=-1)
        taken = _windows(x, stride)
        sums = _apply(taken, next(weights))
        height, width = x.shape[0] // stride, x.shape[1] // stride
        return np.clip(sums, 0, MOST).astype(np.float32).reshape(height, width, -1)

    fine = convolve(convolve(levels.astype(np.float32) - CLEAR, stride=2))
    middle = convolve(convolve(fine, stride=2))
    coarse = convolve(convolve(middle, stride=2))
    whole = convolve(convolve(convolve(coarse, stride=2)))
    joined = convolve(_double(whole), coarse)
    joined = convolve(_double(joined), middle)
    joined = convolve(_double(joined), fine)
    odds = _apply(joined.reshape(-1, joined.shape[-1]), next(weights))
    half = SIDE // 2
    return np.clip(odds + EVEN, 0, 255).astype(np.uint8).reshape(half, half, -1)


@cache
def load(path: Path = WEIGHTS) -> tuple[Layer, ...]:
    """Read the layers."""
    with np.load(path, allow_pickle=False) as arrays:
        n_layers = len(arrays.files) // 3
        return tuple(
            Layer(*(arrays[f"{name}_{number}"] for name in ("weights", "scales", "biases")))
            for number in range(n_layers)
        )


def save(path: Path, layers: Sequence[Layer]) -> None:
    """Write the layers; as small as they can be, since the file lies in Git."""
    arrays = {
        f"{name}_{number}": value
        for number, layer in enumerate(layers)
        for name, value in vars(layer).items()
    }
    np.savez_compressed(path, allow_pickle=False, **arrays)


def _windows(x: Maps, stride: int) -> Maps:
    """Return the 3 x 3 neighbourhoods, one a row; beyond the border lies the background.

    With a stride of 2 the border is added below and right alone, as Keras pads even sides.
    """
    height, width, n_maps = x.shape
    padded = np.zeros((height + 2, width + 2, n_maps), np.float32)
    first = 0 if stride == 2 else 1
    padded[first : first + height, first : first + width] = x
    rows, columns = height // stride, width // stride
    down, across, deep = padded.strides
    seen = np.lib.stride_tricks.as_strided(
        padded,
        (rows, columns, 3, 3, n_maps),
        (down * stride, across * stride, down, across, deep),
        writeable=False,
    )
    return seen.reshape(rows * columns, 9 * n_maps)


def _apply(taken: Maps, layer: Layer) -> NDArray[np.int64]:
    sums = (taken @ layer.weights.astype(np.float32)).astype(np.int64)
    return (sums * layer.scales + layer.biases + (1 << (SHIFT - 1))) >> SHIFT


def _double(x: Maps) -> Maps:
    return x.repeat(2, axis=0).repeat(2, axis=1)

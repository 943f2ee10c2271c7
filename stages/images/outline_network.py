"""The network that outlines cell and nucleus, in whole numbers: the same bits on every processor.

Its weights, ``outline_network.npz`` beside this file, are ours: ``python -m
stages.tools.train_outlines`` draws smears, learns from them alone, and writes the file.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import PipelineError

Levels = NDArray[np.uint8]
Maps = NDArray[np.float32]  # whole numbers 0..127, as floats: BLAS multiplies nothing else fast

WEIGHTS = Path(__file__).with_name("outline_network.npz")
SIDE = 160  # px, of what it looks at; its answer has half as many
OD_UNIT = 42  # levels of one optical density in what it looks at
CLEAR = 8  # level of the background
MOST = 127  # the highest level, also of what lies between two layers
EVEN = 128  # in the answer: as likely inside as outside
ODDS_UNIT = 16  # levels of the answer for one in the logarithm of the odds
N_LAYERS = 13
SHIFT = 24  # fractions of a level while sums are scaled
# What a zip may raise beside its own errors: a changed byte can ask for a password, or for a
# method that is not there (RuntimeError).
DAMAGED = (OSError, EOFError, ValueError, KeyError, RuntimeError)


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
    layers : sequence of Layer, length N_LAYERS

    Returns
    -------
    numpy.ndarray of uint8, shape (SIDE / 2, SIDE / 2, 2)
        Cell and nucleus: `ODDS_UNIT` (logarithm of the odds) + `EVEN`, the mean of the four ways
        to mirror the picture, rounded. So a mirrored picture gets the mirrored answer.
    """
    half = SIDE // 2
    total = np.zeros((half, half, 2), np.int32)
    for down in (1, -1):
        for across in (1, -1):
            total += ask(levels[::down, ::across], layers)[::down, ::across]
    return ((total + 2) // 4).astype(np.uint8)


def ask(levels: Levels, layers: Sequence[Layer]) -> Levels:
    """Return what the network says of one picture as it lies.

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
    following = iter(layers)

    def convolve(*maps: Maps, stride: int = 1) -> Maps:
        x = maps[0] if len(maps) == 1 else np.concatenate(maps, axis=-1)
        levels_out = _convolve(x, next(following), stride)
        return np.clip(levels_out, 0, MOST).astype(np.float32)

    fine = convolve(convolve(levels.astype(np.float32) - CLEAR, stride=2))
    middle = convolve(convolve(fine, stride=2))
    coarse = convolve(convolve(middle, stride=2))
    whole = convolve(convolve(convolve(coarse, stride=2)))
    joined = convolve(_double(whole), coarse)
    joined = convolve(_double(joined), middle)
    joined = convolve(_double(joined), fine)
    last = next(following)
    odds = _scale(joined @ last.weights.astype(np.float32), last)
    return np.clip(odds + EVEN, 0, 255).astype(np.uint8)


@cache
def load(path: Path = WEIGHTS) -> tuple[Layer, ...]:
    """Read the layers.

    Raises
    ------
    PipelineError
        The file is missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return tuple(
                Layer(*(arrays[f"{name}_{number}"] for name in ("weights", "scales", "biases")))
                for number in range(N_LAYERS)
            )
    except (*DAMAGED, zipfile.BadZipFile, zlib.error) as error:
        raise PipelineError(
            f"{path} is missing or damaged ({type(error).__name__}). Without it no cell is "
            f"outlined; 'git restore {path}' brings it back."
        ) from None


def save(path: Path, layers: Sequence[Layer]) -> None:
    """Write the layers; as small as they can be, since the file lies in Git."""
    arrays = {
        f"{name}_{number}": value
        for number, layer in enumerate(layers)
        for name, value in vars(layer).items()
    }
    np.savez_compressed(path, allow_pickle=False, **arrays)


def _convolve(x: Maps, layer: Layer, stride: int) -> NDArray[np.int64]:
    """Sum over 3 x 3 neighbourhoods, tap by tap; beyond the border lies the background.

    With a stride of 2 the border is added below and right alone, as Keras pads even sides.
    """
    height, width, n_maps = x.shape
    padded = np.zeros((height + 2, width + 2, n_maps), np.float32)
    first = 0 if stride == 2 else 1
    padded[first : first + height, first : first + width] = x
    taps = layer.weights.reshape(3, 3, n_maps, -1).astype(np.float32)
    sums = np.zeros((height // stride, width // stride, taps.shape[-1]), np.float32)
    for down in range(3):
        for across in range(3):
            seen = padded[down : down + height : stride, across : across + width : stride]
            sums += seen @ taps[down, across]
    return _scale(sums, layer)


def _scale(sums: Maps, layer: Layer) -> NDArray[np.int64]:
    return (sums.astype(np.int64) * layer.scales + layer.biases + (1 << (SHIFT - 1))) >> SHIFT


def _double(x: Maps) -> Maps:
    return x.repeat(2, axis=0).repeat(2, axis=1)

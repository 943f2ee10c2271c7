"""Optical density: how much light of each channel the stain takes away."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MEASURE_UNIT = 4096  # levels of one optical density in the measures
OD_OFFSET = 4  # keeps the logarithm finite at black
CHROMA_UNIT = 256


def optical_density(
    rgb: NDArray[np.uint8], white: Sequence[float], unit: int = MEASURE_UNIT
) -> NDArray[np.int32]:
    """Return -ln((I + 4) / (white + 4)) x `unit`, rounded, of each channel.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (..., 3)
    white : sequence of float, length 3
        Background of each channel, 0..255.
    unit : int
        Levels of one optical density.

    Returns
    -------
    numpy.ndarray of int32, shape (..., 3)
        Negative where a pixel is brighter than the background.
    """
    tables = np.stack([density_table(level, unit) for level in white], axis=-1)
    density = cv2.LUT(np.ascontiguousarray(rgb).reshape(-1, 1, 3), tables[None])
    return density.reshape(rgb.shape).astype(np.int32, copy=False)


@lru_cache(maxsize=4096)
def density_table(white: float, unit: int = MEASURE_UNIT) -> NDArray[np.int32]:
    """Return the optical density of each level 0..255 of a channel with this background.

    Parameters
    ----------
    white : float
        0..255.
    unit : int
        Levels of one optical density.

    Returns
    -------
    numpy.ndarray of int32, shape (256,)
        Not to be written to: every caller gets the same.
    """
    densities = [-math.log((level + OD_OFFSET) / (white + OD_OFFSET)) for level in range(256)]
    table = np.array([round(unit * density) for density in densities], dtype=np.int32)
    table.flags.writeable = False
    return table


def add_channels(values: NDArray[Any]) -> NDArray[Any]:
    """Return the sum over the last axis, of length 3, which NumPy takes ten times as long for."""
    total: NDArray[Any] = values[..., 0] + values[..., 1] + values[..., 2]
    return total


def chroma(density: NDArray[np.int32], unit: int) -> NDArray[np.int32]:
    """Return the shares of red and blue in what a pixel absorbs: its hue without its depth.

    Parameters
    ----------
    density : numpy.ndarray of int32, shape (height, width, 3)
        Of `optical_density`.
    unit : int
        Levels of one optical density in it.

    Returns
    -------
    numpy.ndarray of int32, shape (height, width, 2)
        Shares of red and of blue, in 256ths. A fifth of an optical density is added to the whole,
        so that the noise of clear pixels gives small shares instead of wild ones.
    """
    absorbed = np.maximum(density, 0)
    total = add_channels(absorbed) + unit // 5
    shares: NDArray[np.int32] = np.stack(
        [absorbed[..., 0] * CHROMA_UNIT // total, absorbed[..., 2] * CHROMA_UNIT // total], axis=-1
    )
    return shares

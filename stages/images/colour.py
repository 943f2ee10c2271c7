"""The colours of a picture: means, spread, saturation, clipping, histogram."""

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
BINS = 32
SATURATION_UNIT = 1 << 20  # 1.0 in whole numbers


def _tabulate_saturation() -> NDArray[np.int64]:
    """Return the saturation of each pair of brightest and darkest level, in whole numbers."""
    brightest, darkest = np.divmod(np.arange(LEVELS**2, dtype=np.int64), LEVELS)
    table: NDArray[np.int64] = (
        SATURATION_UNIT * np.maximum(brightest - darkest, 0) // np.maximum(brightest, 1)
    )
    return table


_SATURATION = _tabulate_saturation()


def measure(rgb: NDArray[np.uint8]) -> dict[str, float]:
    """Return the colour columns of the quality table.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    dict of str to float
        ``mean_r`` to ``sd_b`` (0..255), ``saturation`` (mean of 1 - min / max, 0 for black, 0..1),
        ``clipped`` (share of pixels with a channel at 0 or 255), six significant digits.

    Notes
    -----
    Everything is counted in whole numbers and divided once at the end, so that the values do not
    depend on the processor's order of adding floats.
    """
    n = rgb.shape[0] * rgb.shape[1]
    levels = np.arange(LEVELS, dtype=np.int64)
    measures: dict[str, float] = {}
    for channel, counts in zip("rgb", _count_levels(rgb), strict=True):
        total = int((counts * levels).sum())
        squares = int((counts * levels**2).sum())
        measures[f"mean_{channel}"] = total / n
        measures[f"sd_{channel}"] = max(0, n * squares - total * total) ** 0.5 / n
    red, green, blue = (np.ascontiguousarray(rgb[..., channel]) for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    pairs = np.bincount(
        (brightest.astype(np.int64) * LEVELS + darkest).ravel(), minlength=LEVELS**2
    )
    measures["saturation"] = int((pairs * _SATURATION).sum()) / (SATURATION_UNIT * n)
    measures["clipped"] = int(((darkest == 0) | (brightest == LEVELS - 1)).sum()) / n
    return {name: float(f"{value:.6g}") for name, value in measures.items()}


def histogram(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count pixels in 32 equal bins of each channel.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    numpy.ndarray of int64, shape (3, 32)
        Rows red, green, blue; each row sums to height x width.
    """
    counts: NDArray[np.int64] = _count_levels(rgb).reshape(3, BINS, LEVELS // BINS).sum(axis=2)
    return counts


def _count_levels(rgb: NDArray[np.uint8]) -> NDArray[np.int64]:
    pixels = rgb.reshape(-1, 3)
    return np.stack([np.bincount(pixels[:, channel], minlength=LEVELS) for channel in range(3)])

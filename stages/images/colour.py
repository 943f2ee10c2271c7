"""The colours of a picture: means, spread, saturation, hue, L*a*b*, clipping, histogram."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LEVELS = 256
BINS = 32
SATURATION_UNIT = 1 << 20  # 1.0 in whole numbers
HUE_UNIT = 1 << 20
COUNTED_AT_ONCE = 1 << 24  # pixels; OpenCV's counts are floats, exact up to here

Pixels = NDArray[np.uint8]
Image = NDArray[np.integer[Any] | np.floating[Any]]  # OpenCV's word for what it returns


def _tabulate_saturation() -> NDArray[np.float64]:
    """Return the saturation of each pair of brightest and darkest level, in whole numbers."""
    brightest, darkest = np.divmod(np.arange(LEVELS**2, dtype=np.int64), LEVELS)
    table: NDArray[np.float64] = (
        SATURATION_UNIT * np.maximum(brightest - darkest, 0) // np.maximum(brightest, 1)
    ).astype(np.float64)
    return table


def _tabulate_hues() -> NDArray[np.int64]:
    """Return cosine and sine of each hue, in whole numbers."""
    angles = [math.tau * step / LEVELS for step in range(LEVELS)]
    return np.array(
        [[round(HUE_UNIT * math.cos(angle)), round(HUE_UNIT * math.sin(angle))] for angle in angles]
    )


_SATURATION = _tabulate_saturation()
_HUES = _tabulate_hues()


def measure(rgb: Pixels, counts: NDArray[np.int64], small: Pixels) -> dict[str, float | None]:
    """Return the colour columns of the quality table.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    counts : numpy.ndarray of int64, shape (3, 256)
        Of `count_levels`.
    small : numpy.ndarray of uint8, shape (rows, columns, 3)
        Of ``working_size.reduce``: hue and L*a*b* are those of a patch, not of a pixel's noise.

    Returns
    -------
    dict of str to float
        ``mean_r`` to ``sd_b`` (0..255), ``saturation`` (mean of 1 - min / max, 0 for black, 0..1),
        ``value`` (mean of max, 0..1), ``hue`` (mean direction of the HSV hue, degrees; None where
        nothing has a colour), ``lab_l``, ``lab_a``, ``lab_b`` (mean CIE L*a*b* of sRGB under D65),
        ``clipped`` (share of pixels with a channel at 0 or 255), six significant digits.

    Notes
    -----
    Everything is counted in whole numbers and divided once at the end, so that the values do not
    depend on the processor's order of adding floats. Hue and L*a*b* of a patch are OpenCV's of 8
    bits: steps of 1.4 degrees, .4 of L*, 1 of a* and b*; the means are finer.
    """
    n = rgb.shape[0] * rgb.shape[1]
    levels = np.arange(LEVELS, dtype=np.int64)
    measures: dict[str, float | None] = {}
    moments = counts @ np.stack([levels, levels**2], axis=1)
    for channel, (total, squares) in zip("rgb", moments.tolist(), strict=True):
        measures[f"mean_{channel}"] = total / n
        measures[f"sd_{channel}"] = max(0, n * squares - total * total) ** 0.5 / n
    red, green, blue = cv2.split(rgb)
    brightest = cv2.max(cv2.max(red, green), blue)
    darkest = cv2.min(cv2.min(red, green), blue)
    pairs = _count([brightest, darkest], [0, 1])
    measures["saturation"] = float(pairs.ravel() @ _SATURATION) / (SATURATION_UNIT * n)
    measures["value"] = cv2.sumElems(brightest)[0] / ((LEVELS - 1) * n)
    measures["clipped"] = np.count_nonzero((darkest == 0) | (brightest == LEVELS - 1)) / n
    measures["hue"] = _mean_hue(small)
    lightness, a, b = cv2.mean(cv2.cvtColor(small, cv2.COLOR_RGB2LAB))[:3]
    measures |= {"lab_l": lightness * 100 / 255, "lab_a": a - 128, "lab_b": b - 128}
    return {
        name: None if value is None else float(f"{value:.6g}") for name, value in measures.items()
    }


def histogram(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum counts of levels up to 32 equal bins of each channel.

    Parameters
    ----------
    counts : numpy.ndarray of int64, shape (3, 256)
        Of `count_levels`.

    Returns
    -------
    numpy.ndarray of int64, shape (3, 32)
        Rows red, green, blue; each row sums to height x width.
    """
    binned: NDArray[np.int64] = counts.reshape(3, BINS, LEVELS // BINS).sum(axis=2)
    return binned


def count_levels(rgb: Pixels) -> NDArray[np.int64]:
    """Count the pixels of each level of each channel.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    numpy.ndarray of int64, shape (3, 256)
    """
    return np.stack([_count([rgb], [channel]) for channel in range(3)]).astype(np.int64)


def _count(planes: Sequence[Image], channels: Sequence[int]) -> NDArray[np.float64]:
    """Count the levels of a channel, or the pairs of levels of two; exact."""
    rows = max(1, COUNTED_AT_ONCE // planes[0].shape[1])
    shape = (LEVELS,) * len(channels)
    strips = (
        cv2.calcHist(
            [plane[start : start + rows] for plane in planes],
            channels, None, shape, (0, LEVELS) * len(channels),
        )
        for start in range(0, len(planes[0]), rows)
    )  # fmt: skip
    total = next(strips).astype(np.float64)
    for counts in strips:
        total += counts
    return total.reshape(shape)


def _mean_hue(small: Pixels) -> float | None:
    """Return the direction of the mean of all hues as unit vectors, 0..360 degrees."""
    hue, saturation, _ = cv2.split(cv2.cvtColor(small, cv2.COLOR_RGB2HSV_FULL))
    coloured = np.bincount(hue[saturation > 0], minlength=LEVELS)
    across, up = (coloured @ _HUES).tolist()
    if across == up == 0:
        return None
    return math.degrees(math.atan2(up, across)) % 360

"""A smaller copy of a picture, for measures that need no single pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

LONGEST = 160  # px; a red cell is still some 20 px across in most collections


def factor(height: int, width: int) -> int:
    """Return how many pixels make one of the copy, along a side: a whole number."""
    return -(-max(height, width) // LONGEST)


def reduce(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Average squares of `factor` x `factor` pixels; the longer side is then at most 160 px.

    Parameters
    ----------
    levels : numpy.ndarray of uint8, shape (height, width) or (height, width, 3)

    Returns
    -------
    numpy.ndarray of uint8, shape (height // factor, width // factor) or the same with 3 channels
        What is left at the right and at the bottom, fewer than `factor` px, is cut off. The
        picture itself, not a copy, where it is small.

    Notes
    -----
    Means of whole squares are the same on every processor; those of other factors go through
    sums of floats.
    """
    height, width = levels.shape[:2]
    times = factor(height, width)
    if times == 1:
        return levels
    rows, columns = max(1, height // times), max(1, width // times)
    whole = levels[: rows * times, : columns * times]
    small = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False)


def reduce_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Bring a mask to the size of `reduce`: what covers half of a square covers it."""
    covered: NDArray[np.bool_] = reduce(mask.astype(np.uint8) * 255) >= 128
    return covered

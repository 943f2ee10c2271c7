"""How sharp a picture is: the absolute Laplacian of its grey levels."""

import cv2
import numpy as np
from numpy.typing import NDArray


def measure(rgb: NDArray[np.uint8]) -> dict[str, float]:
    """Return the sharpness columns of the quality table.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    dict of str to float
        ``laplacian_sum``: sum of |Laplacian| over all pixels, grey levels; grows with the size of
        the picture. ``sharpness``: its mean, grey levels / px.

    Notes
    -----
    The sum is the measure of PyCell [1]_, kept for comparison; hospitals publish pictures of
    different sizes, so flags and plots use the mean. Absolute values, because the signed
    Laplacian of any picture sums to about zero. The kernel is the plain 3 x 3 one with -4 in the
    middle, on whole grey levels.

    References
    ----------
    .. [1] PyCell project report, 2 November 2021, section on image sharpness.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    laplacian = cv2.Laplacian(grey, cv2.CV_16S, ksize=1)
    total = int(np.abs(laplacian).sum(dtype=np.int64))
    return {
        "laplacian_sum": float(total),
        "sharpness": float(f"{total / grey.size:.6g}"),
    }

"""How sharp a picture is, and how much its grey levels tell."""

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def measure(rgb: Pixels, cell: NDArray[np.bool_]) -> dict[str, float | None]:
    """Return the sharpness columns of the quality table.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    cell : numpy.ndarray of bool, shape (height, width)
        Of ``cell_masks.segment``.

    Returns
    -------
    dict of str to float
        ``laplacian_sum``: sum of |Laplacian| over all pixels, grey levels; grows with the size of
        the picture. ``sharpness``: its mean, grey levels / px. ``laplacian_variance``: variance of
        the Laplacian [2]_. ``tenengrad``: mean squared gradient (Sobel, 3 x 3) [3]_, and
        ``tenengrad_cell``, that of the cell's pixels; None without a cell. ``entropy``: of the
        grey levels, bits, 0..8. Six significant digits, but for the sum.

    Notes
    -----
    The sum is the measure of PyCell [1]_, kept for comparison; hospitals publish pictures of
    different sizes, so flags and plots use the mean. Absolute values, because the signed
    Laplacian of any picture sums to about zero. The kernel is the plain 3 x 3 one with -4 in the
    middle, on whole grey levels.

    All sums are of whole numbers, but for that of the entropy's logarithms. Mean and variance grow
    with the share of the picture that has edges; whether it is in focus, the cell tells better.

    References
    ----------
    .. [1] PyCell project report, 2 November 2021, section on image sharpness.
    .. [2] J. L. Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    .. [3] E. Krotkov, "Focusing", International Journal of Computer Vision 1 (1987).
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    n = grey.size
    laplacian = cv2.Laplacian(grey, cv2.CV_16S, ksize=1)
    absolute, squares = cv2.norm(laplacian, cv2.NORM_L1), cv2.norm(laplacian, cv2.NORM_L2SQR)
    gradients = cv2.spatialGradient(grey)
    within = cell.view(np.uint8)
    n_within = cv2.countNonZero(within)
    measures = {
        "sharpness": absolute / n,
        "laplacian_variance": squares / n - (cv2.sumElems(laplacian)[0] / n) ** 2,
        "tenengrad": sum(cv2.norm(one, cv2.NORM_L2SQR) for one in gradients) / n,
        "entropy": _entropy(grey),
    }
    on_cell = None
    if n_within:
        energy = sum(cv2.norm(one, cv2.NORM_L2SQR, within) for one in gradients)
        on_cell = float(f"{energy / n_within:.6g}")
    return {
        "laplacian_sum": absolute,
        "tenengrad_cell": on_cell,
        **{name: float(f"{value:.6g}") for name, value in measures.items()},
    }


def _entropy(grey: Pixels) -> float:
    """Return how many bits a pixel's grey level tells on average."""
    counts = cv2.calcHist([grey], [0], None, [256], [0, 256]).ravel()
    shares = counts[counts > 0].astype(np.float64) / grey.size
    return abs(float(shares @ np.log2(shares)))

"""How a picture was lit: how even its background is, and how much haze lies over its darkest."""

import numpy as np
from numpy.typing import NDArray

from stages.images.cell_masks import CellMask

Pixels = NDArray[np.uint8]

TILES = 4  # along a side
BRIGHT = 0.9  # of a tile's pixels are darker than its background's level
CLEAR = 0.8  # of the white: a tile that is darker shows no background
FEW = 4  # tiles; of fewer nothing is said
DARKEST = 0.05  # of the nucleus


def measure(rgb: Pixels, small: Pixels, found: CellMask) -> dict[str, float | None]:
    """Return the columns of the quality table that tell how a picture was lit.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    small : numpy.ndarray of uint8, shape (rows, columns, 3)
        Of ``working_size.reduce``.
    found : CellMask
        Of the same picture.

    Returns
    -------
    dict of str to float
        ``unevenness``: of 4 x 4 tiles, each has a level that a tenth of its green pixels exceeds;
        the highest minus the lowest, as a share of the white, over the tiles that show background
        (level at least .8 of the white). None where fewer than four do. ``haze``: green level that
        the darkest twentieth of the nucleus does not exceed, as a share of the white: 0 black, 1
        as bright as the background; None without a nucleus. Six significant digits.
    """
    white = max(found.white[1], 1.0)
    measures = {
        "unevenness": _unevenness(small[..., 1], white),
        "haze": _haze(rgb[..., 1], found.nucleus, white),
    }
    return {
        name: None if value is None else float(f"{value:.6g}") for name, value in measures.items()
    }


def _unevenness(green: Pixels, white: float) -> float | None:
    rows, columns = green.shape[0] // TILES, green.shape[1] // TILES
    if not rows or not columns:
        return None
    tiles = green[: rows * TILES, : columns * TILES].reshape(TILES, rows, TILES, columns)
    pixels = tiles.transpose(0, 2, 1, 3).reshape(TILES**2, rows * columns)
    place = int(BRIGHT * (rows * columns - 1))
    levels = np.partition(pixels, place, axis=1)[:, place]
    clear = levels[levels >= CLEAR * white]
    return (int(clear.max()) - int(clear.min())) / white if len(clear) >= FEW else None


def _haze(green: Pixels, nucleus: NDArray[np.bool_], white: float) -> float | None:
    within = np.sort(green[nucleus])
    return int(within[int(DARKEST * (len(within) - 1))]) / white if len(within) else None

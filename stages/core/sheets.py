"""Contact sheets: small pictures side by side, with what was found in them drawn on."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

TILE = 160  # px
COLUMNS = 6
CELL_COLOUR = (255, 220, 0)
NUCLEUS_COLOUR = (0, 255, 0)


def draw_outlines(rgb: Pixels, cell: NDArray[np.bool_], nucleus: NDArray[np.bool_]) -> Pixels:
    """Return a small copy of a picture with its cell outlined in yellow, its nucleus in green.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    cell, nucleus : numpy.ndarray of bool, shape (height, width)

    Returns
    -------
    numpy.ndarray of uint8, shape (160, 160, 3)
        The picture keeps its proportions and stands in the middle of a white tile.
    """
    height, width = rgb.shape[:2]
    scale = TILE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint8)
    for mask, colour in ((cell, CELL_COLOUR), (nucleus, NUCLEUS_COLOUR)):
        shape = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        found = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(small, found, -1, colour, 1)
    tile = np.full((TILE, TILE, 3), 255, dtype=np.uint8)
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    tile[top : top + size[1], left : left + size[0]] = small
    return tile


def encode_sheet(tiles: Sequence[Pixels]) -> bytes:
    """Return the tiles in rows of six as a PNG file; white where tiles are missing.

    Parameters
    ----------
    tiles : sequence of numpy.ndarray of uint8, shape (160, 160, 3)

    Returns
    -------
    bytes
        The same for the same tiles.
    """
    white = np.full((TILE, TILE, 3), 255, dtype=np.uint8)
    n_rows = max(1, -(-len(tiles) // COLUMNS))
    filled = [*tiles, *[white] * (n_rows * COLUMNS - len(tiles))]
    rows = [np.hstack(filled[row * COLUMNS : (row + 1) * COLUMNS]) for row in range(n_rows)]
    return bytes(cv2.imencode(".png", np.vstack(rows)[..., ::-1])[1])

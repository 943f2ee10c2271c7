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
LINE = 16  # px, height of a line of text
TEXT_SIZES = (0.4, 0.35, 0.3, 0.25)  # of the text, largest first
MARGIN = 1  # px, beside the text


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
    small = shrink(rgb)
    size = (small.shape[1], small.shape[0])
    for mask, colour in ((cell, CELL_COLOUR), (nucleus, NUCLEUS_COLOUR)):
        shape = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        found = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
        cv2.drawContours(small, found, -1, colour, 1)
    return _centre(small)


def lay_over(values: NDArray[np.float64], seen: Pixels) -> Pixels:
    """Colour a grey copy of a picture by a map, from black (nothing) to yellow (most).

    Parameters
    ----------
    values : numpy.ndarray of float64, shape (side, side)
        None below 0.
    seen : numpy.ndarray of uint8, shape (side, side, 3)

    Returns
    -------
    numpy.ndarray of uint8, shape (side, side, 3)
    """
    most = values.max()
    levels = np.rint(255 * values / most if most > 0 else values).astype(np.uint8)
    heat = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]
    grey = np.repeat(cv2.cvtColor(seen, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return cv2.addWeighted(grey, 0.45, heat, 0.55, 0).astype(np.uint8)


def caption(rgb: Pixels | None, lines: Sequence[str]) -> Pixels:
    """Return a small copy of an image with lines of text below it.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3), or None
        None leaves the tile white.
    lines : sequence of str
        About 28 letters each; a longer one is set smaller, and cut where that is not enough.

    Returns
    -------
    numpy.ndarray of uint8, shape (160 + 16 * n_lines, 160, 3)
        The image keeps its proportions and stands in the middle of its white tile.
    """
    tile = _blank(TILE) if rgb is None else _centre(shrink(rgb))
    return np.vstack([tile, *(_write(line) for line in lines)])


def encode_sheet(tiles: Sequence[Pixels], columns: int = COLUMNS) -> bytes:
    """Return the tiles in rows as a PNG file; white where tiles are missing.

    Parameters
    ----------
    tiles : sequence of numpy.ndarray of uint8, shape (height, 160, 3)
        All of one height; without tiles the sheet is a white row.
    columns : int
        Tiles in a row.

    Returns
    -------
    bytes
        The same for the same tiles.
    """
    white = _blank(len(tiles[0]) if tiles else TILE)
    n_rows = max(1, -(-len(tiles) // columns))
    filled = [*tiles, *[white] * (n_rows * columns - len(tiles))]
    rows = [np.hstack(filled[row * columns : (row + 1) * columns]) for row in range(n_rows)]
    return bytes(cv2.imencode(".png", np.vstack(rows)[..., ::-1])[1])


def shrink(rgb: Pixels, side: int = TILE) -> Pixels:
    """Return the image with its longer side as long as a tile, or of so many pixels."""
    height, width = rgb.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint8)


def _centre(small: Pixels) -> Pixels:
    """Return a white tile with the shrunken image in its middle."""
    height, width = small.shape[:2]
    tile = _blank(TILE)
    top, left = (TILE - height) // 2, (TILE - width) // 2
    tile[top : top + height, left : left + width] = small
    return tile


def _blank(height: int) -> Pixels:
    return np.full((height, TILE, 3), 255, dtype=np.uint8)


def _write(line: str) -> Pixels:
    """Return a strip with a line of black text in the largest size that fits."""
    font, strip = cv2.FONT_HERSHEY_SIMPLEX, _blank(LINE)
    sizes = [s for s in TEXT_SIZES if cv2.getTextSize(line, font, s, 1)[0][0] <= TILE - 2 * MARGIN]
    size = sizes[0] if sizes else TEXT_SIZES[-1]
    cv2.putText(strip, line, (MARGIN, LINE - 4), font, size, (0, 0, 0), 1, cv2.LINE_AA)
    return strip

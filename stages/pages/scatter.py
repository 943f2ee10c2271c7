"""Maps of pictures as marks on a plane: inside of a page as SVG, and as one PNG of all maps.

What a mark means is told by its shape and by its colour, and a mark is filled or hollow.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from stages.pages.charts import REM

Places = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Polygon = tuple[tuple[float, float], ...]
Key = tuple[Sequence[str], NDArray[np.int64]]  # names of a legend, and which one each picture has

WIDTH, HEIGHT, EDGE = 560, 420, 10  # in units of which REM are the page's size of letters
LAYERS = 6  # the marks of one name lie over, between and under those of the others
# Seven colours and eight shapes: the first 56 names differ in the pair.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b8509c", "#8a7400", "#56a5d8", "#c0392b")
TURNS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def _turn(*corners: tuple[float, float]) -> Polygon:
    """Return corners and the same by a quarter, a half and three quarters of a turn."""
    return tuple((x * c - y * s, x * s + y * c) for c, s in TURNS for x, y in corners)


SHAPES: tuple[Polygon, ...] = (
    _turn((-1.5, -3.5), (1.5, -3.5)),  # all but a circle
    ((-4, 3), (0, -4), (4, 3)),
    _turn((-3, -3)),
    ((-4, -3), (4, -3), (0, 4)),
    _turn((0, -5)),
    _turn((-1, -1), (-1, -4), (1, -4)),  # plus
    ((-5, -2), (5, -2), (5, 2), (-5, 2)),
    _turn((0, -1.5), (2.5, -4), (4, -2.5)),  # cross
)
TILE = 400  # px of the PNG, width of a map
LINE = 22  # px of the PNG, height of a line of text
GROUND, INK = (255, 255, 255), (0, 0, 0)


def to_page(places: Places) -> Places:
    """Put a map's places into the frame of a chart, both axes in one unit, y upwards.

    Parameters
    ----------
    places : numpy.ndarray, shape (n_images, 2)

    Returns
    -------
    numpy.ndarray, shape (n_images, 2)
        From the upper left corner, with one digit behind the point.
    """
    low, high = places.min(axis=0), places.max(axis=0)
    room = np.array([WIDTH, HEIGHT]) - 2 * EDGE
    scale = (room / np.maximum(high - low, 1e-12)).min()
    middle = (low + high) / 2
    from_middle = (places - middle) * [scale, -scale]
    placed: Places = np.round(from_middle + np.array([WIDTH, HEIGHT]) / 2, 1)
    return placed


def draw_map(
    name: str, places: Places, codes: NDArray[np.int64], is_filled: NDArray[np.bool_], says: str
) -> Markup:
    """Draw the pictures of a map as marks, and a ring that the page's script puts around one.

    Parameters
    ----------
    name : str
        Of the map, for the page's script.
    places : numpy.ndarray, shape (n_images, 2)
        Of `to_page`.
    codes : numpy.ndarray of int, shape (n_images,)
        Which of the names of a legend each picture has.
    is_filled : numpy.ndarray of bool, shape (n_images,)
    says : str
        What it shows, for who cannot see it.

    Returns
    -------
    markupsafe.Markup
        An ``<svg>`` whose size follows the size of letters.
    """
    layers = np.arange(len(places)) % LAYERS
    paths = []
    # The filled marks, which are fewer and are judged, lie over the hollow ones.
    for filled in (False, True):
        for layer in range(LAYERS):
            for code in np.unique(codes):
                own = (layers == layer) & (codes == code) & (is_filled == filled)
                if own.any():
                    drawn = "".join(f"M{x:g} {y:g}{_shape(code)}" for x, y in places[own])
                    kind = "filled" if filled else "hollow"
                    paths.append(f'<path class="{kind} c{code % len(COLOURS)}" d="{drawn}"/>')
    return Markup(  # every text is escaped
        f'<svg class="map" data-map="{escape(name)}" role="img" aria-label="{escape(says)}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" style="width:{WIDTH / REM:.4g}rem" tabindex="0">'
        + "".join(paths)
        + '<circle class="ring" r="9"/></svg>'
    )


def draw_legend(names: Sequence[str]) -> Markup:
    """Name what the marks of a map mean, beside the shape and colour of each."""
    signs = [
        f'<span class="key"><svg viewBox="-6 -6 12 12" aria-hidden="true">'
        f'<path class="filled c{code % len(COLOURS)}" d="M0 0{_shape(code)}"/></svg>'
        f"{escape(name)}</span>"
        for code, name in enumerate(names)
    ]
    return Markup(" ").join(map(Markup, signs))


def write_style() -> Markup:
    """Return the colours of the marks, as rules for the page's style."""
    rules = (f".c{n} {{ fill: {one}; stroke: {one}; }}" for n, one in enumerate(COLOURS))
    return Markup("\n".join(rules))


def draw_sheet(
    rows: Mapping[str, Sequence[tuple[str, Places]]],
    keys: Mapping[str, Key],
    is_filled: NDArray[np.bool_],
) -> bytes:
    """Draw all maps on one picture, a row for each kind of vectors and each legend.

    Parameters
    ----------
    rows : mapping of str to sequence of (str, numpy.ndarray)
        By kind of vectors the maps' names with their places, of `to_page`.
    keys : mapping of str to Key
        By what the marks tell.
    is_filled : numpy.ndarray of bool, shape (n_images,)

    Returns
    -------
    bytes
        A PNG file, the same for the same places.
    """
    columns = max(1, *map(len, rows.values()))
    blank = np.full((LINE + round(HEIGHT * TILE / WIDTH), TILE, 3), 255, np.uint8)
    strips = []
    for told, (names, codes) in keys.items():
        strips.append(_draw_names(names, columns * TILE))
        for kind, maps in rows.items():
            tiles = [
                _draw_tile(f"{kind}: {name}, by {told}", places, codes, is_filled)
                for name, places in maps
            ]
            tiles += [blank] * (columns - len(tiles))
            strips.append(np.hstack(tiles))
    return bytes(cv2.imencode(".png", np.vstack(strips)[..., ::-1])[1])


def _shape(code: int) -> str:
    """Return a mark's outline as a path, from its middle on."""
    corners = SHAPES[code % len(SHAPES)]
    steps = [np.subtract(to, at) for at, to in zip(((0, 0), *corners), corners, strict=False)]
    return "m" + "l".join(f"{x:g} {y:g}".replace(" -", "-") for x, y in steps) + "z"


def _draw_tile(title: str, places: Places, codes: Any, is_filled: Any) -> Pixels:
    scale = TILE / WIDTH
    tile = np.full((LINE + round(HEIGHT * scale), TILE, 3), 255, np.uint8)
    for place in np.argsort(is_filled, kind="stable"):
        middle = places[place] * scale + [0, LINE]
        _draw_mark(tile, int(codes[place]), middle, 0.8, bool(is_filled[place]))
    _write(tile, title, 4)
    return tile


def _draw_names(names: Sequence[str], width: int) -> Pixels:
    """Return the legend as lines of signs and names."""
    n_columns = max(1, width // 240)
    strip = np.full((LINE * -(-len(names) // n_columns) + LINE // 2, width, 3), 255, np.uint8)
    for code, name in enumerate(names):
        row, column = divmod(code, n_columns)
        left, top = column * 240 + 14, row * LINE
        _draw_mark(strip, code, np.array([left, top + 13.0]), 1.2, True)
        _write(strip[top : top + LINE], name, left + 12)
    return strip


def _draw_mark(canvas: Pixels, code: int, middle: Places, scale: float, is_filled: bool) -> None:
    colour = tuple(bytes.fromhex(COLOURS[code % len(COLOURS)][1:]))
    corners = np.array(SHAPES[code % len(SHAPES)]) * scale + middle
    points = [np.rint(corners * 8).astype(np.int32)]  # eighths of a pixel
    if is_filled:
        cv2.fillPoly(canvas, points, colour, cv2.LINE_AA, 3)
    else:
        cv2.polylines(canvas, points, True, colour, 1, cv2.LINE_AA, 3)


def _write(canvas: Pixels, text: str, left: int) -> None:
    cv2.putText(
        canvas, text, (left, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, INK, 1, cv2.LINE_AA
    )  # fmt: skip

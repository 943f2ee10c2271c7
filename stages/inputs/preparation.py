"""How a picture becomes an array, everywhere: crop at the cell's scale, colour, what is hidden."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.errors import ImageError
from stages.core.params import InputsParams
from stages.images import cell_masks

Pixels = NDArray[np.uint8]
Transform = NDArray[np.float64]

WHITE, BLACK_OFFSET = 242.0, 2.0  # background after white_point: 242 - 2 = 240
OD_OFFSET = 4.0
GREY = 180.0  # channel mean after grey_world
MARGIN = 0.15  # of the cell's radius: how far beyond it `hide` keeps, or covers, the picture
BESIDE = 4  # px beside what is seen: two for the sampler, two for the blur
LEAST_BLUR = 1.1  # from so many pixels on that fall on one, more than the sampler's two are merged
COVER = 1.25  # radius of the disc that hides a cell, in the hospital's cell radii
NO_CHANGE = np.eye(3)
WHITES = ("white_r", "white_g", "white_b")
# Of tables.QUALITY, what `geometries` reads; the others, pictures among them, fill the memory.
MEASURED = (
    "image_id", "hospital", "has_cell", "flags", "centre_x", "centre_y", "cell_radius", *WHITES,
    "cell_mask",
)  # fmt: skip


@dataclass(frozen=True)
class Geometry:
    """Where the cell is and how large cells are, in the picture's own pixels.

    Attributes
    ----------
    centre : tuple of float, optional
        x and y, px; None: the middle of the picture.
    radius : float, optional
        Of a cell, px: the hospital's median or the picture's own, as the rule says. None: no cell
        is known at this hospital; the crop is then the largest square.
    white : tuple of float
        Background, red, green, blue, 0..255.
    cell : bytes, optional
        The cell's outline, for ``cell_masks.unpack``. None: no cell was found.
    """

    centre: tuple[float, float] | None
    radius: float | None
    white: tuple[float, float, float]
    cell: bytes | None = None


def geometries(quality: pd.DataFrame, rule: InputsParams) -> dict[str, Geometry]:
    """Read the geometry of each picture out of the quality table.

    Parameters
    ----------
    quality : pandas.DataFrame, shape (n_images, n_columns)
        `MEASURED` of ``tables.QUALITY``, of one hospital or of several.
    rule : InputsParams

    Returns
    -------
    dict of str to Geometry
        By image_id. With ``scale: hospital`` the radius is the median over the hospital's
        pictures whose outline is sure, or over all in which a cell was found where none is sure;
        with ``scale: image`` it is the picture's own. Where no cell was found, and with
        ``hide: cell``, whose crop must not tell the size of the cell: the hospital's radius. Where
        no cell was found the centre is the middle of the picture.

    Notes
    -----
    The median is taken over all of a hospital's pictures, whatever their part: it uses no label,
    and stands for the microns per pixel that few collections publish. Of the crops compared in
    the project's first experiments, the hospital's scale transferred best.
    """
    cells = quality[quality["has_cell"]]
    is_sure = ~cells["flags"].map(lambda flags: cell_masks.UNSURE in flags).astype(bool)
    medians = cells.groupby("hospital")["cell_radius"].median()
    # An outline that runs out into red cells is too large, and where many do, so is the scale.
    medians.update(cells[is_sure].groupby("hospital")["cell_radius"].median())
    found: dict[str, Geometry] = {}
    for row in quality.itertuples():
        usual = float(medians[row.hospital]) if row.hospital in medians.index else None
        own = float(row.cell_radius) if row.has_cell else usual
        found[row.image_id] = Geometry(
            centre=(float(row.centre_x), float(row.centre_y)) if row.has_cell else None,
            radius=usual if rule.scale == "hospital" or rule.hide == "cell" else own,
            white=(float(row.white_r), float(row.white_g), float(row.white_b)),
            cell=row.cell_mask if row.has_cell else None,
        )
    return found


def to_row(geometry: Geometry) -> dict[str, Any]:
    """Return a geometry as columns of ``tables.TRAINING``."""
    centre = geometry.centre or (None, None)
    return {
        "centre_x": centre[0],
        "centre_y": centre[1],
        "radius": geometry.radius,
        **dict(zip(WHITES, geometry.white, strict=True)),
        "cell_mask": geometry.cell,
    }


def from_row(row: Mapping[str, Any]) -> Geometry:
    """Read what `to_row` gave."""
    return Geometry(
        centre=None if row["centre_x"] is None else (row["centre_x"], row["centre_y"]),
        radius=row["radius"],
        white=(row["white_r"], row["white_g"], row["white_b"]),
        cell=row["cell_mask"],
    )


def prepare(
    rgb: Pixels,
    geometry: Geometry,
    rule: InputsParams,
    size: int,
    balance: str,
    transform: Transform | None = None,
) -> Pixels:
    """Turn a picture into the array that a network sees.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    geometry : Geometry
    rule : InputsParams
        Crop, half side and what is hidden. ``crop: whole`` stretches the whole picture to a
        square; ``centre`` takes a square of the cell crop's side from the picture's middle.
    size : int
        Side of the result, px.
    balance : str
        ``"white_point"``, ``"grey_world"`` or ``"none"``.
    transform : numpy.ndarray of float, shape (2, 3) or (3, 3), optional
        Affine map from a place in the result to the place in the crop that is shown there, both
        with the middle at 0 and the unit half a side. For augmentation.

    Returns
    -------
    numpy.ndarray of uint8, shape (size, size, 3)
        What lies outside of the picture has the colour of the background.

    Raises
    ------
    ImageError
        The balance is unknown.

    Notes
    -----
    One interpolation for crop, scale and augmentation together, so that augmented and plain
    views are equally sharp. Where pixels are merged, the picture is averaged first.

    ``white_point`` is 242 exp(-OD) - 2 with OD = -ln((I + 4) / (background + 4)), ``grey_world``
    scales each channel of the crop to a mean of 180; both as in the project's first experiments.

    ``hide: cell`` covers the cell, and a disc as large as a cell of the hospital, with background
    before anything else is done: neither its colours nor its size reach the result. Of a cell that
    is larger than the disc the outline can be told where red cells stand close.
    """
    if rule.hide == "cell":
        rgb = cover(rgb, geometry)
    matrix = _crop_matrix(rgb, geometry, rule)
    if transform is not None:
        matrix = matrix @ np.vstack([transform[:2], [0.0, 0.0, 1.0]])
    matrix = matrix @ _from_pixels(size)
    crop = _balance(_warp(rgb, matrix, size, geometry.white), geometry.white, balance)
    if rule.hide == "background" and geometry.cell is not None:
        cell = cell_masks.unpack(geometry.cell, *rgb.shape[:2])
        return _hide_neighbours(crop, cell, matrix, size)
    return crop


def bring_back(
    values: NDArray[np.float64], rgb: Pixels, geometry: Geometry, rule: InputsParams
) -> NDArray[np.float64]:
    """Lay what was found in a prepared picture over the published one.

    Parameters
    ----------
    values : numpy.ndarray of float64, shape (size, size)
        Of each pixel that `prepare` gave.
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    geometry : Geometry
    rule : InputsParams

    Returns
    -------
    numpy.ndarray of float64, shape (height, width)
        0 where the crop does not reach.
    """
    matrix = _crop_matrix(rgb, geometry, rule) @ _from_pixels(values.shape[0])
    to_crop = np.linalg.inv(matrix) @ np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]])
    found: NDArray[np.float64] = cv2.warpAffine(
        values, to_crop[:2], rgb.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    ).astype(np.float64)
    return found


def cover(rgb: Pixels, geometry: Geometry) -> Pixels:
    """Put background over the cell and over a disc of one size around its centre.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    geometry : Geometry
        Of this picture. Without a cell the disc lies in the middle; without a radius it has that
        of a quarter of the shorter side.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)
        Far from the cell as it was.
    """
    hidden = find_cell(rgb, geometry)
    (x, y), radius = locate(rgb, geometry)
    disc = hidden.astype(np.uint8)
    cv2.circle(disc, (round(x), round(y)), round(COVER * radius), (1,), cv2.FILLED)
    white = np.rint(np.array(geometry.white)).astype(np.uint8)
    return blend(white, rgb, soften(disc.astype(np.bool_), radius, 2))


def locate(rgb: Pixels, geometry: Geometry) -> tuple[tuple[float, float], float]:
    """Return centre and radius of the cell, px; without one those of a disc in the middle."""
    height, width = rgb.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)
    return geometry.centre or middle, geometry.radius or min(height, width) / 4


def find_cell(rgb: Pixels, geometry: Geometry) -> NDArray[np.bool_]:
    """Return the mask of the cell, shape (height, width); without a cell it is empty."""
    height, width = rgb.shape[:2]
    if geometry.cell is None:
        return np.zeros((height, width), np.bool_)
    return cell_masks.unpack(geometry.cell, height, width)


def soften(cell: NDArray[np.bool_], radius: float, beyond: int) -> Pixels:
    """Widen the cell and blur its edge; 255 inside.

    Widened by `beyond` half margins and blurred over half a margin to both sides. With 1, nothing
    is hidden at the cell's own edge and everything beyond the margin; with 2, the whole cell is.
    """
    side = 2 * round(MARGIN * radius / 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    wide = cv2.dilate(cell.astype(np.uint8) * 255, kernel, iterations=beyond)
    soft: Pixels = cv2.blur(wide, (side, side)).astype(np.uint8, copy=False)
    return soft


def blend(top: Pixels | int, below: Pixels | int, share: Pixels) -> Pixels:
    """Lay a picture, or a colour, over another where the share of it is 255, in part below that.

    Parameters
    ----------
    top, below : numpy.ndarray of uint8, shape (height, width, 3) or (3,), or int
    share : numpy.ndarray of uint8, shape (height, width)

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)
    """
    above = share.astype(np.int32)[..., None]
    mixed = np.asarray(top, np.int32) * above + np.asarray(below, np.int32) * (255 - above)
    blended: Pixels = ((mixed + 127) // 255).astype(np.uint8)
    return blended


def to_grey_world(crop: Pixels) -> Pixels:
    """Scale each channel to a mean of 180, as ``white_balance: grey_world`` does.

    Parameters
    ----------
    crop : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)
    """
    sums = cv2.sumElems(crop)[:3]
    n = crop.shape[0] * crop.shape[1]
    levels = np.arange(256, dtype=np.float64)
    return _look_up(crop, [levels * (GREY * n / max(int(total), 1)) for total in sums])


def _crop_matrix(rgb: Pixels, geometry: Geometry, rule: InputsParams) -> Transform:
    """Return the map from the crop (middle 0, unit half a side) to pixel corners of the picture."""
    height, width = rgb.shape[:2]
    half_x, half_y = width / 2, height / 2
    x, y = half_x, half_y
    if rule.crop != "whole":
        if geometry.centre is not None and rule.crop == "cell":
            x, y = geometry.centre[0] + 0.5, geometry.centre[1] + 0.5
        if geometry.radius is None:
            half_x = half_y = min(half_x, half_y)
        else:
            half_x = half_y = geometry.radius * rule.half_side
    return np.array([[half_x, 0.0, x], [0.0, half_y, y], [0.0, 0.0, 1.0]])


def _from_pixels(size: int) -> Transform:
    """Return the map from pixel centres of the result to the crop."""
    step = 2 / size
    return np.array([[step, 0.0, step / 2 - 1], [0.0, step, step / 2 - 1], [0.0, 0.0, 1.0]])


def _warp(picture: Pixels, matrix: Transform, size: int, border: tuple[float, ...]) -> Pixels:
    """Sample the picture; `matrix` maps pixel centres of the result to pixel corners of it."""
    # How many columns and rows of the picture fall on one pixel of the result, however turned.
    merged = np.hypot(matrix[:2, 0], matrix[:2, 1])
    height, width = picture.shape[:2]
    whole = np.clip(merged.astype(np.int64), 1, (width, height))
    picture, matrix = _cut_to_what_is_seen(picture, matrix, size, whole)
    columns, rows = (int(n) for n in whole)
    if columns > 1 or rows > 1:
        # Averages of whole blocks; the pixels that fill no block are added from the border.
        height, width = picture.shape[:2]
        padded = cv2.copyMakeBorder(
            picture, 0, -height % rows, 0, -width % columns, cv2.BORDER_REPLICATE
        )
        small = (padded.shape[1] // columns, padded.shape[0] // rows)
        picture = cv2.resize(padded, small, interpolation=cv2.INTER_AREA).astype(np.uint8)
    rest = merged / whole
    if (rest > LEAST_BLUR).any():
        sigma_x, sigma_y = (0.5 * math.sqrt(max(float(r), 1.0) ** 2 - 1) for r in rest)
        kernel = (5 if rest[0] > LEAST_BLUR else 1, 5 if rest[1] > LEAST_BLUR else 1)
        blurred = cv2.GaussianBlur(picture, kernel, sigma_x, sigmaY=sigma_y)
        picture = blurred.astype(np.uint8, copy=False)
    to_centres = matrix[:2] / whole[:, None] - np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5]])
    return cv2.warpAffine(
        picture,
        to_centres,
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border,
    ).astype(np.uint8, copy=False)


def _cut_to_what_is_seen(
    picture: Pixels, matrix: Transform, size: int, whole: NDArray[np.int64]
) -> tuple[Pixels, Transform]:
    """Drop the rows and columns that reach no pixel of the result: less to average and blur.

    The cut lies between blocks of `whole` (columns, rows) and leaves what the filters look at.
    """
    height, width = picture.shape[:2]
    ends = np.array([[0, 0, size - 1, size - 1], [0, size - 1, 0, size - 1], [1, 1, 1, 1]])
    seen = matrix[:2] @ ends / whole[:, None]
    first = whole * np.maximum(0, np.floor(seen.min(axis=1)).astype(np.int64) - BESIDE)
    left, top = (int(n) for n in np.minimum(first, (width - 1, height - 1)))
    last = whole * (np.ceil(seen.max(axis=1)).astype(np.int64) + BESIDE)
    right, bottom = (int(n) for n in np.maximum(last, (left + 1, top + 1)))
    cut = picture[top:bottom, left:right]
    return cut, matrix - np.array([[0.0, 0.0, left], [0.0, 0.0, top], [0.0, 0.0, 0.0]])


def _balance(crop: Pixels, white: tuple[float, float, float], balance: str) -> Pixels:
    levels = np.arange(256, dtype=np.float64)
    if balance == "none":
        return crop
    if balance == "white_point":
        tables = [WHITE * (levels + OD_OFFSET) / (w + OD_OFFSET) - BLACK_OFFSET for w in white]
    elif balance == "grey_world":
        return to_grey_world(crop)
    else:
        raise ImageError(
            "unreadable",
            f"inputs.white_balance: {balance!r} is unknown; known are white_point, grey_world "
            "and none. Correct it in params.yaml.",
        )
    return _look_up(crop, tables)


def _look_up(crop: Pixels, tables: list[NDArray[np.float64]]) -> Pixels:
    """Replace each grey level by the rounded value in its channel's table."""
    table = np.clip(np.rint(np.stack(tables, axis=-1)), 0, 255).astype(np.uint8)
    return cv2.LUT(crop, table[None]).astype(np.uint8, copy=False)


def _hide_neighbours(crop: Pixels, cell: NDArray[np.bool_], matrix: Transform, size: int) -> Pixels:
    """Blend everything outside of the cell, with a margin, into white."""
    radius = math.sqrt(np.count_nonzero(cell) / math.pi)
    # Nothing changes farther from the cell than it is widened and blurred.
    x, y, width, height = cv2.boundingRect(cell.astype(np.uint8))
    beyond = math.ceil(2 * MARGIN * radius) + 3
    left, top = max(0, x - beyond), max(0, y - beyond)
    soft = soften(cell[top : y + height + beyond, left : x + width + beyond], radius, 1)
    shift = np.array([[0.0, 0.0, left], [0.0, 0.0, top], [0.0, 0.0, 0.0]])
    share = _warp(soft, matrix - shift, size, (0.0,))
    return blend(crop, int(WHITE - BLACK_OFFSET), share)

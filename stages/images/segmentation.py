"""The pixels of nucleus and cell: a network's answer, and which part of it is the central cell."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.images import outline_network
from stages.images.optical_density import optical_density
from stages.images.outline_network import CLEAR, EVEN, MOST, OD_UNIT, ODDS_UNIT, SIDE

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Integers = NDArray[np.int32]
Place = tuple[slice, slice]

WORKING_SIDE = SIDE  # px; a nucleus is then 20..60 px across in most collections

# Of an answer's 256 levels: how likely a pixel is inside, in thousandths.
LIKELY = np.rint(1000 / (1 + np.exp((EVEN - np.arange(256)) / ODDS_UNIT))).astype(np.int64)

# Of the project's first experiments, on contact sheets of seven hospitals:
BRIGHT_SHARES = (0.82, 0.98)  # the background's place among the brightnesses
CENTRE_SPREAD = 0.17  # of the side: how far from the middle a cell may be
MIN_NUCLEUS_SHARE = 0.001  # of the picture's area
MIN_NUCLEUS_OD = 0.15  # in green, on average: clear glass and noise hold no cell
# Chosen, not measured; drawn smears tell no difference for TRIM between .15 and .6:
TRIM = 0.3  # of the radius of the circle inside a cell: what is narrower is none of it
SPECK = 50  # a part of the nucleus that is so many times smaller than the largest is no lobe
AROUND = 0.3  # of the cell's radius: how far outside of it the network's doubt counts


def outline(rgb: Pixels) -> tuple[Mask, Mask, list[int], float]:
    """Find the central white cell.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    cell, nucleus : numpy.ndarray of bool, shape as `working_shape` says
        At the working size; the nucleus lies within the cell. Both are all False where no cell is
        seen.
    white : list of int
        Background, red, green, blue, 0..255.
    certainty : float
        Of the cell's outline, 0..1, see `judge`; 0 where no cell is seen.
    """
    levels, place, white = look(rgb)
    answer = outline_network.answer(levels, outline_network.load())
    large = cv2.resize(answer, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR_EXACT)
    odds = large.astype(np.uint8, copy=False)[place]
    nucleus = odds[..., 1] > EVEN
    cell = _central(_trim((odds[..., 0] > EVEN) | nucleus))
    nucleus = _drop_specks(nucleus & cell)
    absorbed = int((levels[place][nucleus, 1].astype(np.int32) - CLEAR).sum())
    n_pixels = max(int(nucleus.sum()), 1)
    if (
        n_pixels < MIN_NUCLEUS_SHARE * nucleus.size
        or absorbed < MIN_NUCLEUS_OD * OD_UNIT * n_pixels
    ):
        nothing = np.zeros(nucleus.shape, dtype=bool)
        return nothing, nothing, white, 0.0
    return cell, nucleus, white, judge(odds[..., 0], cell)


def judge(odds: Pixels, cell: Mask) -> float:
    """Tell without a published mask how well a cell is outlined.

    Parameters
    ----------
    odds : numpy.ndarray of uint8, shape (rows, columns)
        The network's answer for the cell.
    cell : numpy.ndarray of bool, same shape
        What was made of it; not empty.

    Returns
    -------
    float
        0..1: the Dice that the network's own probabilities expect, in the cell and close around it,
        times area / area of the convex hull. What a network takes for a cell among touching red
        cells, it is sure of; there the hull tells.
    """
    size = 2 * int(AROUND * math.sqrt(int(cell.sum()) / math.pi)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    near = cv2.dilate(cell.astype(np.uint8), kernel) > 0
    area, likely = int(cell.sum()), LIKELY[odds]
    expected = 2 * int(likely[cell].sum()) / (1000 * area + int(likely[near].sum()))
    return expected * area / int(fill_hull(cell).sum())


def look(rgb: Pixels) -> tuple[Pixels, Place, list[int]]:
    """Return what the network looks at.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    levels : numpy.ndarray of uint8, shape (SIDE, SIDE, 3)
        As ``outline_network.answer`` takes them: the picture in the middle of clear glass.
    place : tuple of slice
        Where the picture lies in it.
    white : list of int
        Background, red, green, blue, 0..255.
    """
    small = _shrink(rgb)
    white = _background(small)
    rows, columns = small.shape[:2]
    top, left = (SIDE - rows) // 2, (SIDE - columns) // 2
    place = (slice(top, top + rows), slice(left, left + columns))
    levels = np.full((SIDE, SIDE, 3), CLEAR, np.uint8)
    levels[place] = np.clip(optical_density(small, white, OD_UNIT) + CLEAR, 0, MOST)
    return levels, place, white


def working_shape(height: int, width: int) -> tuple[int, int]:
    """Return height and width at which cells are outlined: the longer side is 160 px."""
    longest = max(height, width)
    return (
        max(8, (2 * height * WORKING_SIDE + longest) // (2 * longest)),
        max(8, (2 * width * WORKING_SIDE + longest) // (2 * longest)),
    )


def enlarge(mask: Mask, height: int, width: int) -> Mask:
    """Bring a mask of the working size to the picture's, with smooth edges."""
    levels = cv2.resize(
        mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR_EXACT
    )
    large: Mask = levels >= 128
    return large


def _shrink(rgb: Pixels) -> Pixels:
    """Bring the longer side to the working size; smooth."""
    height, width = rgb.shape[:2]
    rows, columns = working_shape(height, width)
    down, across = -(-height // rows), -(-width // columns)
    # Up to whole multiples first: means of whole factors are exact, those of others go through
    # floats. Nothing is cut off for it, or what is found would lie beside its place.
    size = (columns * across, rows * down)
    multiple = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR_EXACT)
    small = cv2.resize(multiple, (columns, rows), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (5, 5), 0).astype(np.uint8, copy=False)


def _background(rgb: Pixels) -> list[int]:
    """Return the median colour of the bright pixels, without the very brightest."""
    pixels = rgb.reshape(-1, 3)
    brightness = 2 * pixels[:, 1].astype(np.int32) + pixels[:, 0]
    below = np.cumsum(np.bincount(brightness))
    low, high = (int(np.searchsorted(below, share * len(pixels))) for share in BRIGHT_SHARES)
    bright = pixels[(brightness >= low) & (brightness <= high)]
    middle = len(bright) // 2
    return [int(np.partition(bright[:, channel], middle)[middle]) for channel in range(3)]


def _trim(found: Mask) -> Mask:
    """Cut off what is narrower than a share of the cell's inscribed circle: threads and necks."""
    pixels = cv2.copyMakeBorder(found.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    depth = int(cv2.distanceTransform(pixels, cv2.DIST_L2, 5).max()) if found.any() else 0
    side = 2 * int(TRIM * depth) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    trimmed: Mask = cv2.morphologyEx(pixels, cv2.MORPH_OPEN, kernel)[1:-1, 1:-1] > 0
    return trimmed


def _drop_specks(nucleus: Mask) -> Mask:
    """Return the nucleus without parts that are too small for a lobe."""
    parts, boxes = cv2.connectedComponentsWithStats(nucleus.astype(np.uint8), connectivity=8)[1:3]
    areas = boxes[1:, cv2.CC_STAT_AREA]
    lobes = 1 + np.flatnonzero(SPECK * areas >= areas.max(initial=0))
    kept: Mask = np.isin(parts, lobes)
    return kept


def _central(found: Mask) -> Mask:
    """Return the part that is large, near the middle, and not cut by the border; without holes."""
    n, parts, boxes, centres = cv2.connectedComponentsWithStats(
        found.astype(np.uint8), connectivity=8
    )
    scores = [0.0] + [_score(boxes[i], centres[i], found.shape) for i in range(1, n)]
    best = int(np.argmax(scores))
    own = (parts == best) & found
    around = cv2.copyMakeBorder((~own).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    outside = cv2.connectedComponents(around, connectivity=4)[1]
    filled: Mask = (outside != outside[0, 0])[1:-1, 1:-1]
    return filled


def _score(box: Integers, centre: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    x, y, box_width, box_height, area = (int(value) for value in box)
    height, width = shape
    off = (centre[0] - (width - 1) / 2) ** 2 + (centre[1] - (height - 1) / 2) ** 2
    cuts = (x == 0) + (y == 0) + (x + box_width == width) + (y + box_height == height)
    spread = CENTRE_SPREAD * min(height, width)
    return float(area * math.exp(-off / (2 * spread**2)) * 0.5**cuts)


def outline_points(mask: Mask) -> Integers:
    """Return x and y of the outermost pixels of all parts, shape (n_points, 1, 2)."""
    found = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    points: Integers = np.concatenate(found).astype(np.int32)
    return points


def fill_hull(mask: Mask) -> Pixels:
    """Return the filled convex hull as 0 and 1."""
    hull = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(outline_points(mask)), (1.0,))
    filled: Pixels = hull | mask.astype(np.uint8)
    return filled

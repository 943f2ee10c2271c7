"""What lies beside the white cell: other nuclei, and red cells that give the scale."""

import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.images import working_size
from stages.images.cell_masks import CellMask
from stages.images.optical_density import density_table

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Points = NDArray[np.int32]

# Of the middle nucleus, looked at on ten collections: what absorbs less green or red is a red cell,
DARK = ((1, 0.7), (0, 0.6))  # channel and share
LARGE = 0.3  # and a smaller part is a platelet or dirt
JOINING = 0.4  # of the radius of the middle nucleus: lobes that are as near are of one nucleus
# Of whole red cells, looked at on ten collections:
SOLID = 0.93  # of its convex hull, at least: cells that touch have a waist
ROUND = 0.8  # shorter axis / longer axis, at least
LEAST_DIAMETER = 0.6  # of the white cell's radius: what is smaller is a platelet
ALIKE = 0.6  # of the widest in the picture
LEAST_PIXELS = 40  # of the working size
FEW = 2  # cells; of fewer nothing is said


def measure(small: Pixels, found: CellMask, times: int) -> dict[str, float | int | None]:
    """Return the columns of the quality table that tell of the white cell's neighbours.

    Parameters
    ----------
    small : numpy.ndarray of uint8, shape (rows, columns, 3)
        Of ``working_size.reduce``.
    found : CellMask
        Of the same picture.
    times : int
        ``working_size.factor`` of the picture.

    Returns
    -------
    dict
        ``n_cells``: nuclei in the picture, with the middle one; 0 without it.
        ``red_cell_diameter``: median diameter of the red cells that are seen whole, px, six
        significant digits; None where fewer than two are, or no white cell.

    Notes
    -----
    A neighbour's nucleus absorbs about as much green and red as the middle one. Beside a pale
    nucleus some red cells do too, and under haze (chula) many: the count is then too high. Red
    cells are parted from the background by Otsu's threshold of green [1]_; what
    then touches neither border nor white cell, and is round, is a red cell seen whole. Its pallor
    is filled. Cells that touch each other are left out, not parted.

    References
    ----------
    .. [1] N. Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions
       on Systems, Man, and Cybernetics 9 (1979).
    """
    if not found.has_cell:
        return {"n_cells": 0, "red_cell_diameter": None}
    cell, nucleus = (working_size.reduce_mask(mask) for mask in (found.cell, found.nucleus))
    diameters = [times * one for one in _red_cells(small[..., 1], cell)]
    return {
        "n_cells": 1 + _count_others(small, found.white, cell, nucleus),
        "red_cell_diameter": _median(diameters),
    }


def _count_others(small: Pixels, white: Sequence[float], cell: Mask, nucleus: Mask) -> int:
    """Count what is as dark as a nucleus and as large, beside the cell."""
    n_nucleus = int(nucleus.sum())
    if n_nucleus == 0:
        return 0
    dark = ~_widen(cell)
    for channel, share in DARK:
        density = density_table(white[channel])[small[..., channel]]
        dark &= n_nucleus * density >= share * int(density[nucleus].sum())
    reach = 2 * int(JOINING * math.sqrt(n_nucleus / math.pi) / 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    joined = cv2.morphologyEx(dark.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    boxes = cv2.connectedComponentsWithStats(joined, connectivity=8)[2]
    return int((boxes[1:, cv2.CC_STAT_AREA] >= LARGE * n_nucleus).sum())


def _red_cells(green: Pixels, cell: Mask) -> list[float]:
    """Return the diameters of red cells that are seen whole, px of the working size."""
    near = _widen(cell)
    beside = green[~near]
    if len(beside) < LEAST_PIXELS:
        return []
    limit = cv2.threshold(beside, 0, 255, cv2.THRESH_OTSU)[0]
    stained = (green <= limit) | near
    least = LEAST_DIAMETER * math.sqrt(int(cell.sum()) / math.pi)
    diameters = [
        2 * math.sqrt(area / math.pi) for area in _round_parts(stained.astype(np.uint8), near)
    ]
    return [one for one in diameters if one >= max(least, ALIKE * max(diameters))]


def _round_parts(stained: Pixels, near: Mask) -> Iterator[int]:
    """Yield the areas of round parts that touch neither the border nor the white cell."""
    height, width = stained.shape
    outlines = cv2.findContours(stained, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    for outline in outlines:
        x, y, across, down = cv2.boundingRect(outline)
        at_border = x == 0 or y == 0 or x + across == width or y + down == height
        if at_border or across * down < LEAST_PIXELS:
            continue
        part = np.zeros((down, across), np.uint8)
        cv2.drawContours(part, [outline - (x, y)], -1, (1.0,), cv2.FILLED)
        area = cv2.countNonZero(part)
        if (
            area >= LEAST_PIXELS
            and not near[y : y + down, x : x + across][part > 0].any()
            and cv2.contourArea(outline) >= SOLID * cv2.contourArea(cv2.convexHull(outline))
            and _axis_ratio(part) >= ROUND
        ):
            yield area


def _axis_ratio(part: Pixels) -> float:
    """Return shorter axis / longer axis of the ellipse with the same second moments."""
    moments = cv2.moments(part, binaryImage=True)
    total = moments["mu20"] + moments["mu02"]
    apart = math.hypot(moments["mu20"] - moments["mu02"], 2 * moments["mu11"])
    return math.sqrt(max(total - apart, 0.0) / (total + apart)) if total + apart > 0 else 0.0


def _median(diameters: Sequence[float]) -> float | None:
    return float(f"{np.median(diameters):.6g}") if len(diameters) >= FEW else None


def _widen(mask: Mask) -> Mask:
    wide: Mask = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return wide

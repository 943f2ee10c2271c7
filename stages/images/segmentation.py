"""The pixels of nucleus and cell: thresholds on optical density, shapes, and a watershed."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from stages.images.optical_density import chroma, optical_density

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]
Integers = NDArray[np.int32]

flood: Callable[..., NDArray[np.int32]] = watershed  # it comes without types

WORKING_SIDE = 160  # px; a nucleus is then 20..60 px across in all collections seen
OD_UNIT = 128  # levels of one optical density while thresholds are taken
OD_LEVELS = 384  # 3.0 OD: nothing is darker
DISTANCE_UNIT = 5  # levels of one px of distance in a uint8

# Of the project's first experiments, on contact sheets of seven hospitals:
BRIGHT_SHARES = (0.82, 0.98)  # the background's place among the brightnesses
BEST_OF_CENTRE = 0.66  # a nucleus is darker than this share of the darkest in the middle
CENTRE_RADIUS, INNER_RADIUS = 0.4, 0.25  # of the side: the middle, the very middle
CENTRE_SPREAD = 0.17  # of the side: how far from the middle a nucleus may be
# Chosen on the published masks of two hospitals, and by eye on the others:
MIN_NUCLEUS_OD = 0.15
DARKEST_SHARE = 0.5  # of the darkest in the very middle: a platelet is darker than red cells
MIN_NUCLEUS_SHARE = 0.001  # of the picture's area
FOREGROUND = 0.5  # of the first Otsu threshold of the summed optical density
LOBE_GAP, LOBE_REACH = 2.0, 4.5  # in radii of the nucleus found so far
LOBE_CHROMA = 14  # of 256: a lobe absorbs as much of the red as the nucleus does, a red cell less
HOLE_SHARE = 0.8  # of the nucleus' area: smaller holes are vacuoles and pallor
OTHER_OVERLAP = 0.8  # a body whose inscribed circle keeps off the nucleus is another cell
OTHER_RADIUS = 0.25  # in nucleus radii: smaller bodies are no cells
CELL_REACH = 2.6  # in nucleus radii from the hull
COMPACT = 0.9  # solidity of a cell that touches no other
RING = (1.0, 0.3)  # px, and nucleus radii, from the hull: where cytoplasm is looked at
OTHER_WEIGHT = (3, 2)  # a pixel must be so much nearer to the neighbours' hue
CHROMA_APART = 6  # of 256: cytoplasm and red cells closer than this are not told apart
SMOOTHING = 0.5  # of the hull's radius: what is narrower does not belong to the cell


@dataclass(frozen=True)
class _Nucleus:
    """The nucleus at the working size: its pixels, its filled hull, and the two's radii."""

    pixels: Mask
    hull: Pixels
    radius: float
    hull_radius: float


def outline(rgb: Pixels) -> tuple[Mask, Mask, list[int]]:
    """Find the central white cell.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)

    Returns
    -------
    cell, nucleus : numpy.ndarray of bool, shape as `working_shape` says
        At the working size; the nucleus lies within the cell. Both are all False where nothing is
        dark enough.
    white : list of int
        Background, red, green, blue, 0..255.
    """
    small = _shrink(rgb)
    white = _background(small)
    density = optical_density(small, white, OD_UNIT)
    total = np.clip(density.sum(axis=2), 0, OD_LEVELS - 1)
    first, _ = _otsu(total)
    above = total > int(FOREGROUND * first)
    found = _find_nucleus(density, above)
    if found is None:
        nothing = np.zeros(small.shape[:2], dtype=bool)
        return nothing, nothing, white
    return _find_cell(density, above, found) | found.pixels, found.pixels, white


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


def _otsu(levels: Integers) -> tuple[int, int]:
    """Return the two thresholds that part the levels into three classes."""
    counts = np.bincount(levels.ravel() // 2, minlength=OD_LEVELS // 2).astype(np.float64)
    n = np.cumsum(counts)
    total = np.cumsum(counts * np.arange(len(counts)))
    n_low, n_mid, n_high = n[:, None], n[None, :] - n[:, None], n[-1] - n[None, :]
    low, mid, high = total[:, None], total[None, :] - total[:, None], total[-1] - total[None, :]
    possible = (n_low > 0) & (n_mid > 0) & (n_high > 0)
    between = np.where(
        possible,
        low**2 / np.maximum(n_low, 1)
        + mid**2 / np.maximum(n_mid, 1)
        + high**2 / np.maximum(n_high, 1),
        -1.0,
    )
    first, second = divmod(int(between.argmax()), len(counts))
    return 2 * first + 1, 2 * second + 1


def _find_nucleus(density: Integers, above: Mask) -> _Nucleus | None:
    """Find the nucleus and its lobes; None where nothing is dark enough."""
    red, green, blue = (density[..., channel] for channel in range(3))
    # Nuclei absorb green and red; red cells absorb green and blue.
    dark = np.clip((10 * green + 5 * red - 3 * np.maximum(blue, 0)) // 10, 0, OD_LEVELS - 1)
    pixels = (dark > _nucleus_threshold(dark)).astype(np.uint8)
    pixels = cv2.morphologyEx(pixels, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    n, parts, boxes, centres = _components(pixels.astype(np.uint8, copy=False), 8)
    scores = [0.0] + [_score(boxes[i], centres[i], dark.shape) for i in range(1, n)]
    best = int(np.argmax(scores))
    if scores[best] == 0.0 or boxes[best][cv2.CC_STAT_AREA] < MIN_NUCLEUS_SHARE * dark.size:
        return None
    chosen = _join_lobes(parts, boxes, centres[best], best, above, chroma(density, OD_UNIT))
    nucleus: Mask = np.isin(parts, chosen)
    hull = fill_hull(nucleus)
    radius = math.sqrt(int(nucleus.sum()) / math.pi)
    return _Nucleus(nucleus, hull, radius, math.sqrt(int(hull.sum()) / math.pi))


def _nucleus_threshold(dark: Integers) -> int:
    first, second = _otsu(dark)
    middle = _darkest(dark, CENTRE_RADIUS, 0.95)
    inner = _darkest(dark, INNER_RADIUS, 0.98)
    return max(
        round(MIN_NUCLEUS_OD * OD_UNIT),
        int(1.05 * first),
        min(second, int(BEST_OF_CENTRE * middle)),
        int(DARKEST_SHARE * inner),
    )


def _darkest(dark: Integers, radius: float, share: float) -> int:
    """Return a quantile of the darkness within a disc in the middle."""
    height, width = dark.shape
    y, x = np.ogrid[:height, :width]
    reach = radius * min(height, width)
    inside = dark[(2 * y - height + 1) ** 2 + (2 * x - width + 1) ** 2 <= (2 * reach) ** 2]
    rank = int(share * inside.size)
    return int(np.partition(inside, rank)[rank])


def _components(
    pixels: Pixels, connectivity: int
) -> tuple[int, Integers, Integers, NDArray[np.float64]]:
    """Return the number of components with the background, their map, boxes and centroids."""
    n, parts, boxes, centres = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity)
    return n, np.asarray(parts, np.int32), np.asarray(boxes, np.int32), np.asarray(centres)


def _score(box: Integers, centre: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """Rate a component: large, near the middle, and not cut by the border."""
    x, y, box_width, box_height, area = (int(value) for value in box)
    height, width = shape
    off = (centre[0] - (width - 1) / 2) ** 2 + (centre[1] - (height - 1) / 2) ** 2
    cuts = (x == 0) + (y == 0) + (x + box_width == width) + (y + box_height == height)
    spread = CENTRE_SPREAD * min(height, width)
    return float(area * math.exp(-off / (2 * spread**2)) * 0.5**cuts)


def _join_lobes(
    parts: Integers,
    boxes: Integers,
    centre: NDArray[np.float64],
    best: int,
    foreground: Mask,
    colour: Integers,
) -> list[int]:
    """Return the components that are lobes of the nucleus `best`, itself included.

    A lobe is near, not larger, coloured like the nucleus, and no background lies between.
    """
    areas = boxes[:, cv2.CC_STAT_AREA]
    smallest = max(8, int(areas[best]) // 50)
    red_share = int(np.median(colour[parts == best][:, 0]))
    waiting = {
        part: _contour(parts, boxes[part], part)
        for part in range(1, len(boxes))
        if part != best
        and smallest <= areas[part] <= 1.2 * areas[best]
        and abs(int(np.median(colour[parts == part][:, 0])) - red_share) <= LOBE_CHROMA
    }
    chosen, outline, area = [best], _contour(parts, boxes[best], best), int(areas[best])
    while True:
        radius = math.sqrt(area / math.pi)
        near = [
            part
            for part, contour in waiting.items()
            if ((contour - centre) ** 2).sum(axis=1).max() <= (LOBE_REACH * radius) ** 2
            and _is_joined(contour, outline, LOBE_GAP * radius, foreground)
        ]
        if not near:
            return chosen
        for part in near:
            chosen.append(part)
            outline = np.concatenate([outline, waiting.pop(part)])
            area += int(areas[part])


def _contour(parts: Integers, box: Integers, part: int) -> Integers:
    x, y, width, height = (int(value) for value in box[:4])
    inside = (parts[y : y + height, x : x + width] == part).astype(np.uint8)
    found = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    outline: Integers = max(found, key=len)[:, 0, :].astype(np.int32) + np.array([x, y], np.int32)
    return outline


def _is_joined(contour: Integers, outline: Integers, gap: float, foreground: Mask) -> bool:
    """Tell whether two outlines are at most `gap` apart with no background between."""
    thinned = outline[::2]
    squares = ((contour[:, None, :] - thinned[None, :, :]) ** 2).sum(axis=2)
    ours, theirs = divmod(int(squares.argmin()), squares.shape[1])
    if squares[ours, theirs] > gap**2:
        return False
    start, end = contour[ours], thinned[theirs]
    n = int(max(np.abs(end - start).max(), 1))
    steps = np.arange(n + 1)[:, None]
    line = (start * (n - steps) + end * steps + n // 2) // n
    return bool(foreground[line[:, 1], line[:, 0]].all())


def _find_cell(density: Integers, above: Mask, nucleus: _Nucleus) -> Mask:
    """Cut the cell out of the foreground around the nucleus' hull."""
    foreground = _fill_holes(
        above.astype(np.uint8) | nucleus.hull, HOLE_SHARE * math.pi * nucleus.radius**2
    )
    own = _component_of(foreground, nucleus.hull)
    off_hull = cv2.distanceTransform(1 - nucleus.hull, cv2.DIST_L2, 5).astype(
        np.float32, copy=False
    )
    depth = _depth(own)
    peaks = (
        own
        & (depth == cv2.dilate(depth, np.ones((7, 7), np.uint8)))
        & (depth > DISTANCE_UNIT * OTHER_RADIUS * nucleus.radius)
        & (off_hull * DISTANCE_UNIT > OTHER_OVERLAP * depth)
    )
    others = peaks | (own & (off_hull > CELL_REACH * nucleus.radius))
    if others.any() or not _is_compact(own):
        bodies = _draw_bodies(peaks, depth)
        outside = (foreground > 0) & (~own | (off_hull > CELL_REACH * nucleus.radius) | bodies)
        others |= _like_others(density, own, outside, off_hull, nucleus)
    markers = np.zeros(own.shape, np.int32)
    markers[others] = 2
    markers[nucleus.hull > 0] = 1
    cell = flood(255 - depth, markers, mask=own) == 1
    side = 2 * int(SMOOTHING * nucleus.hull_radius / 2) + 1
    smooth = cv2.morphologyEx(cell.astype(np.uint8), cv2.MORPH_OPEN, _ellipse(side))
    return _component_of(smooth.astype(np.uint8, copy=False) | nucleus.hull, nucleus.hull)


def _like_others(
    density: Integers, own: Mask, outside: Mask, off_hull: NDArray[np.float32], nucleus: _Nucleus
) -> Mask:
    """Return the pixels of `own` whose hue is that of the neighbours, not of the cytoplasm."""
    clear = ~nucleus.pixels
    outside = outside & clear & (off_hull > 0.4 * nucleus.radius)
    ring = own & clear & (off_hull > RING[0]) & (off_hull < RING[1] * nucleus.radius)
    if int(outside.sum()) < 200 or int(ring.sum()) < 30:
        return np.zeros(own.shape, dtype=bool)
    hue = chroma(density, OD_UNIT)
    theirs = np.median(hue[outside], axis=0).astype(np.int32)
    ours = np.median(hue[ring], axis=0).astype(np.int32)
    if np.abs(theirs - ours).max() < CHROMA_APART:
        return np.zeros(own.shape, dtype=bool)
    to_theirs = ((hue - theirs) ** 2).sum(axis=2)
    to_ours = ((hue - ours) ** 2).sum(axis=2)
    nearer = OTHER_WEIGHT[0] * to_theirs < OTHER_WEIGHT[1] * to_ours
    alike = (own & clear & nearer & (off_hull > 0.12 * nucleus.radius)).astype(np.uint8)
    opened: Mask = cv2.morphologyEx(alike, cv2.MORPH_OPEN, _ellipse(7)) > 0
    return opened


def _depth(own: Mask) -> Pixels:
    """Return the smoothed distance to the background, in fifths of a px, at most 51 px."""
    # What lies beyond the border counts as foreground: a cut cell is not thin there.
    padded = cv2.copyMakeBorder(
        own.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=(1.0, 0.0, 0.0, 0.0)
    )
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    # Where there is no background at all, the distance is the largest number of its kind.
    levels = (np.minimum(distance, 255 // DISTANCE_UNIT) * DISTANCE_UNIT).astype(np.uint8)
    return cv2.blur(levels, (3, 3)).astype(np.uint8, copy=False)


def _draw_bodies(peaks: Mask, depth: Pixels) -> Mask:
    drawn = np.zeros(peaks.shape, np.uint8)
    for y, x in np.argwhere(peaks):
        radius = int(depth[y, x]) * 4 // (5 * DISTANCE_UNIT)
        cv2.circle(drawn, (int(x), int(y)), radius, (1.0,), -1)
    return drawn > 0


def _is_compact(own: Mask) -> bool:
    """Tell whether a foreground component has the shape of one lone cell."""
    opened = cv2.morphologyEx(own.astype(np.uint8), cv2.MORPH_OPEN, _ellipse(7))
    found = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    if not found:
        return False
    largest = max(found, key=cv2.contourArea)
    return bool(cv2.contourArea(largest) >= COMPACT * cv2.contourArea(cv2.convexHull(largest)))


def _ellipse(side: int) -> Pixels:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return kernel.astype(np.uint8, copy=False)


def _component_of(foreground: Pixels, seed: Pixels) -> Mask:
    """Return the component that holds most of the seed."""
    n, parts = cv2.connectedComponents(foreground, connectivity=4)
    inside = np.bincount(parts[seed > 0], minlength=n)
    inside[0] = 0
    own: Mask = parts == int(inside.argmax())
    return own


def _fill_holes(foreground: Pixels, largest: float) -> Pixels:
    """Fill holes up to `largest` px that do not reach the border."""
    height, width = foreground.shape
    _, parts, boxes, _ = _components(1 - foreground, 4)
    x, y, box_width, box_height, area = boxes.T
    inside = (x > 0) & (y > 0) & (x + box_width < width) & (y + box_height < height)
    is_hole = inside & (area < largest)
    is_hole[0] = False
    filled: Pixels = foreground | is_hole[parts].astype(np.uint8)
    return filled


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

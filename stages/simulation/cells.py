"""The cell types as a haematologist tells them apart: size, outline, nucleus, texture."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[Any]  # uint8 throughout; OpenCV promises less of what it returns
NucleusDrawer = Callable[[Plane, np.random.Generator, float], None]

LARGEST = 632  # px, of a side; a picture must fit into the tiles
TILE = 640  # px; each picture takes its texture from a random place of these tiles
PATCH = 36  # um; the tiles of granules repeat at this distance, wider than any cell
RED_CELLS = 48  # different red cells in store; each also stands mirrored in the pictures
SHIFT = 4  # outlines are drawn in sixteenths of a pixel
UNITS = 1 << SHIFT
ANGLES = np.arange(56) * (2 * math.pi / 56)
WAVES = np.array([2, 3, 4, 5, 7])
COSINES, SINES = np.cos(np.outer(WAVES, ANGLES)), np.sin(np.outer(WAVES, ANGLES))


@dataclass(frozen=True)
class CellKind:
    """How a cell type is drawn; lengths in um, shares in 0..1.

    Attributes
    ----------
    radius : tuple of float
        Smallest and largest radius of the cell.
    wobble : float
        How far the outline leaves the circle.
    nucleus : callable or None
        Draws the nucleus' parts.
    cytoplasm : tuple of float
        Doses of cytoplasm, basophilic and eosinophilic stain.
    granules : tuple of str and float
        The tile of granules (fine, coarse, dense, packed), and how strongly they cover.
    chromatin : tuple of str and two floats
        The tile of the nucleus (clumped, lacy), and its lightest and darkest dose.
    vacuoles : int
        The largest number of holes in the cytoplasm.
    rim : float
        How much denser the cytoplasm is towards the border; 0: even.
    """

    radius: tuple[float, float]
    wobble: float
    nucleus: NucleusDrawer | None
    cytoplasm: tuple[float, float, float]
    granules: tuple[str, float]
    chromatin: tuple[str, float, float]
    vacuoles: int = 0
    rim: float = 1.0


def _fixed(values: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.rint(values * UNITS).astype(np.int32)


def outline(
    rng: np.random.Generator, x: float, y: float, radius: float, wobble: float, stretch: float = 1.0
) -> NDArray[np.int32]:
    """Return the points of a wavy, turned, stretched circle, shape (56, 2), in 1/16 px."""
    waves = rng.uniform(-wobble, wobble, (2, len(WAVES), 1)) / WAVES[:, None] * 2
    radii = radius * (1 + (waves[0] * COSINES + waves[1] * SINES).sum(axis=0))
    turn = rng.uniform(0, math.pi)
    along, across = radii * np.cos(ANGLES) * stretch, radii * np.sin(ANGLES) / stretch
    points = np.stack(
        [
            x + along * math.cos(turn) - across * math.sin(turn),
            y + along * math.sin(turn) + across * math.cos(turn),
        ],
        axis=1,
    )
    return _fixed(points)


def fill(plane: Plane, points: NDArray[np.int32], value: int = 255) -> None:
    """Fill an outline, with smooth borders."""
    cv2.fillPoly(plane, [points], value, cv2.LINE_AA, SHIFT)


def disc(plane: Plane, x: float, y: float, radius: float, value: int = 255) -> None:
    """Fill a disc, with smooth borders."""
    cv2.circle(
        plane,
        (round(x * UNITS), round(y * UNITS)),
        round(radius * UNITS),
        value,
        cv2.FILLED,
        cv2.LINE_AA,
        SHIFT,
    )


def _arc(middle: float, radius: float, start: float, span: float, n: int) -> NDArray[np.float64]:
    angles = start + np.linspace(-span / 2, span / 2, n)
    return np.stack([middle + radius * np.cos(angles), middle + radius * np.sin(angles)], axis=1)


def _thread(plane: Plane, points: NDArray[np.float64], thickness: float) -> None:
    cv2.polylines(plane, [_fixed(points)], False, 255, max(1, round(thickness)), cv2.LINE_AA, SHIFT)


def _band(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw a sausage bent to a C or an S, of nearly even width."""
    middle, start = plane.shape[0] / 2, rng.uniform(0, 2 * math.pi)
    bend = radius * rng.uniform(0.45, 0.54)
    points = _arc(middle, bend, start, rng.uniform(3.0, 4.6), 13)
    points += (middle - points.mean(axis=0)) * rng.uniform(0.3, 0.8)
    for (x, y), width in zip(points, rng.uniform(0.21, 0.27, len(points)), strict=True):
        disc(plane, x, y, radius * width)
    for x, y in points[[0, -1]]:
        disc(plane, x, y, radius * rng.uniform(0.25, 0.31))


def _lobes(plane: Plane, rng: np.random.Generator, radius: float, n: int, size: float) -> None:
    middle, start = plane.shape[0] / 2, rng.uniform(0, 2 * math.pi)
    bend = radius * (0.40 + 0.03 * n)
    points = _arc(middle, bend, start, min(4.4, rng.uniform(1.1, 1.6) * (n - 1) + 0.4), n)
    points += rng.uniform(-0.13, 0.13, points.shape) * radius
    points += (middle - points.mean(axis=0)) * rng.uniform(0.5, 0.9)
    for x, y in points:
        lobe = radius * size * rng.uniform(0.85, 1.12)
        fill(plane, outline(rng, x, y, lobe, 0.10, rng.uniform(1.0, 1.22)))
    _thread(plane, points, radius * rng.uniform(0.09, 0.16))


def _segments(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw two to five lobes on thin strands."""
    n = int(rng.choice([2, 3, 3, 3, 4, 4, 5]))
    _lobes(plane, rng, radius, n, {2: 0.42, 3: 0.35, 4: 0.31, 5: 0.28}[n])


def _two_lobes(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw the spectacles of an eosinophil: two round lobes, now and then three."""
    n = int(rng.choice([2, 2, 2, 3]))
    _lobes(plane, rng, radius, n, 0.42 if n == 2 else 0.35)


def _clover(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw the broad, ill-defined lobes of a basophil."""
    _lobes(plane, rng, radius, int(rng.integers(2, 4)), 0.50)


def _full(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw the round nucleus that leaves a lymphocyte a thin rim."""
    x, y = plane.shape[0] / 2 + rng.uniform(-0.09, 0.09, 2) * radius
    size = radius * rng.uniform(0.78, 0.9)
    fill(plane, outline(rng, x, y, size, 0.06, rng.uniform(1.0, 1.1)))


def _large(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw the large round nucleus of a promyelocyte."""
    x, y = plane.shape[0] / 2 + rng.uniform(-0.17, 0.17, 2) * radius
    size = radius * rng.uniform(0.66, 0.8)
    fill(plane, outline(rng, x, y, size, 0.07, rng.uniform(1.0, 1.15)))


def _oval(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw the oval nucleus of a myelocyte, off the centre, one side flat."""
    turn, off = rng.uniform(0, 2 * math.pi), radius * rng.uniform(0.16, 0.27)
    x, y = plane.shape[0] / 2 + off * np.array([math.cos(turn), math.sin(turn)])
    fill(plane, outline(rng, x, y, radius * rng.uniform(0.6, 0.68), 0.09, rng.uniform(1.05, 1.2)))


def _kidney(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw the bean of a metamyelocyte, dented by less than half."""
    start, off = rng.uniform(0, 2 * math.pi), radius * rng.uniform(0.05, 0.16)
    middle = plane.shape[0] / 2
    points = _arc(middle, radius * 0.42, start, rng.uniform(2.2, 2.9), 9)
    shift = np.array([math.cos(start), math.sin(start)]) * off
    points += (middle - points.mean(axis=0)) * 0.9 + shift
    for x, y in points:
        disc(plane, x, y, radius * rng.uniform(0.31, 0.36))


def _folded(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw the broad horseshoe of a monocyte, folded and lumpy."""
    start, middle = rng.uniform(0, 2 * math.pi), plane.shape[0] / 2
    points = _arc(middle, radius * rng.uniform(0.3, 0.4), start, rng.uniform(2.2, 4.2), 8)
    points += (middle - points.mean(axis=0)) * rng.uniform(0.6, 1.0)
    for x, y in points:
        size = radius * rng.uniform(0.3, 0.4)
        fill(plane, outline(rng, x, y, size, 0.16, rng.uniform(1.0, 1.25)))


def _small(plane: Plane, rng: np.random.Generator, radius: float) -> None:
    """Draw the small dense nucleus of an erythroblast."""
    x, y = plane.shape[0] / 2 + rng.uniform(-0.22, 0.22, 2) * radius
    size = radius * rng.uniform(0.5, 0.64)
    fill(plane, outline(rng, x, y, size, 0.05, rng.uniform(1.0, 1.08)))


def all_over(plane: Plane, _: np.random.Generator, radius: float) -> None:
    """Draw a nucleus that leaves nothing of the cell around it."""
    disc(plane, plane.shape[1] / 2, plane.shape[0] / 2, 2 * radius)


# Sizes and proportions as seen on Wright-stained adult blood; the radius is half a diameter in um.
KINDS = {
    "band_neutrophil": CellKind(
        (6.0, 6.8), 0.03, _band, (1.0, 0.1, 0.0), ("fine", 0.5), ("clumped", 0.5, 1.4)
    ),
    "segmented_neutrophil": CellKind(
        (5.9, 6.9), 0.04, _segments, (1.0, 0.05, 0.0), ("fine", 0.5), ("clumped", 0.5, 1.4)
    ),
    "eosinophil": CellKind(
        (6.1, 7.0), 0.03, _two_lobes, (0.3, 0.1, 1.1), ("packed", 0.0), ("clumped", 0.55, 1.3)
    ),
    "basophil": CellKind(
        (5.2, 6.2), 0.06, _clover, (0.8, 0.35, 0.0), ("dense", 0.95), ("lacy", 0.6, 1.1)
    ),
    "lymphocyte": CellKind(
        (4.3, 5.3), 0.05, _full, (0.0, 1.3, 0.0), ("fine", 0.12), ("clumped", 0.65, 1.4)
    ),
    "monocyte": CellKind(
        (7.0, 8.3), 0.09, _folded, (0.2, 0.8, 0.0), ("fine", 0.3), ("lacy", 0.5, 1.15), vacuoles=6
    ),
    "promyelocyte": CellKind(
        (7.0, 8.6), 0.05, _large, (0.3, 1.1, 0.0), ("coarse", 0.75), ("lacy", 0.55, 1.15)
    ),
    "myelocyte": CellKind(
        (6.3, 7.4), 0.04, _oval, (0.6, 0.6, 0.0), ("fine", 0.75), ("lacy", 0.55, 1.2)
    ),
    "metamyelocyte": CellKind(
        (6.2, 7.2), 0.05, _kidney, (0.9, 0.28, 0.0), ("fine", 0.6), ("clumped", 0.5, 1.35)
    ),
    "erythroblast": CellKind(
        (4.0, 5.2), 0.06, _small, (0.3, 0.75, 0.1), ("fine", 0.0), ("clumped", 0.8, 1.5)
    ),
    "platelet": CellKind(
        (1.4, 2.3), 0.10, None, (0.5, 0.5, 0.0), ("coarse", 0.85), ("lacy", 0.6, 1.0)
    ),
}
CELL_TYPES = tuple(KINDS)
STRAY_PLATELET = replace(KINDS["platelet"], radius=(0.8, 1.4))


def _equalise(plane: Plane) -> Plane:
    """Spread the grey levels evenly over 0..255, by ranks: exact on any machine."""
    counts = np.bincount(plane.ravel(), minlength=256)
    ranks = np.cumsum(counts) - counts // 2
    return (ranks * 255 // plane.size).astype(np.uint8)[plane]


def _clouds(rng: np.random.Generator, grain: float) -> Plane:
    """Return smooth random texture; `grain` is the size of its spots in px."""
    small = max(1, int(grain / 2))
    side = -(-TILE // small)
    plane = _equalise(
        cv2.GaussianBlur(rng.integers(0, 256, (side, side), np.uint8), (0, 0), grain / small / 2)
    )
    return cv2.resize(plane, (TILE, TILE), interpolation=cv2.INTER_LINEAR_EXACT)


def _mix(first: Plane, second: Plane, share: int) -> Plane:
    """Blend two textures, `share` of 16 parts from the first."""
    return (
        (first.astype(np.uint16) * share + second.astype(np.uint16) * (16 - share)) >> 4
    ).astype(np.uint8)


def _grains(
    rng: np.random.Generator, scale: float, radius: tuple[float, float], per_um2: float, dim: int
) -> Plane:
    """Return a tile of granules, 0 between them; radius in um, `dim` the weakest granule."""
    side = min(TILE, int(PATCH * scale))
    plane = np.zeros((side, side), np.uint8)
    n = int(per_um2 * (side / scale) ** 2)
    for x, y, size, value in zip(
        *rng.uniform(0, side, (2, n)),
        rng.uniform(*radius, n) * scale,
        rng.integers(dim, 256, n).tolist(),
        strict=True,
    ):
        disc(plane, x, y, max(size, 0.6), value)
    times = -(-TILE // side)
    return np.tile(cv2.GaussianBlur(plane, (0, 0), 0.6), (times, times))[:TILE, :TILE]


@dataclass(frozen=True)
class Bank:
    """What the pictures of a hospital are put together from, made once."""

    tiles: dict[str, Plane]
    red_cells: list[Plane]
    brighter: Plane
    darker: Plane


@lru_cache(maxsize=8)
def bank(seed: int, scale: float, noise: float) -> Bank:
    """Make textures, granules, red cells and camera noise for one scale (px per um)."""
    rng = np.random.default_rng([seed, 0])
    fine, coarse = _clouds(rng, 0.22 * scale), _clouds(rng, 0.65 * scale)
    tiles = {
        "clumped": _equalise(_mix(fine, coarse, 8)),
        "lacy": _equalise(_mix(fine, coarse, 12)),
        "rough": _clouds(rng, 1.1 * scale),
        "mottle": _clouds(rng, 14.0 * scale),
        "fine": _grains(rng, scale, (0.10, 0.20), 3.2, 60),
        "coarse": _grains(rng, scale, (0.20, 0.38), 2.4, 90),
        "dense": _grains(rng, scale, (0.2, 0.38), 3.4, 90),
        "packed": _grains(rng, scale, (0.22, 0.36), 7.0, 70),
    }
    sums = rng.integers(0, 256, (4, TILE, TILE, 3), np.uint8).sum(axis=0, dtype=np.int32) - 510
    steps = sums * round(noise * 256) // (148 * 256)  # four uniform draws: deviation 147.8
    return Bank(
        tiles,
        [_red_cell(rng, scale, number / (RED_CELLS - 1)) for number in range(RED_CELLS)],
        np.maximum(steps, 0).astype(np.uint8),
        np.maximum(-steps, 0).astype(np.uint8),
    )


def _red_cell(rng: np.random.Generator, scale: float, pallor: float) -> Plane:
    """Draw a red cell as amounts of stain: dense ring, centre the paler the higher `pallor`."""
    side = int(10.5 * scale) | 1
    body, centre = np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8)
    radius, stretch = rng.uniform(3.2, 3.9) * scale, rng.uniform(1.0, 1.13)
    fill(body, outline(rng, side / 2, side / 2, radius, 0.035, stretch))
    x, y = side / 2 + rng.uniform(-0.08, 0.08, 2) * radius
    size = radius * (0.22 + 0.26 * pallor) * rng.uniform(0.8, 1.2)
    fill(centre, outline(rng, x, y, size, 0.06, stretch))
    inside = cv2.GaussianBlur(body, (0, 0), 0.10 * radius).astype(np.int32)
    hollow = cv2.GaussianBlur(centre, (0, 0), (0.22 - 0.1 * pallor) * radius).astype(np.int32)
    wide = cv2.GaussianBlur(body, (0, 0), 0.3 * radius).astype(np.int32)
    depth = 92 + (inside - 128) * 42 // 128 - (wide - 128) * 30 // 128 + (255 - inside) // 6
    paler = hollow * round(16 + 118 * pallor) // 255
    amount = np.clip(depth - paler, 4, 255) * body // 255
    stamp: Plane = amount.astype(np.uint8)
    return stamp

"""Smears of any look: stains, crowding, scale and camera drawn anew, to learn outlines from."""

import math
from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.simulation.cells import CELL_TYPES, KINDS, LARGEST, CellKind, all_over, bank
from stages.simulation.pictures import Camera, Drawing, Look, Stain, Style, draw_kind, encode_anew

# Of each dye: the least and the largest optical density in green, what red and blue absorb beside
# green, and how far that hue wanders (standard deviation of the logarithm). Far wider than any
# hospital is, so that what is learnt is shape and contrast, and no hospital's colours.
DYES = {
    "red_cell": (0.08, 0.9, (0.5, 0.8), 0.7),
    "nucleus": (0.5, 2.2, (0.75, 0.45), 0.3),
    "cytoplasm": (0.04, 0.6, (0.7, 0.7), 0.8),
    "basophilic": (0.1, 0.9, (0.95, 0.5), 0.5),
    "eosinophilic": (0.15, 1.0, (0.4, 0.75), 0.6),
    "granule": (0.7, 2.0, (0.75, 0.5), 0.3),
}
FIELD = (18.0, 46.0)  # um, side of a picture
TIGHT = 0.35  # share of pictures that are cut close around the cell
CUT = (1.05, 2.2)  # half their side, in radii of the cell
HAZE = (0.3, 0.1, 0.6)  # share of pictures, and how far they go towards the background
DARK = 0.05  # share of pictures with a dark corner: the end of the field of view
NEIGHBOURS = (0, 0, 0, 1, 1, 2)  # other white cells
KEEP_OFF = (-0.3, 0.7)  # how far red cells keep off, in radii of the cell: most touch it
DARK_ALL_OVER = 0.15  # share of cells with no plasm to be seen, as a basophil's granules hide it


def draw_smears(seed: int, n_pictures: int) -> Iterator[Drawing]:
    """Draw pictures of one hospital that never was.

    Parameters
    ----------
    seed : int
        Of the hospital; the same seed gives the same pictures.
    n_pictures : int

    Yields
    ------
    Drawing
        A white cell or platelet, near the middle, of any type; some are cut by the border. A
        platelet's mask is that of a nucleus all over, since its granules are its darkest part.

    Notes
    -----
    Known masks of pictures that vary more than real ones carry a network to real ones [1]_.

    References
    ----------
    .. [1] J. Tobin et al., "Domain Randomization for Transferring Deep Neural Networks from
       Simulation to the Real World", IROS 2017.
    """
    rng = np.random.default_rng([seed, 20])
    scale = float(rng.uniform(5.0, 14.0))
    side = int(min(LARGEST, max(60.0, scale * rng.uniform(*FIELD))))
    style = Style(
        width=side, height=side, px_per_um=scale, stain=_stain(rng), camera=_camera(rng, scale)
    )
    parts = bank(seed, scale, style.camera.noise)
    names = [name for name in CELL_TYPES for _ in range(1 if name == "platelet" else 2)]
    for _ in range(n_pictures):
        look = Look(
            dose=tuple(np.exp(rng.normal(0, 0.15, 7)).tolist()),
            pallor=float(rng.uniform()),
            crowding=float(rng.uniform(0.3, 1.0) ** 0.5),
        )
        name = names[int(rng.integers(len(names)))]
        kind = _vary(KINDS[name], rng)
        keep_off = float(rng.uniform(*KEEP_OFF))
        around = [_neighbour(kind, rng) for _ in range(int(rng.choice(NEIGHBOURS)))]
        drawn = draw_kind(style, kind, rng, look, parts, keep_off, 1.5, around)
        if name == "platelet":
            drawn = Drawing(drawn.rgb, np.where(drawn.mask > 0, np.uint8(255), np.uint8(0)))
        yield _photograph_anew(drawn, style, rng)


def _stain(rng: np.random.Generator) -> Stain:
    white = np.clip(rng.uniform(150, 252) * np.exp(rng.normal(0, 0.07, 3)), 100, 254)
    colours = {"background": white.astype(int).tolist()}
    for name, (least, most, (red, blue), spread) in DYES.items():
        amount = math.exp(rng.uniform(math.log(least), math.log(most)))
        density = amount * np.array([red, 1.0, blue]) * np.exp(rng.normal(0, spread, 3))
        levels = np.clip(np.rint(white * np.exp(-density)), 1, 255)
        colours[name] = levels.astype(int).tolist()
    return Stain(**colours)


def _camera(rng: np.random.Generator, scale: float) -> Camera:
    return Camera(
        blur=float(rng.uniform(0, 0.22)) * scale,
        sharpen=float(rng.uniform(0, 1.5)),
        noise=float(rng.uniform(0, 6)),
        unevenness=float(rng.uniform(0, 0.3)),
        jpeg_quality=int(rng.integers(40, 96)),
    )


def _vary(kind: CellKind, rng: np.random.Generator) -> CellKind:
    """Change size, roundness, and density and evenness of the cytoplasm."""
    size, dose = math.exp(rng.uniform(-0.25, 0.3)), math.exp(rng.uniform(-1.0, 0.4))
    low, high = kind.radius
    return replace(
        kind,
        radius=(low * size, high * size),
        wobble=kind.wobble * rng.uniform(0.5, 4.0),
        cytoplasm=(dose * kind.cytoplasm[0], dose * kind.cytoplasm[1], dose * kind.cytoplasm[2]),
        granules=(kind.granules[0], min(1.0, kind.granules[1] * rng.uniform(0.0, 1.2))),
        rim=float(rng.uniform(0.0, 1.0)),
        nucleus=all_over if kind.nucleus and rng.random() < DARK_ALL_OVER else kind.nucleus,
    )


def _neighbour(kind: CellKind, rng: np.random.Generator) -> tuple[CellKind, float, float]:
    """Draw another white cell, from one that touches ours to one some way off."""
    other = KINDS[CELL_TYPES[int(rng.integers(len(CELL_TYPES)))]]
    angle = rng.uniform(0, 2 * math.pi)
    away = (kind.radius[1] + other.radius[1]) * rng.uniform(0.95, 1.6)
    return other, away * math.cos(angle), away * math.sin(angle)


def _photograph_anew(drawn: Drawing, style: Style, rng: np.random.Generator) -> Drawing:
    rgb, mask = drawn.rgb, drawn.mask
    if rng.random() < TIGHT:
        rgb, mask = _cut_close(rgb, mask, rng)
    share, least, most = HAZE
    if rng.random() < share:
        veiled = rgb + rng.uniform(least, most) * (np.array(style.stain.background) - rgb)
        rgb = np.clip(np.rint(veiled), 0, 255).astype(np.uint8)
    if rng.random() < DARK:
        _darken_corner(rgb, mask, rng)
    if rng.random() < 0.5:
        rgb = encode_anew(rgb, style.camera.jpeg_quality)
    return Drawing(rgb, mask)


def _cut_close(
    rgb: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    y, x = np.nonzero(mask)
    radius = math.sqrt(len(y) / math.pi)
    half = radius * rng.uniform(*CUT)
    middle = np.array([y.mean(), x.mean()]) + rng.normal(0, 0.15, 2) * radius
    top, left = np.maximum(middle - half, 0).astype(int)
    bottom, right = np.minimum(middle + half, mask.shape).astype(int)
    if min(bottom - top, right - left) < 30:
        return rgb, mask
    part = (slice(top, bottom), slice(left, right))
    return np.ascontiguousarray(rgb[part]), np.ascontiguousarray(mask[part])


def _darken_corner(
    rgb: NDArray[np.uint8], mask: NDArray[np.uint8], rng: np.random.Generator
) -> None:
    """Blacken the upper left corner, in place, where no part of the cell lies near."""
    height, width = mask.shape
    across, down = int(rng.uniform(0.2, 0.6) * width), int(rng.uniform(0.2, 0.6) * height)
    if not mask[:down, :across].any():
        corner = np.array([[0, 0], [across, 0], [0, down]], np.int32)
        cv2.fillPoly(rgb, [corner], (0, 0, 0))

"""Draw one picture of a stained smear: a cell of a known type among red cells and platelets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from stages.core.settings import Group
from stages.simulation.cells import (
    KINDS,
    LARGEST,
    RED_CELLS,
    STRAY_PLATELET,
    TILE,
    Bank,
    CellKind,
    Plane,
    disc,
    fill,
    outline,
)

Colour = Annotated[
    list[Annotated[int, Field(ge=1, le=255)]], Field(min_length=3, max_length=3)
]  # RGB, 0..255

DOSE = 128  # amount of stain that gives the colour of `Stain`; planes hold up to two doses


class Stain(Group):
    """Colours that one dose of each stain gives on the background, RGB 0..255."""

    background: Colour = [253, 230, 204]
    red_cell: Colour = [206, 171, 168]
    nucleus: Colour = [88, 38, 138]  # chromatin
    cytoplasm: Colour = [222, 189, 188]  # of neutrophils
    basophilic: Colour = [163, 146, 184]  # cytoplasm of lymphocytes, monocytes, young cells
    eosinophilic: Colour = [192, 112, 118]  # granules of eosinophils, haemoglobin
    granule: Colour = [100, 45, 132]  # granules of basophils and promyelocytes


class Camera(Group):
    """What stands between the slide and the file."""

    blur: Annotated[float, Field(ge=0.0, le=8.0)] = 0.7  # standard deviation, px
    sharpen: Annotated[float, Field(ge=0.0, le=2.0)] = 0.6  # unsharp mask, 0: none
    noise: Annotated[float, Field(ge=0.0, le=40.0)] = 2.0  # standard deviation, grey levels
    unevenness: Annotated[float, Field(ge=0.0, le=0.6)] = 0.05  # light lost in the far corner
    jpeg_quality: Annotated[int, Field(ge=10, le=100)] = 85


class Style(Group):
    """Everything about the look of a hospital's pictures."""

    width: Annotated[int, Field(ge=48, le=LARGEST)] = 360  # px
    height: Annotated[int, Field(ge=48, le=LARGEST)] = 363  # px
    px_per_um: Annotated[float, Field(ge=2.0, le=20.0)] = 10.0
    stain: Stain = Stain()
    camera: Camera = Camera()


@dataclass(frozen=True)
class Look:
    """What all pictures of one slide share; the shifts are shares of a dose, or grey levels."""

    dose: tuple[float, ...] = (1.0,) * 7  # factor of each colour of `Stain`, in its order
    tint: tuple[float, float, float] = (0.0, 0.0, 0.0)  # added to the background, grey levels
    pallor: float = 0.5  # 0: flat red cells, 1: wide pale centres
    crowding: float = 0.7  # share of places that a red cell takes


@dataclass(frozen=True)
class Drawing:
    """A picture, shape (height, width, 3) RGB, and its mask: 0 outside, 128 cell, 255 nucleus."""

    rgb: Plane
    mask: Plane


def _densities(stain: Stain, look: Look) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the background and the optical densities of one dose of the other colours."""
    colours = np.array([getattr(stain, name) for name in Stain.model_fields], np.float64)
    background = np.clip(colours[0] + look.tint, 1, 255)
    densities = np.log(colours[0] / colours) * np.array(look.dose)[:, None]
    return background, densities[1:]


def _colours(background: NDArray[np.float64], density: NDArray[np.float64]) -> Plane:
    """Return the colour of every amount of stain, shape (256, 1, 3): the law of Beer-Lambert."""
    doses = np.arange(256)[:, None] / DOSE
    return np.rint(np.clip(background * np.exp(-doses * density), 0, 255)).astype(np.uint8)[:, None]


def _blend(under: Plane, over: Plane, alpha: Plane) -> Plane:
    weight = alpha.astype(np.uint16)[..., None]
    both: Plane = ((under * (255 - weight) + over * weight + 127) // 255).astype(np.uint8)
    return both


def _crop(tile: Plane, rng: np.random.Generator, height: int, width: int) -> Plane:
    y, x = rng.integers(0, TILE - height + 1), rng.integers(0, TILE - width + 1)
    return tile[y : y + height, x : x + width]


def _ramp(low: int, high: int) -> Plane:
    return np.clip((np.arange(256) - low) * 255 // (high - low), 0, 255).astype(np.uint8)


SOLID = _ramp(100, 156)
SQUARE = np.ones((3, 3), np.uint8)


def _roughen(plane: Plane, rough: Plane, sigma: float, strength: int) -> Plane:
    """Melt the parts of a shape together and let its border wander: a noisy level set."""
    soft = cv2.GaussianBlur(plane, (0, 0), sigma).astype(np.int16)
    moved = soft + ((rough.astype(np.int16) - 128) * strength >> 7)
    return cv2.LUT(np.clip(moved, 0, 255).astype(np.uint8), SOLID)


def _smear(
    style: Style, look: Look, parts: Bank, rng: np.random.Generator, keep_off: float
) -> Plane:
    """Lay red cells over the field; return amounts of stain. They touch the white cell at most."""
    side = parts.red_cells[0].shape[0]
    height, width = style.height + 2 * side, style.width + 2 * side
    field = np.zeros((height, width), np.uint8)
    step = 7.5 * style.px_per_um
    rows, columns = np.mgrid[0 : int(height / step) + 1, 0 : int(width / step) + 1]
    places = np.stack([columns + 0.5 * (rows % 2), rows * 0.9], axis=-1).reshape(-1, 2) * step
    places += rng.uniform(-0.3, 0.3, places.shape) * step + rng.uniform(-0.5, 0.5, 2) * step
    places = places[rng.random(len(places)) < look.crowding]
    off = places - np.array([width, height]) / 2
    distance = np.maximum(np.sqrt((off**2).sum(axis=1)), 1.0)
    nearest = keep_off + 3.1 * style.px_per_um
    places += off * (np.maximum(nearest - distance, 0) / distance)[:, None]
    places = places[distance > 0.55 * nearest]
    chosen = np.clip(look.pallor + rng.uniform(-0.22, 0.22, len(places)), 0, 1) * (RED_CELLS - 1)
    mirrors = rng.integers(0, 4, len(places))
    for (x, y), number, mirror in zip(places, np.rint(chosen).astype(int), mirrors, strict=True):
        top, left = int(y) - side // 2, int(x) - side // 2
        if top < 0 or left < 0 or top + side > height or left + side > width:
            continue
        stamp = np.ascontiguousarray(
            parts.red_cells[number][:: 1 - 2 * (mirror & 1), :: 1 - (mirror & 2)]
        )
        spot = field[top : top + side, left : left + side]
        both = cv2.min(spot, stamp) // 3  # less than the sum: pressed cells give way
        np.copyto(spot, cv2.add(cv2.max(spot, stamp), both))
    return field[side : side + style.height, side : side + style.width]


def _cell(
    picture: Plane,
    mask: Plane,
    kind: CellKind,
    place: tuple[float, float],
    scale: float,
    inks: tuple[NDArray[np.float64], NDArray[np.float64]],
    parts: Bank,
    rng: np.random.Generator,
) -> None:
    """Paint one white cell or platelet into `picture` and `mask`, both changed in place."""
    background, densities = inks
    _, chromatin, cytoplasm, basophilic, eosinophilic, granule = densities
    (granules, cover_alpha), (grain, *doses_of) = kind.granules, kind.chromatin
    radius = rng.uniform(*kind.radius) * scale
    side = min(int(radius * 2.7) + 8, TILE)
    cell: Plane = np.zeros((side, side), np.uint8)
    nucleus: Plane = np.zeros((side, side), np.uint8)
    fill(cell, outline(rng, side / 2, side / 2, radius, kind.wobble, rng.uniform(1.0, 1.13)))
    rough = _crop(parts.tiles["rough"], rng, side, side)
    cell = _roughen(cell, rough, 0.12 * scale + 0.4, round(220 * kind.wobble))
    grains = _crop(parts.tiles[granules], rng, side, side)
    if granules == "dense":  # they bulge out of the cell
        near = cv2.dilate(cell, SQUARE, iterations=max(1, round(0.3 * scale)))
        cell = cv2.max(cell, cv2.min(grains, near))
    grains = cv2.min(grains, cell)
    inside = cv2.GaussianBlur(cell, (0, 0), 0.35 * scale)
    body: Plane = _crop(parts.tiles["clumped"], rng, side, side) // 4 + 96
    rim = (255 - inside.astype(np.int32)) * round(kind.rim * 256) // (3 * 256)
    body = cv2.add(body, rim.astype(np.uint8))  # denser towards the border
    if granules == "packed":
        body = grains // 2 + 28
    doses = np.array(kind.cytoplasm) * rng.uniform(0.7, 1.3, 3)
    density = doses[0] * cytoplasm + doses[1] * basophilic + doses[2] * eosinophilic
    paint = cv2.applyColorMap(body, _colours(background, density))
    if kind.nucleus is not None:
        kind.nucleus(nucleus, rng, radius)
        nucleus = cv2.min(_roughen(nucleus, rough, 0.14 * scale, 26), cell)
        stain = _chromatin(nucleus, _crop(parts.tiles[grain], rng, side, side), doses_of, scale)
        under = cv2.applyColorMap(stain, _colours(background, chromatin * rng.uniform(0.85, 1.12)))
        paint = _blend(paint, under, nucleus)
    cover: Plane = (grains.astype(np.uint16) * round(255 * cover_alpha) // 255).astype(np.uint8)
    if granules == "fine":
        cover = cv2.subtract(cover, nucleus)
    paint = _blend(paint, _colours(background, granule)[DOSE * 3 // 2][None], cover)
    for _ in range(int(rng.integers(0, kind.vacuoles + 1))):
        hole, turn = np.zeros_like(cell), rng.uniform(0, 6.28)
        off = rng.uniform(0.55, 0.85) * radius
        x, y = side / 2 + off * np.cos(turn), side / 2 + off * np.sin(turn)
        disc(hole, x, y, rng.uniform(0.3, 0.75) * scale, 170)
        paint = _blend(paint, np.rint(background).astype(np.uint8)[None, None], hole)
    _place(picture, mask, place, paint, cell, nucleus)


def _chromatin(nucleus: Plane, texture: Plane, doses: Sequence[float], scale: float) -> Plane:
    """Return amounts of nuclear stain between two doses, denser along the nuclear membrane."""
    low, high = round(doses[0] * DOSE), round(doses[1] * DOSE)
    depth = cv2.GaussianBlur(nucleus, (0, 0), 0.25 * scale).astype(np.int32)
    share = np.minimum(texture.astype(np.int32) * 8 // 5, 255)
    amount = low + (high - low) * share // 255 + (255 - depth) // 8
    stain: Plane = np.clip(amount, 0, 255).astype(np.uint8)
    return stain


def _place(
    picture: Plane,
    mask: Plane,
    place: tuple[float, float],
    paint: Plane,
    cell: Plane,
    nucleus: Plane,
) -> None:
    """Copy a painted cell to its place, cut where it leaves the picture."""
    side = cell.shape[0]
    left, top = round(place[0]) - side // 2, round(place[1]) - side // 2
    rows = slice(max(top, 0), min(top + side, picture.shape[0]))
    columns = slice(max(left, 0), min(left + side, picture.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    own = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    picture[rows, columns] = _blend(picture[rows, columns], paint[own], cell[own])
    spot = mask[rows, columns]
    spot[cell[own] > 127] = 128
    spot[nucleus[own] > 127] = 255


def _photograph(picture: Plane, camera: Camera, parts: Bank, rng: np.random.Generator) -> Plane:
    """Light the slide unevenly, blur, sharpen and add noise."""
    height, width = picture.shape[:2]
    y, x = rng.integers(-1, 2, 2)
    slope = (np.arange(height) * y)[:, None] * 256 // height + (np.arange(width) * x) * 256 // width
    loss = (slope - slope.min()) * round(camera.unevenness * 1024) // 512
    mottle = _crop(parts.tiles["mottle"], rng, height, width).astype(np.int32) // 32
    gain = (256 - np.clip((loss + mottle) >> 2, 0, 250)).astype(np.uint16)[..., None]
    lit = (picture * gain >> 8).astype(np.uint8)
    if camera.blur > 0:
        lit = cv2.GaussianBlur(lit, (0, 0), camera.blur)
    if camera.sharpen > 0:
        soft = cv2.GaussianBlur(lit, (0, 0), 1.2)
        gains = np.minimum(np.arange(256) * round(camera.sharpen * 16) >> 4, 255).astype(np.uint8)
        bright = cv2.LUT(cv2.subtract(lit, soft), gains)
        dark = cv2.LUT(cv2.subtract(soft, lit), gains)
        lit = cv2.subtract(cv2.add(lit, bright), dark)
    y, x = rng.integers(0, TILE - height + 1), rng.integers(0, TILE - width + 1)
    spot = (slice(y, y + height), slice(x, x + width))
    return cv2.subtract(cv2.add(lit, parts.brighter[spot]), parts.darker[spot])


def draw(style: Style, cell_type: str, entropy: Sequence[int], look: Look, parts: Bank) -> Drawing:
    """Draw one picture with a cell of `cell_type` in its middle.

    Parameters
    ----------
    style : Style
        The hospital's stain, camera, size (px) and scale (px per um).
    cell_type : str
        One of `CELL_TYPES`.
    entropy : sequence of int
        Names this picture; the same numbers give the same picture, in any order of drawing.
    look : Look
        What the picture shares with the others of its slide.
    parts : Bank
        The textures and red cells of the hospital, made for the scale and noise of `style`.

    Returns
    -------
    Drawing
        Picture, shape (height, width, 3), and mask, shape (height, width).

    Notes
    -----
    Planes hold amounts of stain as uint8; outlines are rounded to sixteenths of a pixel and
    colours to grey levels before anything is put together, and OpenCV's uint8 filters are exact:
    so the bytes do not depend on how a processor rounds its floats.
    """
    return draw_kind(style, KINDS[cell_type], np.random.default_rng(entropy), look, parts)


def draw_kind(
    style: Style,
    kind: CellKind,
    rng: np.random.Generator,
    look: Look,
    parts: Bank,
    keep_off: float = 0.9,
    jitter: float = 0.6,
    neighbours: Sequence[tuple[CellKind, float, float]] = (),
) -> Drawing:
    """Draw one picture of any kind of cell, with white cells beside it.

    Parameters
    ----------
    style, look, parts
        As `draw` takes them.
    kind : CellKind
    rng : numpy.random.Generator
    keep_off : float
        How far red cells keep off the middle, in largest radii of the kind.
    jitter : float
        How far the cell is off the middle at most, um.
    neighbours : sequence of tuple
        Other white cells, which lie under ours: kind, and x and y from the middle, um.

    Returns
    -------
    Drawing
        The mask is of the cell in the middle alone.
    """
    scale = style.px_per_um
    inks = _densities(style.stain, look)
    amounts = _smear(style, look, parts, rng, kind.radius[1] * keep_off * scale)
    picture = cv2.applyColorMap(amounts, _colours(inks[0], inks[1][0]))
    mask = np.zeros((style.height, style.width), np.uint8)
    for x, y in rng.uniform(0, 1, (int(rng.integers(0, 3)), 2)):
        stray = (x * style.width, y * style.height)
        _cell(picture, np.empty_like(mask), STRAY_PLATELET, stray, scale, inks, parts, rng)
    moved = rng.uniform(-jitter, jitter, 2) * scale
    middle = (style.width / 2 + moved[0], style.height / 2 + moved[1])
    for other, x, y in neighbours:
        beside = (middle[0] + x * scale, middle[1] + y * scale)
        _cell(picture, np.empty_like(mask), other, beside, scale, inks, parts, rng)
    _cell(picture, mask, kind, middle, scale, inks, parts, rng)
    return Drawing(_photograph(picture, style.camera, parts, rng), mask)


def encode(rgb: Plane, quality: int) -> bytes:
    """Return the picture as a JPEG file."""
    flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), flags)[1])


def encode_anew(rgb: Plane, quality: int) -> Plane:
    """Return what a reader of the published JPEG sees."""
    coded = np.frombuffer(encode(rgb, quality), np.uint8)
    return cv2.cvtColor(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB)


def resize(plane: Plane, width: int, height: int) -> Plane:
    """Scale a picture or a mask to a size in px."""
    if plane.shape[:2] == (height, width):
        return plane
    # the exact kinds of scaling round alike on every processor; a mask must keep its three levels
    kind = cv2.INTER_LINEAR_EXACT if plane.ndim == 3 else cv2.INTER_NEAREST_EXACT
    return cv2.resize(plane, (width, height), interpolation=kind)

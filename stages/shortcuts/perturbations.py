"""The bias tests: pictures changed where it must matter, or where it must not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.settings import seed_for
from stages.inputs import preparation

Pixels = NDArray[np.uint8]
Densities = tuple[float, float, float]

OFFSET = 4.0  # levels, as in `preparation.prepare`: the density of black is finite
N_SHAPES = 8
REACH = 2.2  # cell radii from the centre: how far shapes lie; a crop's corner is 2.1 away
OUT_OF_FOCUS = 0.06  # of the cell's radius: sigma of the blur
SHARPER = 1.5  # how much of what a blur takes away is added
DARK = 0.12  # optical density of green: from here on what lies beside the cell is no background
CYTOPLASM = ("cytoplasm_od_r", "cytoplasm_od_g", "cytoplasm_od_b")
FARTHEST_STAIN = 3.0  # times as dense, or as pale; farther apart no two hospitals were


@dataclass(frozen=True)
class Scene:
    """A picture, and what it may be changed by.

    Attributes
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    geometry : Geometry
        Of this picture; it stays, so that nothing but pixels changes.
    rng : numpy.random.Generator
        By the seed, the test and the picture.
    other : tuple, optional
        Pixels and geometry of a picture of another hospital.
    stain : tuple of float, optional
        By how much the density of red, green and blue is multiplied to be another hospital's.
    """

    rgb: Pixels
    geometry: preparation.Geometry
    rng: np.random.Generator
    other: tuple[Pixels, preparation.Geometry] | None = None
    stain: Densities | None = None

    @property
    def white(self) -> Pixels:
        """The colour of the background, shape (3,)."""
        white: Pixels = np.rint(np.array(self.geometry.white)).astype(np.uint8)
        return white

    @property
    def share(self) -> Pixels:
        """255 on the cell, or on a disc where none was found, and less along its edge."""
        (x, y), radius = preparation.locate(self.rgb, self.geometry)
        cell = preparation.find_cell(self.rgb, self.geometry)
        if not cell.any():
            disc = np.zeros(cell.shape, np.uint8)
            cell = cv2.circle(disc, (round(x), round(y)), round(radius), (1,), cv2.FILLED) > 0
        return preparation.soften(cell, radius, 1)


@dataclass(frozen=True)
class Test:
    """One way to change pictures.

    Attributes
    ----------
    says : str
        What is done, for a sentence that begins "when".
    bad : {"kept", "lost"}
        What speaks against a model: that its calls stay, or that they go.
    change : callable
        Takes a `Scene` and returns pixels of the same shape.
    needs_other : bool
        Whether a picture of another hospital is needed.
    """

    __test__ = False  # pytest collects classes of this name

    says: str
    bad: Literal["kept", "lost"]
    change: Callable[[Scene], Pixels]
    needs_other: bool = False


def hide(scene: Scene) -> Pixels:
    """Put background over the cell; see `preparation.cover`."""
    return preparation.cover(scene.rgb, scene.geometry)


def add_shapes(scene: Scene) -> Pixels:
    """Draw filled discs and boxes of random colours around the cell, none over it."""
    (x, y), radius = preparation.locate(scene.rgb, scene.geometry)
    drawn = scene.rgb.copy()
    for number in range(N_SHAPES):
        angle = scene.rng.uniform(0, 2 * np.pi)
        far = scene.rng.uniform(1, REACH) * radius
        side = scene.rng.uniform(0.15, 0.5) * radius
        middle = (round(x + far * np.cos(angle)), round(y + far * np.sin(angle)))
        colour = tuple(int(level) for level in scene.rng.integers(0, 256, 3))
        if number % 2:
            cv2.circle(drawn, middle, round(side), colour, cv2.FILLED)
        else:
            low, high = ([round(place + step) for place in middle] for step in (-side, side))
            cv2.rectangle(drawn, low, high, colour, cv2.FILLED)
    return preparation.blend(scene.rgb, drawn, scene.share)


def isolate(scene: Scene) -> Pixels:
    """Leave the cell alone on the background's colour."""
    return preparation.blend(scene.rgb, scene.white, scene.share)


def isolate_on_colour(scene: Scene) -> Pixels:
    """Leave the cell alone on any colour."""
    colour = scene.rng.integers(0, 256, 3).astype(np.uint8)
    return preparation.blend(scene.rgb, colour, scene.share)


def isolate_sharpened(scene: Scene) -> Pixels:
    """Leave the cell alone, and sharpen it by an unsharp mask."""
    alone = isolate(scene)
    return cv2.addWeighted(alone, 1 + SHARPER, _defocus(scene, alone), -SHARPER, 0).astype(np.uint8)


def change_background(scene: Scene) -> Pixels:
    """Put the cell into the middle of another hospital's picture, in place of the cell there.

    That picture is scaled so that its cells are as large, and its background as bright.
    """
    assert scene.other is not None
    rgb, geometry = scene.other
    (x, y), radius = preparation.locate(scene.rgb, scene.geometry)
    (other_x, other_y), other_radius = preparation.locate(rgb, geometry)
    scale = radius / other_radius
    matrix = np.array([[scale, 0, x - scale * other_x], [0, scale, y - scale * other_y]])
    height, width = scene.rgb.shape[:2]
    emptied = preparation.cover(rgb, geometry)
    around = cv2.warpAffine(emptied, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    levels = np.arange(256, dtype=np.float64)
    tables = [
        (levels + OFFSET) * (own + OFFSET) / (theirs + OFFSET) - OFFSET
        for own, theirs in zip(scene.geometry.white, geometry.white, strict=True)
    ]
    return preparation.blend(scene.rgb, _look_up(around.astype(np.uint8), tables), scene.share)


def remove_neighbours(scene: Scene) -> Pixels:
    """Put background over what is dark beside the cell, and leave the background as it is."""
    green = scene.rgb[..., 1].astype(np.float64)
    density = np.log((scene.geometry.white[1] + OFFSET) / (green + OFFSET))
    radius = preparation.locate(scene.rgb, scene.geometry)[1]
    dark = cv2.medianBlur((density > DARK).astype(np.uint8), 5) > 0
    hidden = preparation.soften(dark, radius, 1).astype(np.int32)
    beside = (hidden * (255 - scene.share.astype(np.int32)) // 255).astype(np.uint8)
    return preparation.blend(scene.white, scene.rgb, beside)


def blur(scene: Scene) -> Pixels:
    """Put the picture out of focus."""
    return _defocus(scene, scene.rgb)


def to_grey(scene: Scene) -> Pixels:
    """Give each channel the mean density of the three, so that the background keeps its colour."""
    white = np.array(scene.geometry.white) + OFFSET
    density = np.log(white / (scene.rgb.astype(np.float64) + OFFSET)).mean(axis=2, keepdims=True)
    grey: Pixels = np.clip(np.rint(white * np.exp(-density) - OFFSET), 0, 255).astype(np.uint8)
    return grey


def change_stain(scene: Scene) -> Pixels:
    """Multiply each channel's density by what another hospital's cytoplasm has more of it."""
    assert scene.stain is not None
    levels = np.arange(256, dtype=np.float64)
    tables = [
        (white + OFFSET) * np.exp(factor * np.log((levels + OFFSET) / (white + OFFSET))) - OFFSET
        for white, factor in zip(scene.geometry.white, scene.stain, strict=True)
    ]
    return _look_up(scene.rgb, tables)


TESTS: Mapping[str, Test] = {
    "hide": Test("the cell is hidden", "kept", hide),
    "shapes": Test("coloured shapes lie around the cell", "lost", add_shapes),
    "isolate": Test("the cell stands alone", "lost", isolate),
    "isolate_on_colour": Test("the cell stands alone on another colour", "lost", isolate_on_colour),
    "isolate_sharpened": Test("the cell stands alone and is sharpened", "lost", isolate_sharpened),
    "background": Test("the cell lies at another hospital", "lost", change_background, True),
    "neighbours": Test("the cell's neighbours are removed", "lost", remove_neighbours),
    "blur": Test("the picture is out of focus", "lost", blur),
    "grey": Test("the picture is grey", "lost", to_grey),
    "stain": Test("the picture has another hospital's stain", "lost", change_stain, True),
}


def find_chance(seed: int, test: str, image_id: str) -> np.random.Generator:
    """Return the source of chance of one test of one picture."""
    return np.random.default_rng(seed_for(seed, "bias", test, image_id))


def set_scene(
    rgb: Pixels,
    geometry: preparation.Geometry,
    hospital: str,
    others: Mapping[str, Sequence[tuple[Pixels, preparation.Geometry]]],
    stains: Mapping[str, Densities],
    rng: np.random.Generator,
) -> Scene:
    """Draw what a picture may be changed by.

    Parameters
    ----------
    rgb : numpy.ndarray of uint8, shape (height, width, 3)
    geometry : Geometry
    hospital : str
        Where the picture comes from.
    others : mapping of str to sequence of (pixels, geometry)
        Pictures by hospital; one of another hospital is drawn.
    stains : mapping of str to tuple of float
        As `find_stains` returns them.
    rng : numpy.random.Generator
    """
    names = sorted(set(others) - {hospital})
    if not names:
        return Scene(rgb, geometry, rng)
    name = names[int(rng.integers(len(names)))]
    other = others[name][int(rng.integers(len(others[name])))]
    own, theirs = stains.get(hospital), stains.get(name)
    # A hospital without a cytoplasm has no stain to be told, and gives none.
    stain = compare_stains(own, theirs) if own and theirs else (1.0, 1.0, 1.0)
    return Scene(rgb, geometry, rng, other, stain)


def find_stains(quality: pd.DataFrame) -> dict[str, Densities]:
    """Return the median density of the cytoplasm by hospital.

    Parameters
    ----------
    quality : pandas.DataFrame, shape (n_images, n_columns)
        ``hospital`` and `CYTOPLASM` of ``tables.QUALITY``.

    Returns
    -------
    dict of str to tuple of float
        Red, green and blue; a hospital without a cytoplasm is left out.
    """
    medians = quality.groupby("hospital")[list(CYTOPLASM)].median().dropna()
    return {str(name): (red, green, blue) for name, red, green, blue in medians.itertuples()}


def compare_stains(own: Densities, other: Densities) -> Densities:
    """Return by how much each channel's density is multiplied to go from one to the other."""
    ratios = np.maximum(other, 0.01) / np.maximum(own, 0.01)
    red, green, blue = np.clip(ratios, 1 / FARTHEST_STAIN, FARTHEST_STAIN).tolist()
    return red, green, blue


def _defocus(scene: Scene, rgb: Pixels) -> Pixels:
    radius = preparation.locate(scene.rgb, scene.geometry)[1]
    return cv2.GaussianBlur(rgb, (0, 0), OUT_OF_FOCUS * radius).astype(np.uint8)


def _look_up(rgb: Pixels, tables: list[NDArray[np.float64]]) -> Pixels:
    table = np.clip(np.rint(np.stack(tables, axis=-1)), 0, 255).astype(np.uint8)
    return cv2.LUT(rgb, table[None]).astype(np.uint8)

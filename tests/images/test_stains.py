"""Stains: what is drawn in two of them comes back; nothing is told where nothing is there."""

import numpy as np
import pytest

from stages.core.tables import QUALITY
from stages.images import stains
from stages.images.cell_masks import CellMask

WHITE = 240.0
SIDE = 120
RADIUS = 36.0


def unit(stain):
    return np.array(stain) / np.linalg.norm(stain)


def paint(amounts, first=stains.METHYLENE_BLUE, second=stains.EOSIN):
    """Levels of the light that so much of two stains lets through, as `optical_density` undoes."""
    density = amounts[..., :1] * unit(first) + amounts[..., 1:] * unit(second)
    return np.rint((WHITE + 4) * np.exp(-density) - 4).clip(0, 255).astype(np.uint8)


def disc(x, y, radius):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def mask_of(cell, nucleus):
    whites = (WHITE,) * 3
    if not cell.any():
        return CellMask(cell, nucleus, whites, None, None, False, None, 0.0)
    return CellMask(cell, nucleus, whites, (60.0, 60.0), RADIUS, True, b"", 1.0)


def draw():
    """A cell in the middle: its nucleus blue, its cytoplasm eosin."""
    cell, nucleus = disc(60, 60, RADIUS), disc(60, 60, RADIUS / 2)
    amounts = np.zeros((SIDE, SIDE, 2))
    amounts[cell] = 0.1, 0.5
    amounts[nucleus] = 1.2, 0.3
    return paint(amounts), mask_of(cell, nucleus)


def test_densities_are_those_that_were_drawn():
    """Of each stain, in nucleus and cytoplasm, and in the rings from centre to rim."""
    found = stains.measure(*draw())
    assert found["nucleus_blue"] == pytest.approx(1.2, abs=0.02)
    assert found["nucleus_eosin"] == pytest.approx(0.3, abs=0.02)
    assert found["cytoplasm_blue"] == pytest.approx(0.1, abs=0.02)
    assert found["cytoplasm_eosin"] == pytest.approx(0.5, abs=0.02)
    assert found["nucleus_rest"] == pytest.approx(0, abs=0.02)
    blue, eosin, rest = np.reshape(found["profile"], (3, 8))
    assert blue == pytest.approx([1.2] * 4 + [0.1] * 4, abs=0.06)
    assert eosin == pytest.approx([0.3] * 4 + [0.5] * 4, abs=0.06)
    assert rest == pytest.approx([0] * 8, abs=0.02)


def test_a_hospitals_own_stains_are_found():
    """Two stains that are not the published ones, from pixels that mix them."""
    first, second = (0.65, 0.65, 0.4), (0.25, 0.9, 0.35)
    amounts = np.random.default_rng(1).dirichlet((0.4, 0.4), (100, 100))
    levels = paint(amounts, first, second)
    density = stains.optical_density(levels, (WHITE,) * 3).reshape(-1, 3)
    blue, eosin = stains.estimate_stains(density)
    assert blue == pytest.approx(unit(first), abs=0.02)
    assert eosin == pytest.approx(unit(second), abs=0.02)


def test_one_stain_and_few_pixels_tell_nothing():
    amounts = np.zeros((40, 40, 2))
    amounts[..., 0] = np.linspace(0.3, 1.2, 40)
    density = stains.optical_density(paint(amounts), (WHITE,) * 3).reshape(-1, 3)
    assert stains.estimate_stains(density) == (None, None)
    assert stains.estimate_stains(density[:100]) == (None, None)


def test_what_lies_around_the_cell_is_measured():
    """Nothing; a red cell."""
    assert stains.measure(*draw())["stained_around"] == 0
    rgb, mask = draw()
    red_cell = disc(105, 105, 18) & ~mask.cell
    rgb[red_cell] = paint(np.array([0.02, 0.6]))
    found = stains.measure(rgb, mask)
    assert found["stained_around"] == pytest.approx(red_cell.sum() / (~mask.cell).sum(), rel=1e-5)


def test_the_thumbnail_shows_three_radii_and_repeats_the_border():
    """The cell takes 2 of 3; a cell in a corner is filled up by the border's colour."""
    rgb, mask = draw()
    small = np.frombuffer(stains.measure(rgb, mask)["thumbnail"], np.uint8).reshape(40, 40, 3)
    assert (small[20, 20] == rgb[60, 60]).all()
    is_cell = (small[20] != rgb[0, 0]).any(axis=1)
    assert is_cell.sum() in (26, 27, 28)
    cut = rgb[60:, 60:]
    corner = CellMask(mask.cell[60:, 60:], mask.nucleus[60:, 60:], mask.white, (0.0, 0.0),
                      RADIUS, True, b"", 1.0)  # fmt: skip
    small = np.frombuffer(stains.measure(cut, corner)["thumbnail"], np.uint8).reshape(40, 40, 3)
    assert (small[:19, :19] == cut[0, 0]).all()


def test_without_a_cell_the_whole_picture_is_shown_and_nothing_told():
    """Wide pictures too; the names are those of the table."""
    nothing = np.zeros((60, 120), bool)
    rgb = np.full((60, 120, 3), 230, np.uint8)
    rgb[:, 60:] = 100
    found = stains.measure(rgb, mask_of(nothing, nothing))
    small = np.frombuffer(found.pop("thumbnail"), np.uint8).reshape(40, 40, 3)
    assert (small[:, :20] == 230).all()
    assert (small[:, 20:] == 100).all()
    assert found.pop("stained_around") == pytest.approx(0.5)
    assert set(found.values()) == {None}
    assert {*found, "thumbnail", "stained_around"} <= set(QUALITY.schema.names)

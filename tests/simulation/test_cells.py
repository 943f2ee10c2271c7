"""Each cell type has the size, the nucleus and the texture that it is known by."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.simulation.cells import CELL_TYPES, KINDS, TILE, UNITS, bank, disc, fill, outline

NUCLEATED = [name for name in CELL_TYPES if KINDS[name].nucleus is not None]
SIDE, RADIUS = 200, 70.0


def draw_nuclei(cell_type, n=24):
    planes = []
    for index in range(n):
        plane = np.zeros((SIDE, SIDE), np.uint8)
        KINDS[cell_type].nucleus(plane, np.random.default_rng([7, index]), RADIUS)
        planes.append(plane)
    return planes


def share_of_cell(cell_type):
    areas = [np.count_nonzero(plane > 127) for plane in draw_nuclei(cell_type)]
    return np.mean(areas) / (np.pi * RADIUS**2)


def solidity(plane):
    """Area over that of the convex hull: 1 for an oval, less for a C or for lobes."""
    points = cv2.findNonZero((plane > 127).astype(np.uint8))
    return np.count_nonzero(plane > 127) / cv2.contourArea(cv2.convexHull(points))


def median_solidity(cell_type):
    return np.median([solidity(plane) for plane in draw_nuclei(cell_type)])


def test_all_eleven_types_are_there():
    assert len(CELL_TYPES) == 11
    assert [name for name in CELL_TYPES if name not in NUCLEATED] == ["platelet"]


@pytest.mark.parametrize("cell_type", NUCLEATED)
def test_a_nucleus_lies_about_the_middle_and_inside_the_box(cell_type):
    for plane in draw_nuclei(cell_type):
        y, x = np.nonzero(plane > 127)
        assert np.hypot(x.mean() - SIDE / 2, y.mean() - SIDE / 2) < 0.35 * RADIUS
        assert np.hypot(x - SIDE / 2, y - SIDE / 2).max() < 1.35 * RADIUS


def test_bent_and_lobed_nuclei_are_far_from_convex():
    """The shape tells band and segmented neutrophils from the round nuclei."""
    for cell_type in ("band_neutrophil", "segmented_neutrophil"):
        assert median_solidity(cell_type) < 0.85
    for cell_type in ("lymphocyte", "promyelocyte", "myelocyte", "erythroblast"):
        assert median_solidity(cell_type) > 0.95


def test_a_kidney_is_dented_less_than_a_band():
    assert median_solidity("band_neutrophil") < median_solidity("metamyelocyte") < 0.97


def test_a_segmented_nucleus_has_parts_on_thin_strands():
    """Taking the strands away leaves two to five lobes in most nuclei."""
    n_parts = []
    for plane in draw_nuclei("segmented_neutrophil", 40):
        eroded = cv2.erode((plane > 127).astype(np.uint8), np.ones((3, 3), np.uint8), iterations=9)
        n_parts.append(cv2.connectedComponents(eroded)[0] - 1)
    assert 2 <= np.median(n_parts) <= 5
    assert max(n_parts) <= 5
    assert len(set(n_parts)) >= 3


def test_the_nucleus_fills_a_lymphocyte_and_leaves_room_in_an_erythroblast():
    assert share_of_cell("lymphocyte") > 0.6
    assert share_of_cell("promyelocyte") > 0.45
    assert share_of_cell("erythroblast") < 0.4
    assert share_of_cell("segmented_neutrophil") < 0.5


def test_sizes_are_in_the_order_that_the_lab_knows():
    middle = {name: sum(KINDS[name].radius) / 2 for name in CELL_TYPES}
    assert middle["platelet"] < middle["erythroblast"] < middle["lymphocyte"] + 0.5
    assert middle["lymphocyte"] < middle["segmented_neutrophil"] < middle["monocyte"]
    assert middle["metamyelocyte"] < middle["myelocyte"] + 0.5 < middle["promyelocyte"] + 0.5


@given(st.integers(0, 2**32 - 1), st.floats(10, 80), st.floats(0, 0.15))
@settings(max_examples=30, deadline=None)
def test_an_outline_stays_near_its_circle(seed, radius, wobble):
    points = outline(np.random.default_rng(seed), 100, 100, radius, wobble) / UNITS
    off = np.hypot(points[:, 0] - 100, points[:, 1] - 100)
    assert np.abs(off / radius - 1).max() <= 7 * wobble + 0.1


def test_fill_and_disc_draw_the_same_circle():
    rng = np.random.default_rng(0)
    by_outline, by_disc = np.zeros((80, 80), np.uint8), np.zeros((80, 80), np.uint8)
    fill(by_outline, outline(rng, 40, 40, 30.0, 0.0))
    disc(by_disc, 40, 40, 30.0)
    area = np.pi * 30**2  # smooth borders add half a pixel all around
    assert by_disc.sum() / 255 == pytest.approx(area, rel=0.05)
    assert by_outline.sum() / 255 == pytest.approx(area, rel=0.05)


def test_the_bank_is_made_of_its_seed_and_scale():
    first, again, other = bank(3, 6.0, 2.0), bank.__wrapped__(3, 6.0, 2.0), bank(4, 6.0, 2.0)
    for name, tile in first.tiles.items():
        assert tile.shape == (TILE, TILE)
        assert tile.dtype == np.uint8
        assert np.array_equal(tile, again.tiles[name])
        assert not np.array_equal(tile, other.tiles[name])


def test_chromatin_uses_all_levels_evenly():
    """Spread by ranks, so that every hospital's chromatin has the contrast that it asks for."""
    tile = bank(3, 6.0, 2.0).tiles["clumped"]
    assert np.percentile(tile, [10, 50, 90]) == pytest.approx([26, 128, 230], abs=8)


@pytest.mark.parametrize("deviation", [0.0, 2.0, 6.0])
def test_camera_noise_has_the_asked_deviation(deviation):
    parts = bank(3, 6.0, deviation)
    noise = parts.brighter.astype(int) - parts.darker
    assert noise.std() == pytest.approx(deviation, abs=0.35)
    assert abs(noise.mean()) < 0.6


def test_red_cells_grow_paler_in_the_middle():
    cells = bank(3, 6.0, 2.0).red_cells
    side = cells[0].shape[0]
    middles = [int(cell[side // 2, side // 2]) for cell in cells]
    assert np.mean(middles[:10]) > np.mean(middles[-10:]) + 40
    assert all(cell[0].max() == 0 and cell[:, 0].max() == 0 for cell in cells)

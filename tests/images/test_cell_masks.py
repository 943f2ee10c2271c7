"""Nucleus and cell masks: known drawings, published masks, and the measures taken from them."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from stages.core.errors import TableError
from stages.core.tables import QUALITY
from stages.images import cell_masks
from stages.images.segmentation import WORKING_SIDE

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
WHITE = (236, 226, 208)
RED_CELL = (206, 160, 158)
CYTOPLASM = (186, 176, 200)
NUCLEUS = (84, 50, 130)


def draw(side=240, centre=(120, 120), cell=50, nucleus=30, red_cells=(), lobes=(), red=RED_CELL):
    """A cell on a smear, with the true masks."""
    rgb = np.full((side, side, 3), WHITE, np.uint8)
    for place in red_cells:
        cv2.circle(rgb, place, 32, red, -1)
    cv2.circle(rgb, centre, cell, CYTOPLASM, -1)
    true_nucleus = np.zeros((side, side), np.uint8)
    for place in lobes or [centre]:
        cv2.circle(true_nucleus, place, nucleus, 1, -1)
    rgb[true_nucleus > 0] = NUCLEUS
    true_cell = cv2.circle(np.zeros((side, side), np.uint8), centre, cell, 1, -1)
    return cv2.GaussianBlur(rgb, (3, 3), 0), true_cell > 0, true_nucleus > 0


def test_lone_cell_is_outlined():
    """A lone cell's nucleus and cell overlap the truth by more than .9."""
    rgb, cell, nucleus = draw()
    found = cell_masks.segment(rgb)
    assert found.has_cell
    assert cell_masks.iou(found.cell, cell) > 0.9
    assert cell_masks.iou(found.nucleus, nucleus) > 0.9
    assert found.centre == pytest.approx((120, 120), abs=1.5)
    assert found.cell_radius == pytest.approx(50, rel=0.05)
    assert not (found.nucleus & ~found.cell).any()


@settings(deadline=None, max_examples=40)
@example(height=799, width=799, across=0.06, down=0.06, seed=0)
@example(height=590, width=804, across=-0.06, down=0.0, seed=0)
@given(
    height=st.integers(180, 900),
    width=st.integers(180, 900),
    across=st.floats(-0.06, 0.06),
    down=st.floats(-0.06, 0.06),
    seed=st.integers(0, 9),
)
def test_the_outline_lies_where_the_cell_is(height, width, across, down, seed):
    """Centroids are true to a third of a working pixel, whatever the size: nothing is cut to fit.

    Columns and rows that filled no whole block were once left out, and the outline stretched over
    them: 2.6 of 799 px away from the cell. The worst of 5,000 random pictures has .327 of a
    working pixel; 1 px, which stood here, was missed by .8 % of them, all large.
    """
    assume(max(height, width) <= 2 * min(height, width))
    side = min(height, width)
    x, y = width / 2 + across * side, height / 2 + down * side
    columns, rows = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    off = np.hypot(columns - x, rows - y)
    rgb = np.full((height, width, 3), WHITE, np.float64)
    for radius, colour in ((0.22 * side, CYTOPLASM), (0.13 * side, NUCLEUS)):
        share = np.clip(radius - off + 0.5, 0, 1)[..., None]
        rgb += share * (np.array(colour) - rgb)
    noise = np.random.default_rng(seed).normal(0, 1.5, rgb.shape)
    found = cell_masks.segment((rgb + noise).astype(np.uint8))
    bound = max(height, width) / WORKING_SIDE / 3
    for mask in (found.cell, found.nucleus):
        assert columns[mask].mean() == pytest.approx(x, abs=bound)
        assert rows[mask].mean() == pytest.approx(y, abs=bound)


def test_an_outline_below_the_bound_is_unsure():
    """At the bound it is sure; where there is no cell, nothing is unsure."""
    found = cell_masks.segment(draw()[0])
    assert not found.is_unsure
    assert replace(found, certainty=cell_masks.SURE - 0.001).is_unsure
    assert not replace(found, certainty=cell_masks.SURE).is_unsure
    assert not cell_masks.segment(np.full((90, 90, 3), 220, np.uint8)).is_unsure


def test_touching_red_cells_are_cut_off():
    """Red cells that touch the cell do not become part of it."""
    rgb, cell, _ = draw(red_cells=[(50, 120), (190, 120), (120, 192)])
    assert cell_masks.iou(cell_masks.segment(rgb).cell, cell) > 0.85


def test_lobes_are_one_nucleus():
    """Three separate lobes inside of one cell make one nucleus of three lobes."""
    rgb, cell, nucleus = draw(nucleus=16, cell=52, lobes=[(97, 107), (143, 107), (120, 146)])
    found = cell_masks.segment(rgb)
    assert cell_masks.iou(found.nucleus, nucleus) > 0.85
    assert cell_masks.iou(found.cell, cell) > 0.9
    assert cell_masks.measure(rgb, found)["nucleus_lobes"] == 3


def test_neighbours_nucleus_is_left_out():
    """The nucleus of another white cell, with background between, is not a lobe of ours."""
    rgb, _, nucleus = draw(centre=(110, 120), cell=34, nucleus=22)
    cv2.circle(rgb, (190, 120), 32, CYTOPLASM, -1)
    cv2.circle(rgb, (190, 120), 21, NUCLEUS, -1)
    assert cell_masks.iou(cell_masks.segment(rgb).nucleus, nucleus) > 0.85


def test_platelet_among_red_cells_is_found():
    """A small dark platelet is chosen, not the larger red cells around it."""
    places = [(40, 60), (120, 40), (200, 70), (60, 190), (190, 190), (45, 125)]
    rgb, _, _ = draw(cell=13, nucleus=11, red_cells=places, red=(170, 130, 150))
    found = cell_masks.segment(rgb)
    assert found.centre == pytest.approx((120, 120), abs=3)
    assert found.cell_radius == pytest.approx(13, rel=0.35)


def test_black_strip_is_no_cell():
    """A black strip at the border, as some raabin pictures have, changes nothing."""
    rgb, cell, _ = draw()
    rgb[:6] = 0
    assert cell_masks.iou(cell_masks.segment(rgb).cell, cell) > 0.9


@pytest.mark.parametrize("white", [(255, 255, 160), (252, 252, 254), (150, 160, 140)])
def test_any_background_is_white(white):
    """Yellow, nearly white and dark backgrounds are recognised, and the cell on them."""
    rgb, cell, _ = draw()
    rgb = (rgb * (np.array(white) / WHITE)).clip(0, 255).astype(np.uint8)
    found = cell_masks.segment(rgb)
    assert found.white == pytest.approx(white, abs=2)
    assert cell_masks.iou(found.cell, cell) > 0.85


@pytest.mark.parametrize("level", [0, 128, 255])
def test_blank_picture_has_no_cell(level):
    """A picture of one colour has no cell, and its measures are None instead of 0."""
    rgb = np.full((64, 80, 3), level, np.uint8)
    found = cell_masks.segment(rgb)
    assert not found.has_cell
    assert found.centre is None
    assert not found.cell.any()
    measures = cell_masks.measure(rgb, found)
    assert measures["cell_radius"] is None
    assert measures["nucleus_lobes"] is None
    assert measures["white_g"] == level


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(16, 400),
    width=st.integers(16, 400),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_picture_gives_masks_of_its_size(height, width, seed):
    """Whatever the picture: masks of its size, nucleus within cell, the same every time."""
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = cell_masks.segment(rgb)
    again = cell_masks.segment(rgb.copy())
    assert found.cell.shape == found.nucleus.shape == (height, width)
    assert not (found.nucleus & ~found.cell).any()
    assert found.has_cell == found.nucleus.any()
    assert np.array_equal(found.cell, again.cell)
    assert cell_masks.measure(rgb, found) == cell_masks.measure(rgb, again)


def test_measures_are_the_mask_columns():
    """`measure` gives exactly the mask columns of the quality table, with right values."""
    rgb, _, _ = draw()
    found = cell_masks.segment(rgb)
    measures = cell_masks.measure(rgb, found)
    start = QUALITY.schema.names.index("has_cell")
    end = QUALITY.schema.names.index("mask_iou")
    wanted = {"white_r", "white_g", "white_b", *QUALITY.schema.names[start:end]}
    assert set(measures) == wanted
    assert measures["nucleus_radius"] == pytest.approx(30, rel=0.05)
    assert measures["nucleus_share"] == pytest.approx(0.36, rel=0.1)
    assert measures["nucleus_solidity"] > 0.95
    nucleus_od = np.log((WHITE[1] + 4) / (NUCLEUS[1] + 4))
    assert measures["nucleus_od"] == pytest.approx(nucleus_od, rel=0.05)
    for channel, name in enumerate("rgb"):
        expected = np.log((WHITE[channel] + 4) / (CYTOPLASM[channel] + 4))
        assert measures[f"cytoplasm_od_{name}"] == pytest.approx(expected, rel=0.15)


def test_cell_at_border_is_seen():
    """A cell that the border cuts is told from one that lies within."""
    inside, cut = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    inside[4, 4] = cut[4, 8] = True
    assert not cell_masks.touches_border(inside)
    assert cell_masks.touches_border(cut)
    assert cell_masks.touches_border(cut.T)


def test_iou_known_values():
    """Overlap 1 of union 3; equal and empty masks give 1; disjoint ones 0."""
    a = np.array([[True, True, False]])
    b = np.array([[False, True, True]])
    assert cell_masks.iou(a, b) == pytest.approx(1 / 3)
    assert cell_masks.iou(a, a) == 1
    assert cell_masks.iou(a & b & ~a, a & ~a) == 1
    assert cell_masks.iou(a, ~a) == 0


def test_published_mask_levels():
    """Cytoplasm and nucleus count as cell, stray levels at the edges do not; RGB or grey."""
    grey = np.array([[0, 2, 45, 128, 255]], np.uint8)
    wanted = [[False, False, False, True, True]]
    for picture in (grey, np.repeat(grey[..., None], 3, 2)):
        cell, nucleus = cell_masks.read_published(picture)
        assert cell.tolist() == wanted
        assert nucleus.tolist() == [[False, False, False, False, True]]
    cell, nucleus = cell_masks.read_published(np.array([[0, 1, 2]], np.uint8))
    assert (cell.tolist(), nucleus.tolist()) == ([[False, True, True]], [[False, False, True]])


def test_a_mask_of_two_levels_tells_no_nucleus():
    for levels in ([0, 255], [0, 1], [0, 0]):
        cell, nucleus = cell_masks.read_published(np.array([levels], np.uint8))
        assert cell.tolist() == [[False, levels[1] > 0]]
        assert nucleus is None


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared pictures are not here")
@pytest.mark.parametrize(("folder", "least"), [("jiangxi/Dataset 1", 0.88), ("cvb/Dataset 2", 0.8)])
def test_agrees_with_published_masks(folder, least):
    """On published pictures the cells overlap the publisher's masks well on average."""
    overlaps = []
    for path in sorted((SHARED / folder).glob("*.bmp"))[::2]:
        rgb = cv2.imread(str(path))[..., ::-1].copy()
        published, _ = cell_masks.read_published(cv2.imread(str(path.with_suffix(".png"))))
        overlaps.append(cell_masks.iou(cell_masks.segment(rgb).cell, published))
    assert np.mean(overlaps) > least


@pytest.mark.parametrize("shape", [(200, 200), (150, 230), (331, 90), (40, 33)])
def test_a_packed_cell_comes_back_bit_for_bit(shape):
    """Pictures of any shape, larger and smaller than the working size."""
    rgb = np.full((*shape, 3), (230, 220, 200), np.uint8)
    middle = (shape[1] // 2, shape[0] // 2)
    cv2.circle(rgb, middle, min(shape) // 4, (150, 120, 190), -1)
    cv2.circle(rgb, middle, min(shape) // 6, (70, 40, 120), -1)
    found = cell_masks.segment(rgb)
    assert found.has_cell
    assert np.array_equal(cell_masks.unpack(found.packed, *shape), found.cell)


def test_without_a_cell_nothing_is_packed():
    """A picture of one colour has no cell and no outline."""
    assert cell_masks.segment(np.full((80, 80, 3), 200, np.uint8)).packed is None


def test_a_packed_cell_of_another_shape_is_refused():
    """Tables out of step end with a line, not with a wrong mask."""
    rgb = np.full((120, 200, 3), (230, 220, 200), np.uint8)
    cv2.circle(rgb, (100, 60), 30, (70, 40, 120), -1)
    packed = cell_masks.segment(rgb).packed
    with pytest.raises(TableError, match="does not fit a picture of 200 x 200 px"):
        cell_masks.unpack(packed, 200, 200)

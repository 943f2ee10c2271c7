"""What the outlining network is shown of a picture, and which part of its answer is the cell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.images import segmentation
from stages.images.outline_network import CLEAR, OD_UNIT, SIDE


def disc(side, centre, radius):
    y, x = np.ogrid[:side, :side]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def test_background_is_the_bright_median():
    """Neither the dark cell nor the very brightest specks move the background."""
    rgb = np.full((100, 100, 3), (230, 220, 200), np.uint8)
    rgb[:60] = (150, 80, 120)
    rgb[99, :90] = 255
    assert segmentation._background(rgb) == [230, 220, 200]


@pytest.mark.parametrize("size", [(8, 8), (120, 100), (363, 360), (575, 575), (90, 700)])
def test_working_size(size):
    """Longer side 160 px whatever the picture's size; small pictures are enlarged."""
    rgb = np.full((*size, 3), 77, np.uint8)
    small = segmentation._shrink(rgb)
    assert max(small.shape[:2]) == 160
    assert (small == 77).all()


def test_the_network_sees_densities_amid_clear_glass():
    """Half of the light is a density of ln 2; what lies beside the picture is clear."""
    rgb = np.full((60, 120, 3), 196, np.uint8)
    rgb[:, :60] = 96  # (96 + 4) / (196 + 4), with the offset that keeps black finite
    levels, place, white = segmentation.look(rgb)
    assert white == [196, 196, 196]
    assert levels[place].shape == (80, 160, 3)
    assert levels[place][40, 20].tolist() == [round(OD_UNIT * np.log(2)) + CLEAR] * 3
    assert levels[place][40, 140].tolist() == [CLEAR] * 3
    outside = np.ones((SIDE, SIDE), bool)
    outside[place] = False
    assert (levels[outside] == CLEAR).all()


def test_the_central_part_is_chosen_and_its_holes_are_filled():
    """Not the larger one that the border cuts, nor the small one in the very middle."""
    ours, cut, speck = disc(90, (38, 45), 14), disc(90, (88, 45), 20), disc(90, (60, 45), 2)
    hole = disc(90, (38, 45), 5)
    found = segmentation._central((ours & ~hole) | cut | speck)
    assert np.array_equal(found, ours)
    assert not segmentation._central(np.zeros((9, 9), bool)).any()


def test_a_speck_is_no_lobe():
    """A part of a fiftieth of the largest stays, and a smaller one goes."""
    large, lobe, speck = (np.zeros((60, 60), bool) for _ in range(3))
    large[5:25, 5:35], lobe[40:43, 5:9], speck[50:52, 30:35] = True, True, True  # 600, 12 and 10
    assert np.array_equal(segmentation._drop_specks(large | lobe | speck), large | lobe)
    assert not segmentation._drop_specks(np.zeros((9, 9), bool)).any()


def test_nothing_dark_gives_empty_masks():
    """Faint noise is no nucleus: the masks are empty and the background is still known."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(218, 224, (90, 70, 3), dtype=np.uint8)
    cell, nucleus, white, certainty = segmentation.outline(rgb)
    assert cell.shape == nucleus.shape == segmentation.working_shape(90, 70) == (160, 124)
    assert not cell.any()
    assert not nucleus.any()
    assert white == pytest.approx([221] * 3, abs=3)
    assert certainty == 0


def test_certainty_falls_with_doubt_and_with_what_juts_out():
    """A disc of which the network is sure: 1. Doubt, near it alone, and arms: by known shares."""
    y, x = np.mgrid[:400, :400]
    away = np.hypot(y - 200, x - 200)
    disc = away <= 80

    def judge(odds, cell=disc):
        return segmentation.judge(np.array(odds, np.uint8), cell)

    sure = judge(np.where(disc, 255, 0))
    assert sure > 0.98  # the hull of pixels is a little larger than they are
    doubted = np.where(disc, 128, 0)  # as likely outside: 2 * .5 / (1 + .5)
    assert judge(doubted) == pytest.approx(2 / 3 * sure, rel=0.01)
    wider = np.where(away <= 96, 255, 0)  # 1.44 times the area
    assert judge(wider) == pytest.approx(2 / 2.44 * sure, rel=0.01)
    assert judge(np.where(away > 110, 255, np.where(disc, 255, 0))) == sure
    cross = disc & ((np.abs(x - 200) <= 20) | (np.abs(y - 200) <= 20))
    share = cross.sum() / segmentation.fill_hull(cross).sum()
    assert share < 0.75
    assert judge(np.where(cross, 255, 0), cross) == pytest.approx(share, rel=0.01)


@given(seed=st.integers(0, 2**32 - 1))
def test_certainty_is_a_share(seed):
    rng = np.random.default_rng(seed)
    odds = rng.integers(0, 256, (30, 40), dtype=np.uint8)
    cell = rng.random((30, 40)) < rng.uniform(0.01, 1)
    cell[15, 20] = True
    assert 0 <= segmentation.judge(odds, cell) <= 1

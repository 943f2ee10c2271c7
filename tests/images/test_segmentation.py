"""Steps of the segmentation: background, thresholds, foreground shapes, colour of neighbours."""

import itertools

import numpy as np
import pytest

from stages.images import segmentation


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


def test_otsu_agrees_with_trying_all():
    """The two thresholds are those of the smallest variance within the classes."""
    rng = np.random.default_rng(0)
    means = ((20, 300), (90, 200), (200, 100))
    levels = np.concatenate([rng.normal(mean, 8, n) for mean, n in means])
    levels = levels.clip(0, 383).astype(np.int32)
    halves = levels // 2

    def within(first, second):
        parts = (halves[halves <= first], halves[(halves > first) & (halves <= second)],
                 halves[halves > second])  # fmt: skip
        return sum(part.var() * len(part) for part in parts if len(part))

    best = min(itertools.combinations(range(5, 110), 2), key=lambda pair: within(*pair))
    first, second = segmentation._otsu(levels)
    assert within(first // 2, second // 2) == pytest.approx(within(*best))


def test_holes_are_filled_up_to_a_size():
    """A small hole is filled; a large one, and a bay of the border, are not."""
    foreground = np.ones((60, 60), np.uint8)
    foreground[10:14, 10:14] = 0
    foreground[30:50, 30:50] = 0
    foreground[0:3, 30:33] = 0
    filled = segmentation._fill_holes(foreground, 100)
    assert filled[12, 12] == 1
    assert filled[40, 40] == 0
    assert filled[1, 31] == 0


def test_component_of_the_seed():
    """The component that holds most of the seed is chosen, also where it is the smaller one."""
    foreground = (disc(60, (15, 30), 6) | disc(60, (40, 30), 15)).astype(np.uint8)
    seed = disc(60, (15, 30), 3).astype(np.uint8)
    own = segmentation._component_of(foreground, seed)
    assert own[30, 15]
    assert not own[30, 40]


def test_compactness():
    """One disc is compact, two that touch are not."""
    assert segmentation._is_compact(disc(80, (40, 40), 20))
    assert not segmentation._is_compact(disc(80, (22, 40), 18) | disc(80, (56, 40), 18))


def test_lobes_need_foreground_between():
    """Two dark parts are joined over cytoplasm, and kept apart by background between them."""
    left = np.array([[10, 20], [11, 20]], np.int32)
    right = np.array([[20, 20], [21, 20]], np.int32)
    above = np.ones((40, 40), bool)
    assert segmentation._is_joined(right, left, 12.0, above)
    assert not segmentation._is_joined(right, left, 5.0, above)
    above[:, 15] = False
    assert not segmentation._is_joined(right, left, 12.0, above)


def test_nothing_dark_gives_empty_masks():
    """Faint noise is no nucleus: the masks are empty and the background is still known."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(218, 224, (90, 70, 3), dtype=np.uint8)
    cell, nucleus, white = segmentation.outline(rgb)
    assert cell.shape == nucleus.shape == segmentation.working_shape(90, 70) == (160, 124)
    assert not cell.any()
    assert not nucleus.any()
    assert white == pytest.approx([221] * 3, abs=3)


def test_a_picture_that_is_all_foreground_is_outlined():
    """Without any background the distance to it has no end: no overflow, and the depth is full."""
    depth = segmentation._depth(np.ones((160, 160), bool))
    assert (depth == 255).all()

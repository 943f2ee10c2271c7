"""Light: drawn shading and haze give the numbers that were drawn."""

import numpy as np
import pytest

from stages.images import cell_masks, light


def found(nucleus, white=200.0):
    """A white cell with this nucleus."""
    return cell_masks.CellMask(
        nucleus, nucleus, (white,) * 3, (0.0, 0.0), 1.0, bool(nucleus.any()), None, 1.0
    )


NO_NUCLEUS = found(np.zeros((80, 80), bool))


def measure(rgb, of=NO_NUCLEUS):
    return light.measure(rgb, rgb, of)


def test_a_shaded_side_is_uneven_by_its_share():
    """The right quarter is a tenth darker; dark cells change nothing of that."""
    rgb = np.full((80, 80, 3), 200, np.uint8)
    assert measure(rgb) == {"unevenness": 0.0, "haze": None}
    rgb[:, 60:] = 180
    assert measure(rgb)["unevenness"] == pytest.approx(0.1)
    rgb[5:15, 5:15] = 60
    rgb[65:75, 65:75] = 60
    assert measure(rgb)["unevenness"] == pytest.approx(0.1)


def test_parts_without_background_are_left_out():
    """Tiles full of cells tell nothing of the light; where fewer than four are left, nothing is."""
    rgb = np.full((80, 80, 3), 90, np.uint8)
    rgb[:20] = 200
    assert measure(rgb)["unevenness"] == 0.0
    rgb[:20, :20] = 90
    assert measure(rgb)["unevenness"] is None


def test_haze_is_the_level_of_the_darkest_of_the_nucleus():
    """Of a nucleus half at 40 and half at 100, the darker; light over all raises it."""
    nucleus = np.zeros((80, 80), bool)
    nucleus[30:50, 30:50] = True
    rgb = np.full((80, 80, 3), 200, np.uint8)
    rgb[30:40, 30:50], rgb[40:50, 30:50] = 40, 100
    assert measure(rgb, found(nucleus))["haze"] == pytest.approx(0.2)
    rgb[32, 32] = 0  # one pixel is no nucleus
    assert measure(rgb, found(nucleus))["haze"] == pytest.approx(0.2)
    assert measure(rgb // 2 + 100, found(nucleus))["haze"] == pytest.approx(0.6)

"""The smaller copy: exact means, whole factors, and nothing new for small pictures."""

import numpy as np
import pytest

from stages.images import working_size


@pytest.mark.parametrize(
    ("shape", "times"), [((120, 160), 1), ((161, 20), 2), ((363, 360), 3), ((8, 400), 3)]
)
def test_squares_are_averaged_and_the_rest_is_cut_off(shape, times):
    """Whole numbers, by numpy as the oracle, to half a level."""
    rgb = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert working_size.factor(*shape) == times
    rows, columns = shape[0] // times, shape[1] // times
    whole = rgb[: rows * times, : columns * times].reshape(rows, times, columns, times, 3)
    small = working_size.reduce(rgb)
    assert small.shape == (rows, columns, 3)
    assert np.abs(small - whole.mean(axis=(1, 3))).max() <= 0.5


def test_a_mask_keeps_squares_that_are_half_covered():
    """Two of four pixels cover a square, one does not."""
    mask = np.zeros((4, 320), bool)
    mask[:2, 0], mask[0, 2] = True, True
    small = working_size.reduce_mask(mask)
    assert small.sum() == 1
    assert small[0, 0]

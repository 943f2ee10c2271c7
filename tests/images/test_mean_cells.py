"""Mean cells: of the cells of a class alone, and from whatever has a profile."""

import numpy as np
import pytest

from stages.images.mean_cells import average


def row(image_id, level, profile=None, has_cell=True):
    thumbnail = np.full((40, 40, 3), level, np.uint8).tobytes()
    return {"image_id": image_id, "has_cell": has_cell, "profile": profile, "thumbnail": thumbnail}


def test_the_mean_is_of_cells_of_the_class():
    """No picture without a cell or without a class counts; a lacking profile lacks alone."""
    rows = [
        row("a", 10, [1.0] * 24), row("b", 20, [3.0] * 24), row("c", 31),
        row("d", 200, has_cell=False), row("e", 200), row("f", 90),
    ]  # fmt: skip
    found = average(rows, dict.fromkeys("abcd", "x") | {"f": "y"})
    assert list(found) == ["x", "y"]
    assert found["x"].n == 3
    assert (found["x"].picture == 20).all()
    assert found["x"].profile == pytest.approx(np.full((3, 8), 2.0))
    assert found["y"].profile is None

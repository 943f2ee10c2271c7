"""Sharpness: known pictures, and blur lowers it."""

import cv2
import numpy as np
import pytest

from stages.images import sharpness


def grey(levels):
    return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, axis=2)


def test_flat_picture_has_none():
    """A picture of one colour has no edges."""
    assert sharpness.measure(grey(np.full((9, 7), 93))) == {"laplacian_sum": 0.0, "sharpness": 0.0}


def test_single_dot():
    """One dot of height 10: 40 in its place and 10 in each of its four neighbours."""
    levels = np.full((9, 10), 50)
    levels[4, 4] = 60
    found = sharpness.measure(grey(levels))
    assert found["laplacian_sum"] == 80
    assert found["sharpness"] == pytest.approx(80 / 90, rel=1e-5)


def test_no_overflow():
    """Black beside white in every pixel: 8-bit sums would wrap, ours do not."""
    levels = np.indices((16, 16)).sum(axis=0) % 2 * 255
    assert sharpness.measure(grey(levels))["sharpness"] == 4 * 255


def test_blur_lowers_it_and_size_does_not():
    """A blurred picture is less sharp; a picture twice as large, of the same texture, as sharp."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sharp = sharpness.measure(rgb)
    blurred = sharpness.measure(cv2.GaussianBlur(rgb, (5, 5), 0))
    twice = sharpness.measure(np.tile(rgb, (2, 2, 1)))
    assert blurred["sharpness"] < sharp["sharpness"] / 2
    assert twice["sharpness"] == pytest.approx(sharp["sharpness"], rel=0.02)
    assert twice["laplacian_sum"] > 3.9 * sharp["laplacian_sum"]

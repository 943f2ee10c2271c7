"""Sharpness: known pictures, and blur lowers it."""

import cv2
import numpy as np
import pytest

from stages.images import sharpness


def measure(rgb, cell=None):
    return sharpness.measure(rgb, np.zeros(rgb.shape[:2], bool) if cell is None else cell)


def grey(levels):
    return np.repeat(np.asarray(levels, np.uint8)[..., None], 3, axis=2)


def test_flat_picture_has_none():
    """A picture of one colour has no edges."""
    found = measure(grey(np.full((9, 7), 93)))
    assert found.pop("tenengrad_cell") is None
    assert set(found.values()) == {0.0}


def test_single_dot():
    """One dot of height 10: 40 in its place and 10 in each of its four neighbours."""
    levels = np.full((9, 10), 50)
    levels[4, 4] = 60
    found = measure(grey(levels))
    assert found["laplacian_sum"] == 80
    assert found["sharpness"] == pytest.approx(80 / 90, rel=1e-5)
    assert found["laplacian_variance"] == pytest.approx((40**2 + 4 * 10**2) / 90, rel=1e-5)


def test_no_overflow():
    """Black beside white in every pixel: 8-bit sums would wrap, ours do not."""
    levels = np.indices((16, 16)).sum(axis=0) % 2 * 255
    assert measure(grey(levels))["sharpness"] == 4 * 255


def test_blur_lowers_it_and_size_does_not():
    """A blurred picture is less sharp; a picture twice as large, of the same texture, as sharp."""
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sharp = measure(rgb)
    blurred = measure(cv2.GaussianBlur(rgb, (5, 5), 0))
    twice = measure(np.tile(rgb, (2, 2, 1)))
    assert blurred["sharpness"] < sharp["sharpness"] / 2
    assert twice["sharpness"] == pytest.approx(sharp["sharpness"], rel=0.02)
    assert twice["laplacian_sum"] > 3.9 * sharp["laplacian_sum"]


def test_tenengrad_of_a_ramp():
    """Levels that rise by 3 a column: Sobel answers 8 x 3 everywhere but at the two borders."""
    levels = np.tile(50 + 3 * np.arange(12), (9, 1))
    cell = np.zeros((9, 12), bool)
    cell[2:6, 3:8] = True
    found = measure(grey(levels), cell)
    assert found["tenengrad_cell"] == 24**2
    assert found["tenengrad"] == pytest.approx(24**2 * 10 / 12, rel=1e-5)


def test_entropy_counts_bits():
    """Of 16 levels, each as frequent, a pixel tells four bits, wherever they stand."""
    levels = np.arange(256).reshape(16, 16) % 16 * 3
    assert measure(grey(levels))["entropy"] == 4
    assert measure(grey(levels.T))["entropy"] == 4

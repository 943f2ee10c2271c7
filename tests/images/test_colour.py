"""Colour measures: known pictures, numpy as the oracle, and counts that add up."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stages.images import colour

PICTURES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda s: (*s, 3)))


def test_two_pixels():
    """Black and pure red: known mean, spread, saturation, and both clipped."""
    rgb = np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8)
    found = colour.measure(rgb)
    assert found["mean_r"] == 127.5
    assert found["sd_r"] == 127.5
    assert found["mean_g"] == found["sd_b"] == 0
    assert found["saturation"] == 0.5
    assert found["clipped"] == 1.0


@given(PICTURES)
def test_agrees_with_numpy(rgb):
    """Means and spreads are numpy's, saturation that of the HSV definition."""
    found = colour.measure(rgb)
    for channel, name in enumerate("rgb"):
        assert found[f"mean_{name}"] == pytest.approx(rgb[..., channel].mean(), rel=1e-5)
        assert found[f"sd_{name}"] == pytest.approx(rgb[..., channel].std(), rel=1e-4, abs=1e-4)
    saturation = [colorsys.rgb_to_hsv(*(p / 255))[1] for p in rgb.reshape(-1, 3)]
    assert found["saturation"] == pytest.approx(np.mean(saturation), rel=1e-4, abs=1e-5)


@given(PICTURES, st.randoms(use_true_random=False))
def test_places_do_not_matter(rgb, random):
    """Shuffled pixels give exactly the same measures."""
    order = list(range(rgb.shape[0] * rgb.shape[1]))
    random.shuffle(order)
    shuffled = rgb.reshape(-1, 3)[order].reshape(rgb.shape)
    assert colour.measure(shuffled) == colour.measure(rgb)


@given(PICTURES)
def test_histogram_counts_every_pixel(rgb):
    """Each channel's bins hold all pixels, eight levels to a bin."""
    counts = colour.histogram(rgb)
    assert counts.shape == (3, colour.BINS)
    assert (counts.sum(axis=1) == rgb.shape[0] * rgb.shape[1]).all()
    oracle = np.histogram(rgb[..., 1], bins=32, range=(0, 256))[0]
    assert counts[1].tolist() == oracle.tolist()

"""Colour measures: known pictures, numpy as the oracle, and counts that add up."""

import colorsys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stages.images import colour, working_size


def measure(rgb):
    return colour.measure(rgb, colour.count_levels(rgb), working_size.reduce(rgb))


PICTURES = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9).map(lambda s: (*s, 3)))


def test_two_pixels():
    """Black and pure red: known mean, spread, saturation, and both clipped."""
    rgb = np.array([[[0, 0, 0], [255, 0, 0]]], np.uint8)
    found = measure(rgb)
    assert found["mean_r"] == 127.5
    assert found["sd_r"] == 127.5
    assert found["mean_g"] == found["sd_b"] == 0
    assert found["saturation"] == found["value"] == 0.5
    assert found["clipped"] == 1.0


@given(PICTURES)
def test_agrees_with_numpy(rgb):
    """Means and spreads are numpy's, saturation that of the HSV definition."""
    found = measure(rgb)
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
    assert measure(shuffled) == measure(rgb)


@given(PICTURES)
def test_histogram_counts_every_pixel(rgb):
    """Each channel's bins hold all pixels, eight levels to a bin."""
    counts = colour.histogram(colour.count_levels(rgb))
    assert counts.shape == (3, colour.BINS)
    assert (counts.sum(axis=1) == rgb.shape[0] * rgb.shape[1]).all()
    oracle = np.histogram(rgb[..., 1], bins=32, range=(0, 256))[0]
    assert counts[1].tolist() == oracle.tolist()


@pytest.mark.parametrize(
    ("pixel", "hue", "lab"),
    [
        ((255, 255, 255), None, (100, 0, 0)),
        ((255, 0, 0), 0, (53.2, 80.1, 67.2)),
        ((0, 255, 0), 120, (87.7, -86.2, 83.2)),
        ((0, 0, 255), 240, (32.3, 79.2, -107.9)),
        ((119, 119, 119), None, (50.0, 0, 0)),
    ],
)
def test_hue_and_lab_of_known_colours(pixel, hue, lab):
    """Published L*a*b* of sRGB's corners, to a step of 8 bits; what is grey has no hue."""
    found = measure(np.full((8, 8, 3), pixel, np.uint8))
    assert found["hue"] == (None if hue is None else pytest.approx(hue, abs=1.5))
    assert [found[f"lab_{name}"] for name in "lab"] == pytest.approx(lab, abs=0.7)


def test_hues_are_averaged_on_the_circle():
    """Half at 20 degrees, half at 340: the mean is red, not cyan."""
    rgb = np.full((6, 6, 3), (240, 80, 0), np.uint8)
    rgb[:3] = (240, 0, 80)
    found = measure(rgb)["hue"]
    assert min(found, 360 - found) < 1


def test_counts_stay_exact_beyond_what_floats_hold(monkeypatch):
    """A picture that is counted in strips gives the counts of the whole."""
    rgb = np.random.default_rng(0).integers(0, 256, (31, 17, 3), dtype=np.uint8)
    whole = measure(rgb)
    monkeypatch.setattr(colour, "COUNTED_AT_ONCE", 40)
    assert measure(rgb) == whole

"""Optical density: known values, and hues that do not depend on depth."""

import numpy as np
import pytest

from stages.images.optical_density import add_channels, chroma, density_table, optical_density


def test_density_known_values():
    """The background has none, half of the light ln 2, and brighter pixels less than none."""
    rgb = np.array([[[200, 200, 200], [98, 200, 30], [255, 0, 200]]], np.uint8)
    density = optical_density(rgb, (200, 200, 200), 1000)
    assert density[0, 0].tolist() == [0, 0, 0]
    assert density[0, 1, 0] == pytest.approx(1000 * np.log(2), abs=0.5)
    assert density[0, 2, 0] < 0
    assert density[0, 2, 1] == round(1000 * np.log(204 / 4))
    assert density.dtype == np.int32


def test_chroma_is_hue_not_depth():
    """Twice the stain has nearly the same shares; another stain has others; clear glass none."""
    thin = np.array([[[100, 200, 50]]], np.int32)
    other = np.array([[[50, 200, 150]]], np.int32)
    thick = chroma(2 * thin, 128)
    assert np.abs(chroma(thin, 128) - thick).max() < 12
    assert np.abs(chroma(other, 128) - thick).max() > 30
    assert chroma(np.array([[[-3, 1, 1]]], np.int32), 128).max() < 12


def test_each_channel_has_a_background_of_its_own_and_each_is_summed():
    """Also of every second row and column, which do not lie side by side in memory."""
    rgb = np.random.default_rng(0).integers(0, 256, (8, 10, 3)).astype(np.uint8)[::2, ::2]
    white = (240, 200, 160)
    density = optical_density(rgb, white)
    for channel, level in enumerate(white):
        assert (density[..., channel] == density_table(level)[rgb[..., channel]]).all()
    assert (add_channels(density) == density.sum(axis=2)).all()
    floats = (density / 7).astype(np.float32)
    assert (add_channels(floats) == floats.sum(axis=2)).all()

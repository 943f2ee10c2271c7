"""Depth: 16-bit numbers come out in the range in use, never black."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.images import depth


@given(
    bits=st.sampled_from([8, 10, 12, 14, 16]), share=st.floats(0.3, 1), is_negative=st.booleans()
)
def test_a_bright_ground_tells_the_range(bits: int, share: float, is_negative: bool) -> None:
    """A ramp up to a ground of a share of the range is that share of 255, in every range."""
    ramp = np.linspace(0, share * (2**bits - 1), 256).astype(np.uint16).reshape(16, 16)
    levels = np.uint16(2**bits - 1) - ramp if is_negative else ramp
    rgb, found = depth.to_8_bits(levels, is_negative=is_negative)
    assert found == bits
    assert rgb.shape == (16, 16, 3)
    assert rgb.max() == pytest.approx(share * 255, abs=1)
    assert (np.diff(rgb[..., 0].ravel().astype(int)) >= 0).all()


def test_a_named_range_is_believed() -> None:
    """Nothing brighter than a tenth, in a file that says what white is."""
    levels = np.array([[0, 100], [200, 409]], np.uint16)
    rgb, bits = depth.to_8_bits(levels, brightest=4095)
    assert bits == 12
    assert rgb[..., 1].tolist() == [[0, 6], [12, 25]]


def test_alpha_is_left_out() -> None:
    """Of two channels the first is grey, of four the first three are colours."""
    grey = np.array([[[10 << 8, 65535], [200 << 8, 65535]]], np.uint16)
    assert depth.to_8_bits(grey)[0].tolist() == [[[10] * 3, [200] * 3]]
    colours = np.array([[[1 << 8, 2 << 8, 65535, 0]]], np.uint16)
    assert depth.to_8_bits(colours)[0].tolist() == [[[1, 2, 255]]]

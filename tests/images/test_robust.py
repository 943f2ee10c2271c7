"""Distances by medians: known values, and those from others' median."""

import numpy as np
import pandas as pd
import pytest

from stages.images.robust import robust_z


def test_robust_z_known_values():
    """MAD of 1..5 is 1; a constant and missing values give NaN, which flags nothing."""
    z = robust_z(pd.Series([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert z.tolist() == pytest.approx([-1.349, -0.6745, 0, 0.6745, 1.349])
    assert robust_z(pd.Series([2.0, 2.0, 2.0, 9.0])).isna().all()
    assert pd.isna(robust_z(pd.Series([1.0, 2.0, np.nan, 4.0]))[2])


def test_the_others_alone_give_median_and_spread():
    """A far value counts as far from them, and does not move what it is held against."""
    z = robust_z(pd.Series([3.0, 103.0]), pd.Series([1.0, 2.0, 3.0, 4.0, 5.0]))
    assert z.tolist() == pytest.approx([0, 67.45])

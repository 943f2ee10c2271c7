"""Likeness to a reference: the furthest measure counts, in the reference's own spreads."""

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import TableError
from stages.images.colour_similarity import MEASURES, measure_distances


def colours(n_images, seed=0):
    values = np.random.default_rng(seed).normal(100, 2, (n_images, len(MEASURES)))
    return pd.DataFrame(values, columns=list(MEASURES), index=[f"h/{n}" for n in range(n_images)])


def test_one_measure_that_is_off_makes_a_picture_unlike():
    """By as many spreads as it is off; the measure is named, and the others do not hide it."""
    reference = colours(400)
    pictures = pd.DataFrame(100.0, [0, 1], list(MEASURES))
    pictures.loc[1, "sd_g"] += 20
    found = measure_distances(pictures, reference)
    assert found.loc[0, "distance"] < 0.5
    assert found.loc[1, "distance"] == pytest.approx(10, rel=0.1)
    assert found.loc[1, "measure"] == "sd_g"


def test_a_reference_is_nearly_all_like_itself():
    assert (measure_distances(colours(400), colours(400))["distance"] < 5).all()


def test_a_measure_without_spread_is_left_out_and_none_at_all_is_refused():
    reference = colours(50).assign(saturation=0.5)
    assert (measure_distances(colours(5, 1), reference)["measure"] != "saturation").all()
    with pytest.raises(TableError, match="do not differ enough"):
        measure_distances(colours(5), reference.iloc[:1])

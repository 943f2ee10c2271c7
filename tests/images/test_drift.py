"""Distances between hospitals: known shifts, a planted pale hospital, classes apart."""

import numpy as np
import pandas as pd
import pytest

from stages.images import drift


def hospital(name, label="a", n_images=200, **shifts):
    rng = np.random.default_rng(5)
    values = {
        measure: rng.normal(0, 1, n_images) + shifts.get(measure, 0.0) for measure in drift.MEASURES
    }
    return pd.DataFrame(values).assign(hospital=name, label=label)


def of(found, one, other, measure="luminance"):
    row = found.query("hospital == @one and other == @other and measure == @measure")
    return row["distance"].item()


def test_a_shift_is_its_distance_in_spreads():
    """The same pictures lie at 0, a shift of 3 spreads at 3, and in no other measure."""
    found = drift.compare(pd.concat([hospital("x"), hospital("y"), hospital("z", luminance=3.0)]))
    assert of(found, "x", "y") == 0
    spread = np.random.default_rng(5).normal(0, 1, 200).std()
    assert of(found, "x", "z") == pytest.approx(3 / spread)
    assert of(found, "x", "z", "sharpness") == 0


def test_another_mixture_of_classes_is_no_drift():
    """Two classes far apart, 9 to 1 here and 1 to 9 there."""

    def mixture(name, n_first):
        return pd.concat([hospital(name, "a", n_first), hospital(name, "b", 500 - n_first,
                                                                 luminance=10.0)])  # fmt: skip

    found = drift.compare(pd.concat([mixture("x", 450), mixture("y", 50)]))
    assert of(found, "x", "y") < 0.5


def test_too_few_pictures_and_no_class_in_common_tell_nothing():
    found = drift.compare(
        pd.concat([hospital("x"), hospital("y", n_images=9), hospital("z", label="b")])
    )
    assert found["distance"].isna().all()
    assert (found["n_classes"] == 0).all()

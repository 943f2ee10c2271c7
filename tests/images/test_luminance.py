"""Pictures that stand out in luminance: each planted one for its reason, within its own class."""

import numpy as np
import pandas as pd
import pytest

from stages.images import luminance


def pictures(n_images=60):
    """Two classes, one of them 60 levels darker; a nucleus of 20 px and few red cells in each."""
    rng = np.random.default_rng(3)
    level = np.where(np.arange(n_images) % 2, 130.0, 190.0) + rng.uniform(-3, 3, n_images)
    return pd.DataFrame({
        "hospital": "h", "label": np.where(np.arange(n_images) % 2, "dark", "pale"),
        "mean_r": level, "mean_g": level, "mean_b": level,
        "nucleus_radius": rng.normal(20, 1, n_images),
        "stained_around": rng.normal(0.1, 0.01, n_images), "n_cells": 1,
    })  # fmt: skip


PLANTED = [
    ({"n_cells": 2, "nucleus_radius": 30.0}, "several cells"),
    ({"nucleus_radius": 30.0, "stained_around": 0.14}, "large nucleus"),
    ({"stained_around": 0.4, "nucleus_radius": 22.5}, "many red cells"),
    ({}, "other"),
    ({"nucleus_radius": np.nan, "n_cells": 0}, "other"),
]


@pytest.mark.parametrize(("changes", "reason"), PLANTED)
def test_a_dark_picture_is_found_for_its_reason(changes, reason):
    """And no other picture: the darker class is none of outliers."""
    table = pictures()
    for name, value in {"mean_r": 150.0, "mean_g": 150.0, "mean_b": 150.0, **changes}.items():
        table.loc[10, name] = value
    found = luminance.judge(table)
    assert found.loc[10, "luminance"] == pytest.approx(150)
    assert (found.loc[10, "side"], found.loc[10, "reason"]) == ("dark", reason)
    assert found["side"].notna().sum() == 1


def test_a_bright_picture_has_no_reason_of_dark_ones():
    table = pictures()
    table.loc[11, ["mean_r", "mean_g", "mean_b", "n_cells"]] = [200, 200, 200, 3]
    found = luminance.judge(table)
    assert (found.loc[11, "side"], found.loc[11, "reason"]) == ("bright", "other")


def test_a_class_of_two_pictures_of_one_level_stands_out_nowhere():
    table = pictures(2).assign(label="one", mean_r=100.0, mean_g=100.0, mean_b=100.0)
    assert luminance.judge(table)["side"].isna().all()

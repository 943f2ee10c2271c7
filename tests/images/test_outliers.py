"""Outliers and summaries: known values, and null where nothing was measured."""

import json

import numpy as np
import pandas as pd
import pytest

from stages.core import store
from stages.images import outliers


def test_nothing_measured_is_null():
    """A hospital in which no cell was found has null for the cells' quantiles, never 0."""
    columns = {name: [1.0] for name in outliers.SUMMARISED}
    table = pd.DataFrame(columns | {"has_cell": [False], "flags": [["no_cell"]]})
    for name in ("cell_radius", "mask_iou", "red_cell_diameter"):
        table[name] = pd.Series([None], dtype="float64")
    found = json.loads(store.to_json(outliers.summarise(table)))
    assert found["quantiles"]["cell_radius"] == {"p5": None, "p50": None, "p95": None}
    assert found["mask_iou"] == {"mean": None, "n": 0}
    assert found["n_with_red_cells"] == 0
    assert found["n_by_flag"]["no_cell"] == 1


def test_examples_are_evenly_spaced():
    """Few pictures are all shown; of many, the first, the last, and no picture twice."""
    assert outliers.evenly_spaced(3, 24) == [0, 1, 2]
    places = outliers.evenly_spaced(1000, 24)
    assert places[0] == 0
    assert places[-1] == 999
    assert len(set(places)) == 24


def test_sharpness_bins_are_open_at_the_end():
    """A value beyond the last bin is counted there, so that no picture is lost."""
    shares = outliers.sharpness_shares("here", [0.1, 0.6, 0.7, 900.0])
    assert shares["share"].iloc[0] == 0.25
    assert shares["share"].iloc[1] == 0.5
    assert shares["share"].iloc[-1] == 0.25


def test_flags_of_planted_outliers():
    """Dark, blurred, small and cut pictures carry exactly their flags; limit moves them."""
    rng = np.random.default_rng(0)
    n = 50
    table = pd.DataFrame({name: rng.normal(100, 5, n) for name in ("mean_r", "mean_g", "mean_b")})
    table["saturation"] = rng.normal(0.3, 0.02, n)
    table["sharpness"] = rng.normal(4, 0.3, n)
    table["cell_radius"] = rng.normal(50, 3, n)
    table["has_cell"], table["at_border"], table["broken"] = True, False, False
    table["unsure_outline"] = False
    table.loc[1, ["mean_r", "mean_g", "mean_b"]] = 5.0
    table.loc[2, "sharpness"] = 0.1
    table.loc[3, "cell_radius"] = 4.0
    table.loc[4, "at_border"] = True
    table.loc[6, "broken"] = True
    table.loc[7, "unsure_outline"] = True
    table.loc[5, ["has_cell", "cell_radius"]] = [False, np.nan]
    flags = outliers.flag(table, 5.0)
    assert flags[1:8] == [
        ["brightness_outlier"],
        ["sharpness_outlier"],
        ["cell_radius_outlier"],
        ["at_border"],
        ["no_cell"],
        ["broken"],
        ["unsure_outline"],
    ]
    assert not any(flags[8:])
    assert sum(map(len, outliers.flag(table, 1.0))) > 30


def test_colour_shares_sum_to_one():
    """Levels are the middles of the bins; each channel sums to 1."""
    counts = np.arange(96, dtype=np.int64).reshape(3, 32)
    shares = outliers.colour_shares("here", counts)
    assert shares["level"].iloc[0] == 4.0
    assert shares["level"].iloc[31] == 252.0
    assert shares.groupby("channel")["share"].sum().tolist() == pytest.approx([1, 1, 1])
    assert shares["share"].iloc[1] == pytest.approx(1 / 496)

"""Comparison: each hospital apart, Holm over all lines."""

import pandas as pd
import pytest

from stages.evaluation.experiments import Experiment
from stages.tools import compare
from tests.evaluation.test_experiments import experiment


def joined(name, *parts):
    return Experiment(name, {}, pd.concat([one.images for one in parts]))


def test_hospitals_stand_apart_and_all_lines_are_corrected():
    """Eight of a hundred nested, twice, and nothing: 2 / 2^8, 2 / 2^8 and 1, times three, three."""
    first = joined("a", experiment("", 2), experiment("", 5, "porto"))
    better = joined("b", experiment("", 10), experiment("", 5, "porto"))
    lines = compare.compare(first, [better, experiment("c", 10)])
    assert [(line.other, line.hospital) for line in lines] == [
        ("b", "lisbon"), ("b", "porto"), ("c", "lisbon"),
    ]  # fmt: skip
    assert lines[0].accuracies == pytest.approx((0.98, 0.90))
    rows = [line.split() for line in compare.lay_out(lines).split("\n")]
    assert rows[1] == [
        "b", "lisbon", "100", "100", "0.980", "0.900", "+0.080", "0.023", "more", "than", "chance",
    ]  # fmt: skip
    assert [row[7] for row in rows[1:4]] == ["0.023", "1", "0.023"]
    assert rows[2][-2:] == ["within", "chance"]


def test_few_patients_cannot_tell():
    group = [f"patient{place % 5}" for place in range(100)]
    lines = compare.compare(experiment("a", 0, group=group), [experiment("b", 90, group=group)])
    assert "too few groups to tell" in compare.lay_out(lines)

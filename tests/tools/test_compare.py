"""Comparison: the same images alone, each hospital apart, Holm over all lines, what is refused."""

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import PipelineError
from stages.tools import compare
from stages.tools.experiments import Experiment


def experiment(name, wrong, hospital="lisbon", n=100, start=0, group=None, label="lymphocyte"):
    """An experiment that errs on the first `wrong` of the images from `start` on."""
    ids = [f"{hospital}/{place:03d}" for place in range(start, start + n)]
    predicted = np.where(np.arange(n) < wrong, "other", label)
    columns = {"hospital": hospital, "part": "test", "label": label, "predicted": predicted}
    return Experiment(name, {}, pd.DataFrame(columns | {"group": group or ids}, index=ids))


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


def test_only_images_that_both_were_tested_on_count():
    """The one that is seen by the first alone, and erred on, is not its fault here."""
    line = compare.compare(experiment("a", 30), [experiment("b", 0, start=30)])[0]
    assert (line.found.n, line.accuracies, line.found.p_value) == (70, (1.0, 1.0), 1)


def test_few_patients_cannot_tell():
    group = [f"patient{place % 5}" for place in range(100)]
    lines = compare.compare(experiment("a", 0, group=group), [experiment("b", 90, group=group)])
    assert "too few groups to tell" in compare.lay_out(lines)


def test_what_cannot_be_compared_is_refused():
    """Nothing in common, other labels, one name twice: one line each that says what to do."""
    first = experiment("a", 2)
    with pytest.raises(PipelineError, match=r"^a and b were tested on no image in common\. Comp"):
        compare.compare(first, [experiment("b", 2, "porto")])
    with pytest.raises(
        PipelineError, match=r"^a and b give 100 images different labels \(lisbon/000.*95 more"
    ):
        compare.compare(first, [experiment("b", 2, label="monocyte")])
    with pytest.raises(PipelineError, match=r"^a is named twice"):
        compare.compare(first, [experiment("b", 2), first])

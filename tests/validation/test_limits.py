"""Limits that a person sets: what is counted, what is not asked, and a damaged reference."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import TableError
from stages.validation import limits
from stages.validation.limits import (
    MEASURES,
    REFERENCE,
    count_classes,
    count_flagged,
    measure_drift,
)


def pictures(hospital="a", n=200, seed=0, **moved):
    """Measures of a hospital, normally distributed around 100; some moved by so much."""
    rng = np.random.default_rng(seed)
    content = {name: rng.normal(100 + moved.get(name, 0), 10, n) for name in MEASURES}
    return pd.DataFrame({"hospital": hospital, **content})


def test_a_picture_with_two_flags_counts_once():
    """And the commonest flag is named; a hospital at the limit keeps it."""
    flags = [["no_cell", "unsure_outline"], ["no_cell"], [], []]
    frame = count_flagged(pd.DataFrame({"hospital": "a", "flags": flags}), 0.5)
    assert frame["is_kept"].tolist() == [True]
    assert frame["found"][0].startswith("a: 50.0% of 4 pictures are flagged, most often no_cell,")
    assert not count_flagged(pd.DataFrame({"hospital": "a", "flags": flags}), 0.49)["is_kept"][0]


def test_classes_of_unseen_hospitals_alone_are_not_asked():
    """A class that home has but does not train on is 0; the others are counted over hospitals."""
    parts = ["train", "train", "valid", "test", "unseen", "left_out"]
    labels = ["x", "x", "x", "y", "z", "w"]
    frame = count_classes(pd.DataFrame({"part": parts, "label": labels}), 2)
    assert frame["found"].str.partition(",")[0].tolist() == [
        "x: 2 training pictures", "y: 0 training pictures",
    ]  # fmt: skip
    assert frame["is_kept"].tolist() == [True, False]


@given(st.permutations(range(40)))
def test_order_and_strangers_do_not_drift(order):
    """The same pictures in any order moved by 0; a hospital without a reference is not asked."""
    own = pictures(n=40)
    both = pd.concat([own.iloc[list(order)], pictures("b", n=40)])
    frame = measure_drift(both, {"a": limits.describe(own)}, 1e-9)
    assert len(frame) == len(MEASURES)
    assert frame["is_kept"].all()


def test_a_planted_shift_is_found_and_chance_is_not():
    """Other pictures of the same hospital keep to .25; half a width in one measure does not."""
    before = {"a": limits.describe(pictures())}
    assert measure_drift(pictures(seed=1), before, 0.25)["is_kept"].all()
    moved = measure_drift(pictures(seed=1, sharpness=13.0), before, 0.25)
    (found,) = moved.loc[~moved["is_kept"], "found"]
    assert found.startswith("a, sharpness: median ")


def test_a_measure_that_no_picture_has_any_more_is_told():
    frame = measure_drift(
        pictures().assign(nucleus_od=np.nan), {"a": limits.describe(pictures())}, 0.25
    )
    (found,) = frame.loc[~frame["is_kept"], "found"]
    assert "nucleus_od: median" in found
    assert "at no picture now" in found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "is missing"),
        ("{", "is not JSON"),
        ("[]", "must hold hospitals by name"),
        ('{"a": 1}', "a: must hold measures by name"),
        (json.dumps({"a": {"mean_red": [1, 2, 3, 4, 5]}}), "a, mean_red: must be a measure"),
        (json.dumps({"a": {"mean_r": [1, 2, 3]}}), "a, mean_r: must be a measure.*5 rising"),
        (json.dumps({"a": {"mean_r": [5, 4, 3, 2, 1]}}), "a, mean_r: must be a measure"),
        (json.dumps({"a": {"mean_r": [1, 2, "3", 4, 5]}}), "a, mean_r: must be a measure"),
    ],
)
def test_a_damaged_reference_is_named_with_the_way_out(text, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    REFERENCE.parent.mkdir()
    if text is not None:
        REFERENCE.write_text(text, encoding="utf-8")
    with pytest.raises(TableError, match=rf"data/reference.json.*{told}.*stages.tools.reference"):
        limits.read_reference()

"""Nothing half-written, and one form for every number."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.store import plain, replace, replace_folder, to_json, write_csv, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "deep/summary.json"
    write_json(target, {"a": 1})
    with pytest.raises(RuntimeError, match="killed"), replace(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert json.loads(target.read_text()) == {"a": 1}
    assert [path.name for path in target.parent.iterdir()] == ["summary.json"]


def test_a_failed_folder_leaves_the_old_folder(tmp_path):
    target = tmp_path / "model"
    with replace_folder(target) as temporary:
        (temporary / "card.json").write_text("1")
    with pytest.raises(RuntimeError, match="killed"), replace_folder(target) as temporary:
        (temporary / "card.json").write_text("2")
        raise RuntimeError("killed")
    assert (target / "card.json").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_run_left_is_overwritten(tmp_path):
    (tmp_path / "model.tmp").mkdir()
    (tmp_path / "model.tmp/stale").write_text("old")
    with replace_folder(tmp_path / "model") as temporary:
        (temporary / "card.json").write_text("1")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["card.json"]


def test_numbers_have_six_digits_and_gaps_are_null():
    content = {"b": np.float32(1 / 3), "a": [math.nan, math.inf, True], "c": np.int64(12345678)}
    assert json.loads(to_json(content)) == {"a": [None, None, True], "b": 0.333333, "c": 12345678}
    assert to_json(content).index('"a"') < to_json(content).index('"b"')


@given(
    st.dictionaries(st.text(max_size=3), st.floats() | st.integers() | st.booleans() | st.none())
)
def test_writing_twice_changes_nothing(content):
    """The one form is a fixed point: what is read back writes the same bytes."""
    assert to_json(json.loads(to_json(content))) == to_json(content)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_stays_within_half_of_the_sixth_digit(number):
    assert plain(number) == pytest.approx(number, rel=5.1e-6)


def test_plot_data_have_unix_lines_and_six_digits(tmp_path):
    write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1 / 3], "y": ["b"]}))
    assert (tmp_path / "a.csv").read_bytes() == b"x,y\n0.333333,b\n"

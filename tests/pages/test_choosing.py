"""Which pictures are shown, on tables whose answers can be read off."""

import numpy as np
import pandas as pd

from stages.pages import choosing


def make_calls():
    """Two hospitals with twenty pictures each, five of them wrong; the later, the surer."""
    ids = [f"{hospital}/{number:02d}" for hospital in "ab" for number in range(20)]
    p = np.linspace(0.5, 0.9, 40)
    chances = pd.DataFrame({"x": p, "y": 0.9 - p, "z": 0.1}, index=ids)
    labels = ["y" if number % 4 == 0 else "x" for number in range(40)]
    scored = pd.DataFrame({"hospital": [name[0] for name in ids], "label": labels}, index=ids)
    return choosing.name_calls(scored, chances)


def test_a_call_is_the_first_of_the_most_probable_classes():
    chances = pd.DataFrame({"x": [0.2, 0.4], "y": [0.7, 0.4], "z": [0.1, 0.2]}, index=["a", "b"])
    calls = choosing.name_calls(pd.DataFrame({"label": ["y", "y"]}, index=["a", "b"]), chances)
    assert calls["call"].tolist() == ["y", "x"]
    assert calls["is_right"].tolist() == [True, False]
    np.testing.assert_allclose(calls["gap"], [0.5, 0.0])


def test_examples_of_each_hospital_class_and_verdict_whatever_the_order():
    """Two right ones of x, four wrong ones of y, at each hospital; other seeds draw others."""
    calls = make_calls()
    drawn = choosing.draw_examples(calls, 2, 4, seed=1)
    counted = calls.loc[drawn].groupby(["hospital", "label", "is_right"]).size()
    assert counted.to_dict() == {
        ("a", "x", True): 2, ("a", "y", False): 4, ("b", "x", True): 2, ("b", "y", False): 4,
    }  # fmt: skip
    assert calls.loc[drawn, "is_right"].tolist() == [True] * 4 + [False] * 8
    assert choosing.draw_examples(calls[::-1], 2, 4, seed=1) == drawn
    assert choosing.draw_examples(calls, 2, 4, seed=2) != drawn


def test_errors_by_confidence_and_doubts_by_the_gap():
    """Equals follow their names, not the order of the rows."""
    calls = make_calls()
    assert choosing.rank_errors(calls, 3) == ["b/16", "b/12", "b/08"]
    assert choosing.rank_doubts(calls, 2) == ["a/00", "a/01"]
    level = calls.assign(p=0.5, gap=0.1)[::-1]
    assert choosing.rank_errors(level, 2) == ["a/00", "a/04"]
    assert choosing.rank_doubts(level, 2) == ["a/00", "a/01"]


def test_a_rare_class_is_never_lost_from_the_training_pictures():
    labels = pd.Series(["common"] * 50 + ["rare"], index=[f"{n:02d}" for n in range(51)])
    drawn = choosing.draw_training(labels, 10, seed=3)
    assert len(drawn) == len(set(drawn)) == 10
    assert "50" in drawn
    assert choosing.draw_training(labels[::-1], 10, seed=3) == drawn


def test_the_nearest_by_cosine_then_by_name():
    """Length is of no account, and a vector of zeros is near to nothing."""
    known = pd.DataFrame([[0, 0], [5, 0], [1, 1], [2, 0], [0, 1]], index=list("edcba"))
    found = choosing.find_nearest(np.array([3.0, 0.0]), known, 4)
    assert [name for name, _ in found] == ["b", "d", "c", "a"]
    np.testing.assert_allclose([cosine for _, cosine in found], [1, 1, 0.5**0.5, 0])
    assert choosing.find_nearest(np.zeros(2), known, 1) == [("a", 0.0)]


def test_twins_on_both_sides_of_training_come_first():
    """Then those with two calls; a group without a scored picture is none."""
    rows = [
        ("a", "one", "test"), ("b", "one", "test"),  # called the same
        ("c", "two", "test"), ("d", "two", "test"),  # called differently
        ("e", "zed", "train"), ("f", "zed", "test"),  # learnt from
        ("g", "six", "train"), ("h", "six", "valid"), ("i", "single", "test"),
    ]  # fmt: skip
    split = pd.DataFrame(rows, columns=["image_id", "twin_group", "part"]).assign(label="x")
    calls = pd.DataFrame({"call": list("xxxyxx")}, index=list("abcdfi"))
    groups = choosing.group_twins(split[::-1], calls)
    assert [list(own.index) for own in groups] == [["f", "e"], ["c", "d"], ["a", "b"]]
    assert groups[0]["is_scored"].tolist() == [True, False]

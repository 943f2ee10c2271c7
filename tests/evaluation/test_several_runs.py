"""Scores over seeds and folds: numpy and scipy are the oracles, places count once."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stages.evaluation import several_runs
from tests.made.runs import run, summary

scores = st.floats(0, 1)


def one(f1, n=9):
    """A hospital of one class."""
    return f1, {"a": (n, f1, f1)}


@given(values=st.lists(scores, min_size=3, max_size=9))
def test_the_interval_is_student_s_over_hospitals(values):
    """Of hospitals to come, within 0 and 1; where all score the same it is a point."""
    runs = [run(1, unseen={f"h{i}": one(value) for i, value in enumerate(values)})]
    by_hospital = several_runs.average_seeds(several_runs.list_scores(runs), ["hospital"])
    found = several_runs.average_places(by_hospital, {}, ["macro_f1"]).loc["macro_f1"]
    error = stats.sem(values)
    ends = (np.mean(values),) * 2
    if error > 0:
        ends = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found[["low", "high"]].tolist() == pytest.approx(np.clip(ends, 0, 1).tolist())
    assert found["n_places"] == len(values)


def test_copies_of_one_hospital_count_once():
    """Three hospitals of which two are one place: the mean is of two, and too few for an interval.

    As three they would give another mean, and an interval that is too narrow.
    """
    runs = [run(1, unseen={"b": one(0.9), "b224": one(0.7), "c": one(0.4)})]
    rows = several_runs.average_seeds(several_runs.list_scores(runs), ["hospital"])
    found = several_runs.average_places(rows, {"b224": "b"}, ["accuracy"]).loc["accuracy"]
    assert found["mean"] == pytest.approx(0.6)
    assert found["n_places"] == 2
    assert pd.isna(found["low"])
    assert pd.isna(found["high"])
    classes = several_runs.average_seeds(several_runs.list_classes(runs), ["hospital", "class"])
    by_class = several_runs.average_classes(classes, {"b224": "b"}).loc["a"]
    assert by_class["f1"] == by_class["recall"] == pytest.approx(0.6)
    assert by_class["n"] == 27


def test_folds_are_averaged_within_their_seed():
    """The spread is from seed to seed; a hospital that one fold tests is of that fold alone."""
    runs = [
        run(1, 0, {"x": one(0.2), "y": one(0.9)}), run(1, 1, {"x": one(0.4)}),
        run(2, 0, {"x": one(0.5), "y": one(0.7)}), run(2, 1, {"x": one(0.7)}),
    ]  # fmt: skip
    found = several_runs.average_seeds(several_runs.list_scores(runs), ["hospital"])
    assert found["n_seeds"].to_dict() == {"x": 2, "y": 2}
    assert found["macro_f1"].to_dict() == pytest.approx({"x": 0.45, "y": 0.8})
    assert found["macro_f1_sd"].to_dict() == pytest.approx(
        {"x": np.std([0.3, 0.6], ddof=1), "y": np.std([0.9, 0.7], ddof=1)}
    )
    shuffled = several_runs.average_seeds(several_runs.list_scores(runs[::-1]), ["hospital"])
    pd.testing.assert_frame_equal(shuffled, found)
    alone = several_runs.average_seeds(several_runs.list_scores(runs[:1]), ["hospital"])
    assert alone["macro_f1_sd"].isna().all()


def test_a_class_of_a_few_images_is_told_apart():
    """Jiangxi's one basophil moves macro F1 by a fifth; one that is not there counts nowhere."""
    classes = {"a": (5, 1.0, 0.9), "b": (4, 0.0, 0.0), "c": (30, 0.5, 0.7), "d": (0, None, None)}
    runs = [run(1, unseen={"x": (0.6, classes), "y": (0.5, {"b": (4, 0.5, 0.5)})})]
    found = several_runs.list_scores(runs).set_index("hospital")
    assert found.loc["x", "macro_f1_known"] == pytest.approx(0.8)
    assert found.loc["x", "macro_f1"] == pytest.approx(1.6 / 3)
    assert pd.isna(found.loc["y", "macro_f1_known"])
    held = several_runs.list_classes(runs)
    assert held.groupby("hospital")["class"].agg("".join).to_dict() == {"x": "abc", "y": "b"}


def test_hospitals_that_trained_are_no_unseen_ones():
    runs = [run(1, unseen={"x": one(0.2), "y": one(0.9)}, home=["y"])]
    assert several_runs.list_scores(runs)["hospital"].tolist() == ["x"]
    assert several_runs.list_classes(runs)["hospital"].tolist() == ["x"]


def test_runs_that_are_missing_are_named():
    """Of a grid of seeds and folds; without folds nothing is missing."""
    runs = [run(1, 0), run(1, 1), run(1, 2), run(2, 2), run(3, 0), run(3, 1), run(3, 2)]
    assert several_runs.list_missing(runs, 3) == [(2, 0), (2, 1)]
    assert several_runs.list_missing([run(1), run(5)], 3) == []


def test_the_spread_from_seed_to_seed_is_that_of_numpy():
    """Beside it the middle interval of one training."""
    values = [0.91, 0.95, 0.90, 0.97]
    runs = [run(seed, value=value) for seed, value in enumerate(values)]
    runs[0] = several_runs.Run("wide", 9, None, {}, summary(0.91, 0.5))
    found = several_runs.spread_seeds(runs)
    accuracy = found.loc["in domain, accuracy"]
    expected = [4, np.mean(values), np.std(values, ddof=1), 0.90, 0.97, 0.04]
    assert accuracy.tolist() == pytest.approx(expected)
    assert pd.isna(found.loc["calls without the cell", "interval"])


def test_the_worst_of_a_seed_is_the_worst_of_its_folds():
    """Their mean would be no worst; and an interval of one fold is none of all."""
    values = {(1, 0): 0.9, (1, 1): 0.5, (2, 0): 0.8, (2, 1): 0.6}
    found = several_runs.spread_seeds([run(*key, value=value) for key, value in values.items()])
    assert found.loc["worst unseen, macro F1", "mean"] == pytest.approx(0.45)
    assert found.loc["mean unseen, macro F1", "mean"] == pytest.approx(0.6)
    assert found.loc["mean unseen, macro F1", "n_seeds"] == 2
    assert found["interval"].isna().all()


def test_a_score_that_is_missing_is_of_fewer_seeds():
    """Without a seed that has it there is no row; of one seed nothing is known of others."""
    without = {"in_domain": None, "drop": None}
    several = [run(1), run(2), run(3, **without)]
    found = several_runs.spread_seeds(several)
    assert found["n_seeds"][["in domain, macro F1", "mean unseen, macro F1"]].tolist() == [2, 3]
    none = several_runs.spread_seeds([run(1, **without), run(2, **without)])
    assert "drop in macro F1" not in none.index
    assert "mean unseen, macro F1" in none.index
    alone = several_runs.spread_seeds([run(1)]).loc["in domain, accuracy"]
    assert alone[["n_seeds", "mean", "interval"]].tolist() == pytest.approx([1, 0.9, 0.04])
    assert pd.isna(alone["sd"])
    assert several_runs.spread_seeds([]).empty

import pandas as pd
import pytest

from stages.core import predictions
from stages.core.errors import ModelError, SplitError, TableError


def split():
    rows = [
        ("north/c", "north", "b", "test"),
        ("north/a", "north", "a", "train"),
        ("north/b", "north", "a", "valid"),
        ("north/d", "north", "b", "train"),
        ("north/e", "north", "b", "train"),
        ("east/z", "east", "a", "unseen"),
        ("east/y", "east", "a", "left_out"),
    ]
    return pd.DataFrame(rows, columns=["image_id", "hospital", "label", "part"])


def probabilities():
    return pd.DataFrame(
        {"a": [0.5, 0.2], "b": [0.5, 0.8]}, index=pd.Index(["north/c", "east/z"], name="image_id")
    )


def test_only_test_and_unseen_pictures_are_scored():
    chosen = predictions.choose_scored(split(), ["north", "east"])
    assert list(chosen["image_id"]) == ["east/z", "north/c"]


def test_a_hospital_that_left_the_experiment_is_not_scored():
    """Its rows may still stand in an older table."""
    chosen = predictions.choose_scored(split(), ["north"])
    assert list(chosen["image_id"]) == ["north/c"]


def test_a_hospital_without_a_test_picture_stops():
    """A missing hospital would silently leave the means."""
    with pytest.raises(SplitError, match=r"picture of west, .*raise split\.test.*taxonomy"):
        predictions.choose_scored(split(), ["north", "east", "west"])


def test_the_constant_answer_is_that_of_the_training_part_alone():
    """At home the commonest of its own training part; elsewhere of the whole training part."""
    rows = pd.DataFrame(
        [("n", "train", "a"), ("n", "train", "a"), ("n", "test", "c"), ("n", "test", "c"),
         ("n", "test", "c"), ("e", "train", "b"), ("e", "train", "b"), ("e", "train", "b"),
         ("w", "unseen", "c")],
        columns=["hospital", "part", "label"],
    )  # fmt: skip
    assert predictions.name_constants(rows, ["n", "e", "w"]) == {"n": "a", "e": "b", "w": "b"}


def test_the_constant_answer_of_a_tie_is_the_first_by_name():
    tied = split().iloc[[3, 1]].assign(part="train")
    names = predictions.name_constants(tied, ["x"])
    assert names == predictions.name_constants(tied[::-1], ["x"]) == {"x": "a"}


def test_predicted_is_the_likeliest_class_and_the_first_of_equals():
    """Rows follow the chosen pictures, not the order of the probabilities."""
    chosen = predictions.choose_scored(split(), ["north", "east"])
    table = predictions.name_predicted(chosen, probabilities(), ["a", "b"])
    assert list(table["image_id"]) == ["east/z", "north/c"]
    assert list(table["predicted"]) == ["b", "a"]
    assert list(table["label"]) == ["a", "b"]
    assert list(table["p_b"]) == [0.8, 0.5]


def test_a_picture_without_prediction_stops():
    chosen = predictions.choose_scored(split(), ["north", "east"])
    with pytest.raises(TableError, match=r"no prediction for 1 pictures: north/c.*dvc repro"):
        predictions.name_predicted(chosen, probabilities().iloc[1:], ["a", "b"])


def test_a_model_that_gives_no_number_stops():
    chosen = predictions.choose_scored(split(), ["north", "east"])
    broken = probabilities()
    broken.loc["east/z", "a"] = float("nan")
    with pytest.raises(ModelError, match=r"no number for 1 pictures: east/z.*learning_rate"):
        predictions.name_predicted(chosen, broken, ["a", "b"])


def test_confusions_are_listed_one_row_a_picture_in_a_fixed_order():
    chosen = predictions.choose_scored(split(), ["north", "east"])
    table = predictions.name_predicted(chosen, probabilities(), ["a", "b"])
    listed = predictions.list_confusions(table[::-1])
    assert listed.to_numpy().tolist() == [
        ["east", "unseen", "a", "b"],
        ["north", "test", "b", "a"],
    ]
    assert list(listed.columns) == ["hospital", "part", "actual", "predicted"]

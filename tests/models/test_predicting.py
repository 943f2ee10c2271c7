"""What a model says of pictures as a table: complete, in order, and never without a number."""

import pandas as pd
import pytest

from stages.core.errors import ModelError, TableError
from stages.core.tables import PREDICTIONS
from stages.models import predicting


def chosen():
    rows = [("east/z", "east", "unseen"), ("north/c", "north", "test")]
    return pd.DataFrame(rows, columns=["image_id", "hospital", "part"])


def probabilities():
    return pd.DataFrame(
        {"a": [0.5, 0.2], "b": [0.5, 0.8]}, index=pd.Index(["north/c", "east/z"], name="image_id")
    )


def test_predicted_is_the_likeliest_class_and_the_first_of_equals():
    """Rows follow the chosen pictures, not the order of the probabilities."""
    table = predicting.tabulate(chosen(), probabilities(), ["a", "b"])
    assert table[["image_id", "hospital", "part"]].equals(chosen())
    assert list(table["predicted"]) == ["b", "a"]
    assert list(table["p_b"]) == [0.8, 0.5]
    turned = predicting.tabulate(chosen(), probabilities(), ["b", "a"])
    assert list(turned["predicted"]) == ["b", "b"]
    assert list(turned.columns[-2:]) == ["p_b", "p_a"]


def test_no_truth_reaches_the_table():
    """Whatever stands beside the chosen pictures: only the scores know the labels."""
    table = predicting.tabulate(chosen().assign(label="a"), probabilities(), ["a", "b"])
    assert "label" not in table.columns


def test_the_table_is_one_of_predictions(tmp_path, monkeypatch):
    """Also of no picture: a hospital that only trains has a table without rows."""
    monkeypatch.chdir(tmp_path)
    for rows in (chosen(), chosen()[:0]):
        PREDICTIONS.write(predicting.tabulate(rows, probabilities(), ["a", "b"]), "north")
        assert list(PREDICTIONS.read("north")["image_id"]) == list(rows["image_id"])
        assert list(PREDICTIONS.read("north").columns[-2:]) == ["p_a", "p_b"]


def test_a_picture_without_prediction_stops():
    with pytest.raises(TableError, match=r"no prediction for 1 pictures: north/c.*dvc repro"):
        predicting.tabulate(chosen(), probabilities().iloc[1:], ["a", "b"])


def test_a_model_that_gives_no_number_stops():
    broken = probabilities()
    broken.loc["east/z", "a"] = float("nan")
    with pytest.raises(ModelError, match=r"no number for 1 pictures: east/z.*learning_rate"):
        predicting.tabulate(chosen(), broken, ["a", "b"])

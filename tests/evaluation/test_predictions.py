import itertools

import pandas as pd
import pytest

from stages.core.errors import SplitError, TableError
from stages.core.tables import PREDICTIONS
from stages.evaluation import predictions


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


def predicted(classes=("a", "b")):
    """What the model said of the two images that are scored, the test one first."""
    table = pd.DataFrame(
        {"image_id": ["north/c", "east/z"], "hospital": ["north", "east"],
         "part": ["test", "unseen"], "predicted": [classes[0], classes[1]]}
    )  # fmt: skip
    return table.assign(**{f"p_{name}": [0.5, 0.5] for name in classes})


def test_only_test_and_unseen_pictures_are_scored():
    chosen = predictions.choose_scored(split(), ["north", "east"])
    assert list(chosen["image_id"]) == ["east/z", "north/c"]


def test_a_hospital_that_left_the_experiment_is_not_scored():
    """Its rows may still stand in an older table."""
    chosen = predictions.choose_scored(split(), ["north"])
    assert list(chosen["image_id"]) == ["north/c"]


def test_a_hospital_that_neither_trains_nor_is_scored_stops():
    """A missing hospital would silently leave the means; one that is left out whole is missing."""
    with pytest.raises(SplitError, match=r"unseen image of west, .*taxonomy.*take it out"):
        predictions.choose_scored(split(), ["north", "east", "west"])
    gone = split().iloc[[0, 1, 6]]
    with pytest.raises(SplitError, match=r"unseen image of east, "):
        predictions.choose_scored(gone, ["north", "east"])


def test_a_training_hospital_may_be_without_test_images():
    """As split.method leave_hospitals_out leaves it."""
    rows = split()
    rows = rows[rows["part"] != "test"]
    chosen = predictions.choose_scored(rows, ["north", "east"])
    assert list(chosen["image_id"]) == ["east/z"]


def test_nothing_to_score_stops():
    rows = split()
    rows = rows[rows["part"].isin(["train", "valid"])]
    with pytest.raises(SplitError, match=r"no test or unseen image.*raise split\.test"):
        predictions.choose_scored(rows, ["north"])


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


def test_each_prediction_gets_its_truth():
    """In the order of the chosen images, whatever that of the tables."""
    chosen = predictions.choose_scored(split(), ["north", "east"])
    table = predictions.add_truth(predicted(), chosen)
    assert table["image_id"].tolist() == ["east/z", "north/c"]
    assert table["label"].tolist() == ["a", "b"]
    assert table["predicted"].tolist() == ["b", "a"]


def test_an_image_without_a_prediction_of_its_part_stops():
    """It would leave the scores; one more prediction than needed is of no account."""
    chosen = predictions.choose_scored(split(), ["north", "east"])
    told = r"data/predictions has no row of 1 images \(north/c\).*dvc repro"
    with pytest.raises(TableError, match=told):
        predictions.add_truth(predicted().iloc[1:], chosen)
    with pytest.raises(TableError, match=told):
        predictions.add_truth(predicted().assign(part="unseen"), chosen)
    more = pd.concat([predicted(), predicted().iloc[[0]].assign(image_id="north/new")])
    assert len(predictions.add_truth(more, chosen)) == 2


def test_tables_of_all_hospitals_are_read_by_name(tmp_path, monkeypatch):
    """Classes keep the order of the model; a hospital without images says nothing against it."""
    monkeypatch.chdir(tmp_path)
    table = predicted(("z", "a"))
    PREDICTIONS.write(table.iloc[:1], "north")
    PREDICTIONS.write(table.iloc[1:], "east")
    PREDICTIONS.write(table.iloc[:0], "home")
    found = predictions.read(["north", "home", "east"])
    assert found["image_id"].tolist() == ["east/z", "north/c"]
    assert predictions.name_classes(found) == ["z", "a"]


@pytest.mark.parametrize("classes", [("a", "c"), ("b", "a"), ("a", "b", "c")])
def test_tables_of_two_models_stop(tmp_path, monkeypatch, classes):
    """Other classes, or in another order: the same column could mean another thing."""
    monkeypatch.chdir(tmp_path)
    PREDICTIONS.write(predicted().iloc[1:], "east")
    PREDICTIONS.write(predicted(classes).iloc[:1], "north")
    told = r"north.parquet has other classes than data/predictions/east.parquet.*dvc repro"
    with pytest.raises(TableError, match=told):
        predictions.read(["north", "east"])


def test_confusions_are_listed_one_row_a_picture_in_a_fixed_order():
    chosen = predictions.choose_scored(split(), ["north", "east"])
    table = predictions.add_truth(predicted(), chosen)
    listed = predictions.list_confusions(table[::-1])
    assert listed.to_numpy().tolist() == [
        ["east", "unseen", "a", "b"],
        ["north", "test", "b", "a"],
    ]
    assert list(listed.columns) == ["hospital", "part", "actual", "predicted"]


def scored(rows):
    """Predictions of two classes; patient, truth, probability of b."""
    frame = pd.DataFrame(rows, columns=["patient", "label", "p_b"])
    frame["image_id"] = [f"jhu/{place}" for place in range(len(frame))]
    return frame.assign(hospital="jhu", part="test", p_a=1 - frame["p_b"])


def test_a_patient_is_called_by_the_mean_of_its_probabilities():
    """No vote of images would call p1 b, and the surest image of p2 does not decide alone."""
    rows = scored(
        [("p1", "b", p_b) for p_b in (0.4, 0.45, 0.99)]
        + [("p2", "a", p_b) for p_b in (0.9, 0.2, 0.2)]
    )
    table = predictions.average_patients(rows, ["a", "b"], ["hospital", "part"])
    assert list(table["patient"]) == ["p1", "p2"]
    assert list(table["predicted"]) == ["b", "a"]
    assert list(table["label"]) == ["b", "a"]
    assert list(table["n_images"]) == [3, 3]
    assert list(table["part"]) == ["test", "test"]
    assert table["is_patient"].all()


def test_an_image_without_a_patient_stands_alone():
    """Two of them are never one patient; and a patient may be called like an image."""
    rows = scored([(None, "a", 0.9), (None, "a", 0.2), ("jhu/0", "b", 0.8)])
    table = predictions.average_patients(rows, ["a", "b"], ["hospital"])
    assert len(table) == 3
    assert list(table["is_patient"]) == [False, False, True]
    assert list(table["predicted"]) == ["b", "a", "b"]


def test_patients_are_apart_within_hospital_and_official_part():
    rows = scored([("p1", "b", 0.9), ("p1", "b", 0.2), ("p1", "a", 0.9), ("p1", "b", 0.7)])
    rows["hospital"] = ["jhu", "jhu", "jhu", "munich"]
    rows["official_part"] = ["Discovery", "Discovery", None, None]
    whole = predictions.average_patients(rows, ["a", "b"], ["hospital"])
    assert whole[["hospital", "n_images", "n_labels"]].to_numpy().tolist() == [
        ["jhu", 3, 2], ["munich", 1, 1],
    ]  # fmt: skip
    by_part = predictions.average_patients(rows, ["a", "b"], ["hospital", "official_part"])
    assert by_part["n_images"].tolist() == [2, 1, 1]


def test_equally_probable_classes_give_the_first():
    rows = scored([("p1", "b", 0.25), ("p1", "b", 0.75)])
    assert list(predictions.average_patients(rows, ["a", "b"], ["hospital"])["predicted"]) == ["a"]
    assert list(predictions.average_patients(rows, ["b", "a"], ["hospital"])["predicted"]) == ["b"]


def test_the_row_order_does_not_decide_a_near_tie():
    """The sum of these four differs in its last bit with their order."""
    rows = scored([("p1", "b", 0.1), ("p1", "b", 0.8), ("p1", "b", 0.9), ("p1", "b", 0.2)])
    orders = itertools.permutations(range(4))
    tables = [
        predictions.average_patients(rows.iloc[list(order)], ["a", "b"], ["hospital"])
        for order in orders
    ]
    assert len({table["predicted"].iloc[0] for table in tables}) == 1

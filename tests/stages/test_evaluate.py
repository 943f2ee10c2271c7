import json
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from stages import evaluate
from stages.core import training
from stages.core.errors import ModelError, SplitError
from stages.core.params import HeadRecipe, InputsParams
from stages.core.tables import FEATURES, LABELS, PREDICTIONS, SPLIT
from tests.stages.cohort import write_project

CLASSES = ["basophil", "eosinophil", "monocyte"]
RECIPE = {
    "learns_from": "features",
    "hidden": [],
    "dropout": 0.0,
    "l2": 0.0,
    "learning_rate": 0.1,
    "epochs": 1,
    "batch": 8,
    "patience": 1,
    "class_weights": "none",
}
INPUTS = {
    "crop": "cell",
    "scale": "hospital",
    "half_side": 1.5,
    "white_balance": ["grey_world", "white_point"],
    "hide": "nothing",
}
# hospital, part, truth, what the stored features make the model say, patient
PICTURES = [
    *[("north", "train", "eosinophil", "eosinophil", f"t{i}") for i in range(3)],
    ("north", "train", "basophil", "basophil", "t9"),
    ("north", "valid", "basophil", "basophil", "v0"),
    *[("north", "test", "basophil", "basophil", f"p{i}") for i in range(4)],
    *[("north", "test", "eosinophil", "eosinophil", f"p{i}") for i in range(3)],
    ("north", "test", "eosinophil", "monocyte", "p3"),
    *[("east", "unseen", "eosinophil", "eosinophil", f"q{i}") for i in range(3)],
    *[("east", "unseen", "basophil", "eosinophil", f"q{i}") for i in range(3)],
    ("east", "left_out", "basophil", "basophil", "q9"),
]


@dataclass
class Softmax:
    """A model whose features are its answers, so that every score is known beforehand."""

    classes: list
    recipe: HeadRecipe
    inputs: InputsParams

    def predict(self, x):
        odds = np.exp(np.asarray(x, np.float64))
        return odds / odds.sum(axis=1, keepdims=True)


def vector(name, strength):
    return np.array([strength * (name == one) for one in CLASSES], np.float32)


def feature_rows(rows):
    """Two plain views that agree, and an augmented one that says the contrary, loudly."""
    for row in rows.itertuples():
        wrong = next(name for name in CLASSES if name != row.says)
        yield {"image_id": row.image_id, "view": "grey_world", "vector": vector(row.says, 2)}
        yield {
            "image_id": row.image_id,
            "view": "grey_world_augmented_0",
            "vector": vector(wrong, 99),
        }
        yield {"image_id": row.image_id, "view": "white_point", "vector": vector(row.says, 3)}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project folder as train leaves it, with a model of known answers."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, ("north", "east"), evaluate={"bootstrap": 200})
    frame = pd.DataFrame(PICTURES, columns=["hospital", "part", "label", "says", "patient"])
    frame["image_id"] = [f"{name}/{i:03d}.png" for i, name in enumerate(frame["hospital"])]
    frame["group"] = frame["hospital"] + "/" + frame["patient"]
    frame["twin_group"] = frame["image_id"]
    frame["left_out_reason"] = frame["part"].where(frame["part"] == "left_out", None)
    SPLIT.write(frame[SPLIT.schema.names])
    labels = frame.assign(
        published_label=frame["label"],
        cell_type=frame["label"],
        slide=None,
        unit=frame["hospital"].map({"north": "patient", "east": "slide"}),
        official_part=None,
        keep=True,
        drop_reason=None,
    )
    LABELS.write(labels[LABELS.schema.names])
    for hospital, rows in frame.groupby("hospital"):
        FEATURES.write(pd.DataFrame(list(feature_rows(rows))), str(hospital))
    answer_with(monkeypatch, CLASSES)
    return tmp_path


def answer_with(monkeypatch, classes):
    model = Softmax(classes, HeadRecipe(**RECIPE), InputsParams(**INPUTS))
    monkeypatch.setattr(training, "read_card", lambda folder: model)
    monkeypatch.setattr(training, "load", lambda folder: model)


def read_metrics(project):
    return json.loads((project / "metrics/evaluate.json").read_text())


def test_each_hospital_gets_the_scores_of_its_known_answers(project):
    """North: 7 of 8 right; east: all called eosinophil, so half is right."""
    evaluate.main()
    content = read_metrics(project)
    north, east = content["by_hospital"]["north"], content["by_hospital"]["east"]
    assert (north["part"], north["n_images"], north["n_groups"]) == ("test", 8, 4)
    assert (east["part"], east["n_images"], east["n_groups"]) == ("unseen", 6, 3)
    assert (north["unit"], east["unit"]) == ("patient", "slide")
    assert north["metrics"]["accuracy"]["value"] == 7 / 8
    assert east["metrics"]["accuracy"]["value"] == 0.5
    assert east["metrics"]["balanced_accuracy"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert east["metrics"]["macro_f1"]["value"] == pytest.approx((0 + 2 / 3) / 2, abs=1e-6)
    assert north["per_class"]["monocyte"]["recall"] is None
    assert north["n_by_class"] == {"basophil": 4, "eosinophil": 4, "monocyte": 0}
    assert content["worst_unseen"]["hospital"] == "east"
    assert content["drop"]["metrics"]["accuracy"]["value"] == 0.375


def test_baseline_calls_everything_the_commonest_training_class(project):
    """Three of four training pictures are eosinophils; the test labels are not looked at."""
    evaluate.main()
    content = read_metrics(project)
    assert content["by_hospital"]["east"]["baseline_class"] == "eosinophil"
    assert content["by_hospital"]["north"]["baseline"] == {
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "macro_f1": 0.333333,
    }


def test_predictions_hold_the_test_and_unseen_pictures_alone(project):
    """One row a scored picture, with the mean probabilities of its plain views."""
    evaluate.main()
    table = PREDICTIONS.read()
    assert set(table["part"]) == {"test", "unseen"}
    assert len(table) == 14
    assert list(table.columns[-3:]) == [f"p_{name}" for name in CLASSES]
    first = table[table["hospital"] == "north"].iloc[0]
    expected = np.mean([np.exp(k) / (np.exp(k) + 2) for k in (2, 3)])
    assert first["p_basophil"] == pytest.approx(expected)
    np.testing.assert_allclose(table.filter(like="p_").sum(axis=1), 1)


def test_plots_get_their_tables(project):
    """Confusion: one row a picture; scores: one row a hospital and class, empty where unknown."""
    evaluate.main()
    listed = pd.read_csv(project / "metrics/evaluate/confusion.csv")
    assert list(listed.columns) == ["hospital", "part", "actual", "predicted"]
    assert len(listed) == 14
    east = listed[listed["hospital"] == "east"]
    assert pd.crosstab(east["actual"], east["predicted"]).to_numpy().tolist() == [[3], [3]]
    scores = pd.read_csv(project / "metrics/evaluate/scores.csv").set_index(["hospital", "class"])
    assert scores.loc[("north", "basophil"), "f1"] == 1.0
    assert np.isnan(scores.loc[("north", "monocyte"), "f1"])
    assert scores.loc[("north", "eosinophil"), "n"] == 4


def test_the_same_input_gives_the_same_bytes(project):
    names = [
        "data/predictions.parquet",
        "metrics/evaluate.json",
        "metrics/evaluate/confusion.csv",
        "metrics/evaluate/scores.csv",
    ]
    evaluate.main()
    first = [(project / name).read_bytes() for name in names]
    evaluate.main()
    assert [(project / name).read_bytes() for name in names] == first


def test_a_hospital_without_test_pictures_stops_before_the_model_runs(project, monkeypatch):
    """Its absence from the means would go unnoticed."""
    monkeypatch.setattr(training, "predict_images", lambda *_: pytest.fail("the model ran"))
    split = SPLIT.read()
    SPLIT.write(split[split["hospital"] == "north"])
    with pytest.raises(SplitError, match=r"no test or unseen picture of east.*take it out"):
        evaluate.main()


def test_a_class_that_the_model_never_learnt_stops_before_the_model_runs(project, monkeypatch):
    monkeypatch.setattr(training, "predict_images", lambda *_: pytest.fail("the model ran"))
    answer_with(monkeypatch, ["eosinophil", "monocyte"])
    with pytest.raises(ModelError, match=r"split\.parquet holds basophil, which.*dvc repro"):
        evaluate.main()
    assert not (project / "metrics/evaluate.json").exists()

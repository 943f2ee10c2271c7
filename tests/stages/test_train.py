"""The train stage: what it writes, what it never reads, and the same bytes twice."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import train
from stages.core import examples, params, tables, training
from tests.stages.cohort import write_project

CLASSES = ["basophil", "monocyte"]
RECIPE = {
    "learns_from": "features", "hidden": [4], "dropout": 0.1, "l2": 0.0, "learning_rate": 0.01,
    "epochs": 3, "batch": 8, "patience": 2, "class_weights": "balanced",
}  # fmt: skip
PARTS = ("train", "train", "train", "valid", "test")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Two training hospitals and one that is never seen, as split and features tables."""
    monkeypatch.chdir(tmp_path)
    write_project(Path(), ("a", "b", "c"), model="small", models={"small": RECIPE})
    split = [row for hospital in "abc" for row in split_rows(hospital)]
    tables.SPLIT.write(pd.DataFrame(split))
    for hospital in "abc":
        write_features(hospital)


def split_rows(hospital):
    """Twenty pictures of two classes in all parts."""
    return [
        {
            "image_id": f"{hospital}/{n:02d}", "hospital": hospital, "label": CLASSES[n % 2],
            "group": f"{hospital}/{n:02d}", "twin_group": f"{hospital}/{n:02d}",
            "part": "unseen" if hospital == "c" else PARTS[n % 5], "left_out_reason": None,
        }
        for n in range(20)
    ]  # fmt: skip


def write_features(hospital):
    """A plain and an augmented view of each picture; the first feature tells the class."""
    rng = np.random.default_rng(ord(hospital))
    rows = [
        {
            "image_id": f"{hospital}/{n:02d}", "view": view,
            "vector": rng.normal([6 * (n % 2), 0, 0, 0]).astype(np.float32),
        }
        for n in range(20)
        for view in ("white_point", "white_point_augmented_1")
    ]  # fmt: skip
    tables.FEATURES.write(pd.DataFrame(rows), hospital)


def read_outputs():
    """Every byte that the stage wrote."""
    files = [*Path("data/model").iterdir(), Path("metrics/train.json"), train.HISTORY_FILE]
    return {str(path): path.read_bytes() for path in sorted(files)}


def test_it_writes_model_history_and_counts():
    """In equals counted; the accuracies are those of the saved weights on plain views."""
    train.main()
    content = json.loads(Path("metrics/train.json").read_text())
    assert content["n_images"] == {
        "train": {"basophil": 12, "monocyte": 12}, "valid": {"basophil": 4, "monocyte": 4},
    }  # fmt: skip
    assert content["n_rows"] == {"train": 48, "valid": 8}
    assert content["n_weights"] == 8 + 20 + 10
    history = pd.read_csv("metrics/train/history.csv")
    assert list(history.columns) == list(training.HISTORY)
    assert content["epochs_run"] == len(history)
    assert content["best_epoch"] == history["val_loss"].idxmin() + 1
    model = training.load(Path("data/model"))
    assert model.classes == CLASSES
    assert model.inputs == params.load("inputs").inputs
    split = tables.SPLIT.read().set_index("image_id")
    for part, accuracy in content["accuracy"].items():
        ids = split.index[split["part"] == part]
        rows = examples.read_features(["a", "b"], ids, plain_only=True)
        right = training.predict_images(model, rows).idxmax(axis=1) == split["label"].loc[ids]
        assert accuracy == pytest.approx(right.mean(), rel=1e-5)
    assert not list(Path("data").glob("*.tmp"))


def test_labels_of_test_and_unseen_pictures_change_no_byte():
    """The rule that only evaluate reads them: swap them, and train again."""
    train.main()
    before = read_outputs()
    split = tables.SPLIT.read()
    held_back = split["part"].isin(["test", "unseen"])
    split.loc[held_back, "label"] = split.loc[held_back, "label"].map(
        {"basophil": "monocyte", "monocyte": "a_class_of_nobody"}
    )
    tables.SPLIT.write(split)
    shutil.rmtree("data/model")
    train.main()
    assert read_outputs() == before


def test_an_empty_validation_part_is_null_not_zero():
    """split.valid may be 0: the accuracy of no picture is null."""
    split = tables.SPLIT.read()
    tables.SPLIT.write(split[split["part"] != "valid"])
    train.main()
    content = json.loads(Path("metrics/train.json").read_text())
    assert content["accuracy"]["valid"] is None
    assert "is empty" in content["accuracy"]["valid_reason"]
    assert content["best_epoch"] == content["epochs_run"] == 3
    assert content["n_images"]["valid"] == {"basophil": 0, "monocyte": 0}


def test_classes_are_those_of_the_training_part():
    """An unseen picture of another class is no class of the model: its label is never read."""
    split = tables.SPLIT.read()
    split.loc[split["hospital"] == "c", "label"] = "platelet"
    tables.SPLIT.write(split)
    train.main()
    assert training.read_card(Path("data/model")).classes == CLASSES


def test_rows_of_test_and_unseen_are_never_asked_for(monkeypatch):
    """The stage reads the parts train and valid, once, and no label of another part."""
    asked = []
    real = examples.read_split
    monkeypatch.setattr(examples, "read_split", lambda parts: asked.append(parts) or real(parts))
    train.main()
    assert asked == [["train", "valid"]]

"""The train stage: what it writes, what it never reads, and the same bytes twice."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import train
from stages.core import params, tables
from stages.core.errors import ModelError
from stages.inputs import reading
from stages.models import backbones, efficientnet_lite0, trained
from stages.training import checkpoints, fitting, steps
from tests.stages.cohort import HEAD_RECIPE, KNN_RECIPE, write_project

CLASSES = ["basophil", "monocyte"]
PARTS = ("train", "train", "train", "valid", "test")
ENSEMBLE = {"kind": "ensemble", "members": {"net": HEAD_RECIPE, "near": KNN_RECIPE}}
PARTIAL = Path("data/model.partial")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Two training hospitals and one that is never seen, as split and features tables."""
    monkeypatch.chdir(tmp_path)
    choose("small")
    split = [row for hospital in "abc" for row in split_rows(hospital)]
    tables.SPLIT.write(pd.DataFrame(split))
    for hospital in "abc":
        write_features(hospital)


def choose(name):
    """Write params.yaml with one of these recipes chosen."""
    recipes = {"small": HEAD_RECIPE, "near": KNN_RECIPE, "both": ENSEMBLE}
    write_project(Path(), ("a", "b", "c"), model=name, models=recipes)


def split_rows(hospital):
    """Twenty images of two classes in all parts."""
    return [
        {
            "image_id": f"{hospital}/{n:02d}", "hospital": hospital, "label": CLASSES[n % 2],
            "group": f"{hospital}/{n:02d}", "twin_group": f"{hospital}/{n:02d}",
            "part": "unseen" if hospital == "c" else PARTS[n % 5], "left_out_reason": None,
        }
        for n in range(20)
    ]  # fmt: skip


def write_features(hospital):
    """A plain and an augmented view of each image; the first feature tells the class."""
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
    """Every byte that the stage wrote, but how long it took."""
    files = [path for path in Path("data/model").rglob("*") if path.is_file()]
    files += [Path("metrics/train.json"), train.HISTORY_FILE]
    return {str(path): path.read_bytes() for path in sorted(files)}


def read_metrics():
    return json.loads(Path("metrics/train.json").read_text())


def test_it_writes_model_history_and_counts():
    """In equals counted; the accuracies are those of the saved weights on plain views."""
    train.main()
    content = read_metrics()
    assert sorted(content) == [
        "accuracy", "epochs_run", "n_images", "n_judged", "n_weights", "published_weights", "steps",
    ]  # fmt: skip
    assert content["n_images"] == {
        "train": {"basophil": 12, "monocyte": 12}, "valid": {"basophil": 4, "monocyte": 4},
    }  # fmt: skip
    assert content["n_weights"] == 8 + 20 + 10
    assert content["n_judged"] == {"train": 24, "valid": 8}
    assert content["published_weights"] == {}
    history = pd.read_csv("metrics/train/history.csv")
    assert list(history.columns) == list(steps.HISTORY)
    assert content["epochs_run"] == len(history)
    assert content["steps"] == [
        {"member": "model", "train": "all", "n_learning": 30, "epochs_run": len(history),
         "kept_epoch": history["val_loss"].idxmin() + 1}
    ]  # fmt: skip
    seconds = pd.read_csv("metrics/timing/train_epochs.csv")["seconds"]
    assert len(seconds) == len(history)
    assert (seconds > 0).all()
    model = trained.load(Path("data/model"))
    assert model.classes == CLASSES
    assert model.inputs == params.load("inputs").inputs
    split = tables.SPLIT.read().set_index("image_id")
    for part, accuracy in content["accuracy"].items():
        ids = split.index[split["part"] == part]
        rows = reading.read_features(["a", "b"], ids, plain_only=True)
        right = trained.predict_images(model, rows).idxmax(axis=1) == split["label"].loc[ids]
        assert accuracy == pytest.approx(right.mean(), rel=1e-5)
    assert not list(Path("data").glob("*.tmp"))


@pytest.mark.parametrize("name", ["small", "both"])
def test_labels_of_test_and_unseen_images_change_no_byte(name):
    """The rule that only evaluate reads them: swap them, and train again."""
    choose(name)
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


def test_a_killed_stage_goes_on_and_leaves_no_state(monkeypatch):
    """The state lies beside the model until that is written; then it goes."""
    real = checkpoints.Progress.save
    train.main()
    calm = read_outputs()
    assert not PARTIAL.exists()
    shutil.rmtree("data/model")

    def save_and_die(state):
        real(state)
        if len(state.history) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Progress, "save", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        train.main()
    assert (PARTIAL / checkpoints.STATE).is_file()
    assert not Path("data/model").exists()
    monkeypatch.setattr(checkpoints.Progress, "save", real)
    train.main()
    assert read_outputs() == calm
    assert not PARTIAL.exists()
    assert len(pd.read_csv("metrics/timing/train_epochs.csv")) == read_metrics()["epochs_run"] - 2


def test_accuracies_are_of_a_sample_where_there_are_many_images(monkeypatch):
    """So many images of each part are judged, whatever the recipe."""
    monkeypatch.setattr(train, "JUDGED_IMAGES", 5)
    asked = []
    real = trained.accuracy

    def listen(model, rows, labels):
        ids = rows["near"].image_ids if isinstance(rows, dict) else rows.image_ids
        asked.append(len(set(ids)))
        return real(model, rows, labels)

    monkeypatch.setattr(trained, "accuracy", listen)
    choose("both")
    train.main()
    assert asked == [5, 5]
    assert read_metrics()["n_judged"] == {"train": 5, "valid": 5}


def test_a_failed_training_leaves_the_old_model_alone(monkeypatch):
    train.main()
    before = read_outputs()

    def fail(*_, **__):
        raise ModelError("planted")

    monkeypatch.setattr(fitting, "fit", fail)
    with pytest.raises(ModelError, match="planted"):
        train.main()
    assert read_outputs() == before


def test_a_classifier_has_no_weights_and_one_epoch():
    choose("near")
    train.main()
    content = read_metrics()
    assert (content["n_weights"], content["epochs_run"]) == (0, 1)
    assert content["steps"][0]["n_learning"] == 0
    assert sorted(path.name for path in Path("data/model").iterdir()) == [
        "card.json", "classifier.npz",
    ]  # fmt: skip


def test_an_ensemble_is_told_by_member():
    choose("both")
    train.main()
    content = read_metrics()
    assert [step["member"] for step in content["steps"]] == ["near", "net"]
    assert content["n_weights"] == 38
    history = pd.read_csv("metrics/train/history.csv")
    assert history["member"].tolist() == ["near"] + ["net"] * (len(history) - 1)
    assert content["epochs_run"] == len(history)
    assert trained.read_card(Path("data/model")).recipe.kind == "ensemble"


def test_an_empty_validation_part_is_null_not_zero():
    """split.valid may be 0: the accuracy of no image is null."""
    split = tables.SPLIT.read()
    tables.SPLIT.write(split[split["part"] != "valid"])
    train.main()
    content = read_metrics()
    assert content["accuracy"]["valid"] is None
    assert "is empty" in content["accuracy"]["valid_reason"]
    assert content["steps"][0]["kept_epoch"] == content["epochs_run"] == 3
    assert content["n_images"]["valid"] == {"basophil": 0, "monocyte": 0}


def test_classes_are_those_of_the_training_part():
    """An unseen image of another class is no class of the model: its label is never read."""
    split = tables.SPLIT.read()
    split.loc[split["hospital"] == "c", "label"] = "platelet"
    tables.SPLIT.write(split)
    train.main()
    assert trained.read_card(Path("data/model")).classes == CLASSES


def test_rows_of_test_and_unseen_are_never_asked_for(monkeypatch):
    """The stage reads the parts train and valid, once, and no label of another part."""
    asked = []
    real = reading.read_split
    monkeypatch.setattr(reading, "read_split", lambda parts: asked.append(parts) or real(parts))
    train.main()
    assert asked == [["train", "valid"]]


def tiny_rows(recipe, hospitals, ids, rule, plain_only):
    """Pixels in place of decoded images: the class is the brighter half."""
    x = np.zeros((len(ids), 32, 32, 3), np.uint8)
    for row, name in enumerate(sorted(ids)):
        x[row, 16 * (int(name[-1]) % 2) :][:16] = 200
    return reading.Examples(sorted(ids), ["white_point"] * len(ids), x)


def test_published_weights_are_named(monkeypatch):
    """Lite0's file comes with the project: name and sha256 stand beside the scores."""
    recipe = {
        "kind": "network", "network": "efficientnet_lite0", "weights": "imagenet", "size": 32,
        "batch": 8, "steps": [{"train": "head", "epochs": 1, "schedule": "constant"}],
    }  # fmt: skip
    write_project(Path(), ("a", "b", "c"), model="net", models={"net": recipe})
    monkeypatch.setattr(reading, "read", tiny_rows)
    train.main()
    content = read_metrics()
    named = {"file": efficientnet_lite0.WEIGHTS.name, "sha256": efficientnet_lite0.WEIGHTS_SHA256}
    assert content["published_weights"] == {"efficientnet_lite0": named}
    assert content["steps"][0]["n_learning"] == 1280 * 2 + 2
    # What is saved holds them: frozen layers have the file's numbers.
    published = backbones.build("efficientnet_lite0", 32, "imagenet", None)
    network = trained.load(Path("data/model")).network
    for layer in published.layers:
        for ours, theirs in zip(
            network.get_layer(layer.name).get_weights(), layer.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)

"""The train stage: what it writes, what it never reads, and the same bytes twice."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import train
from stages.core import params, tables
from stages.core.errors import ModelError, TableError
from stages.inputs import reading
from stages.models import backbones, efficientnet_lite0, recipes, rows, trained
from stages.training import checkpoints, fitting, steps
from tests.stages.cohort import KNN_RECIPE, write_project

CLASSES = ["basophil", "monocyte"]
PARTS = ("train", "train", "train", "valid")
NET_RECIPE = {
    "kind": "network", "network": "lenet", "size": 32, "batch": 8,
    "steps": {"all": {"epochs": 3, "schedule": "constant"}},
}  # fmt: skip
RECIPES = {
    "small": NET_RECIPE, "near": KNN_RECIPE,
    "both": {"kind": "ensemble", "members": ["near", "small"]},
}  # fmt: skip
PARTIAL = Path("data/model.partial")
N_WEIGHTS = 30 * (75 + 1) + 16 * (270 + 1) + 128 * (576 + 1) + 2 * 129


def write_cohort(folder):
    """What gather and recipe leave of two hospitals: nothing else is there to be read."""
    write_project(folder, ("a", "b", "c"))
    shutil.rmtree(folder / "data")
    tables.TRAINING.write(training_rows())


def training_rows():
    """Sixteen small images a hospital; the brighter half tells the class."""
    ids = [f"{hospital}/{n:02d}" for hospital in "ab" for n in range(16)]
    numbers = [int(image_id[2:]) for image_id in ids]
    frame = pd.DataFrame(
        {
            "image_id": ids, "hospital": [image_id[0] for image_id in ids],
            "label": [CLASSES[n % 2] for n in numbers], "group": ids, "twin_group": ids,
            "part": [PARTS[n // 4] for n in numbers],
            "bytes": [encode(place) for place in range(len(ids))],
        }
    )  # fmt: skip
    return frame.assign(
        centre_x=None, centre_y=None, radius=None, white_r=255.0, white_g=255.0, white_b=255.0,
        cell_mask=None,
    )  # fmt: skip


def encode(number):
    pixels = np.random.default_rng(number).integers(0, 90, (32, 32, 3), np.uint8)
    pixels[16 * (number % 2) :][:16] += 120
    return cv2.imencode(".png", pixels)[1].tobytes()


def choose(name, models=RECIPES):
    """Write data/recipe.json as the stage of that name would."""
    features = params.load("features").features
    recipes.write(recipes.choose(name, models, features), train.RECIPE)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """A project after a training of the small network."""
    folder = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMEARFLOW_WORKERS", "1")
        patch.chdir(folder)
        write_cohort(folder)
        choose("small")
        train.main()
    return folder


@pytest.fixture(autouse=True)
def project(calm, tmp_path, monkeypatch):
    """A copy of it, with the neighbours chosen and nothing trained."""
    shutil.copytree(calm, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    shutil.rmtree("data/model")
    shutil.rmtree("metrics")
    choose("near")
    return tmp_path


def read_outputs():
    """Every byte that the stage wrote, but how long it took."""
    files = [path for path in Path("data/model").rglob("*") if path.is_file()]
    files += [Path("metrics/train.json"), train.HISTORY_FILE]
    return {str(path): path.read_bytes() for path in sorted(files)}


def read_metrics():
    return json.loads(Path("metrics/train.json").read_text())


def test_it_writes_model_history_and_counts(calm, monkeypatch):
    """In equals counted; the accuracies are those of the saved weights on plain views."""
    monkeypatch.chdir(calm)
    content = read_metrics()
    assert sorted(content) == [
        "accuracy", "epochs_run", "n_images", "n_judged", "n_weights", "published_weights", "steps",
    ]  # fmt: skip
    assert content["n_images"] == {
        "train": {"basophil": 12, "monocyte": 12}, "valid": {"basophil": 4, "monocyte": 4},
    }  # fmt: skip
    assert content["n_weights"] == N_WEIGHTS
    assert content["n_judged"] == {"train": 24, "valid": 8}
    assert content["published_weights"] == {}
    history = pd.read_csv("metrics/train/history.csv")
    assert list(history.columns) == list(steps.HISTORY)
    assert content["epochs_run"] == len(history) == 3
    assert content["steps"] == [
        {"member": "model", "train": "all", "n_learning": N_WEIGHTS, "epochs_run": 3,
         "kept_epoch": 3}
    ]  # fmt: skip
    seconds = pd.read_csv("metrics/timing/train_epochs.csv")["seconds"]
    assert len(seconds) == len(history)
    assert (seconds > 0).all()
    model = trained.load(Path("data/model"))
    assert model.classes == CLASSES
    assert model.inputs == params.load("inputs").inputs
    labels = training_rows().set_index("image_id")["label"]
    for part, accuracy in content["accuracy"].items():
        examples = reading.read_pixels(reading.stream_training(part), model.inputs, 32)
        called = trained.predict_images(model, examples).idxmax(axis=1)
        assert accuracy == pytest.approx((called == labels[called.index]).mean(), rel=1e-5)
    assert not list(Path("data").glob("*.tmp"))


def test_nothing_but_what_gather_and_recipe_wrote_is_there(calm):
    """So that no label of a test image can be read, and another hospital trains nothing."""
    names = {str(path.relative_to(calm)) for path in (calm / "data").rglob("*") if path.is_file()}
    model = {name for name in names if name.startswith("data/model/")}
    assert names - model == {"data/recipe.json", "data/training/pictures.parquet"}


def test_a_killed_stage_goes_on_and_leaves_no_state(calm, project, monkeypatch):
    """The state lies beside the model until that is written; the bytes are those of a calm run."""
    choose("small")
    real = checkpoints.Progress.save

    def save_and_die(state):
        real(state)
        if len(state.history) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Progress, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            train.main()
    assert (PARTIAL / checkpoints.STATE).is_file()
    assert not Path("data/model").exists()
    train.main()
    assert not PARTIAL.exists()
    assert len(pd.read_csv("metrics/timing/train_epochs.csv")) == read_metrics()["epochs_run"] - 2
    ours = read_outputs()
    monkeypatch.chdir(calm)
    assert ours == read_outputs()


def test_neighbours_give_the_same_bytes_twice():
    """And the inputs of another run, or what it left, change nothing."""
    train.main()
    before = read_outputs()
    train.main()
    assert read_outputs() == before


def test_accuracies_are_of_a_sample_where_there_are_many_images(monkeypatch):
    """So many images of each part are judged."""
    monkeypatch.setattr(train, "JUDGED_IMAGES", 5)
    asked = []
    real = trained.accuracy

    def listen(model, examples, labels):
        asked.append(len(set(examples.image_ids)))
        return real(model, examples, labels)

    monkeypatch.setattr(trained, "accuracy", listen)
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
    train.main()
    content = read_metrics()
    assert (content["n_weights"], content["epochs_run"]) == (0, 1)
    assert content["steps"][0]["n_learning"] == 0
    assert sorted(path.name for path in Path("data/model").iterdir()) == [
        "card.json", "classifier.npz",
    ]  # fmt: skip


def test_an_ensemble_is_told_by_member(monkeypatch):
    """Of each member steps and epochs, of all together the weights; a sample judges them too."""
    monkeypatch.setattr(train, "JUDGED_IMAGES", 6)
    choose("both")
    train.main()
    content = read_metrics()
    assert [step["member"] for step in content["steps"]] == ["near", "small"]
    assert content["n_weights"] == N_WEIGHTS
    assert content["n_judged"] == {"train": 6, "valid": 6}
    history = pd.read_csv("metrics/train/history.csv")
    assert history["member"].tolist() == ["near"] + ["small"] * (len(history) - 1)
    assert content["epochs_run"] == len(history)
    assert trained.read_card(Path("data/model")).recipe.kind == "ensemble"


def test_an_empty_validation_part_is_null_not_zero():
    """split.valid may be 0: the accuracy of no image is null."""
    images = training_rows()
    tables.TRAINING.write(images[images["part"] != "valid"])
    train.main()
    content = read_metrics()
    assert content["accuracy"]["valid"] is None
    assert "is empty" in content["accuracy"]["valid_reason"]
    assert content["n_images"]["valid"] == {"basophil": 0, "monocyte": 0}


def test_classes_are_those_of_the_training_part():
    """A class that validation alone has cannot be learnt; it stops before hours of training."""
    train.main()
    assert trained.read_card(Path("data/model")).classes == CLASSES
    images = training_rows()
    images.loc[images["part"] == "valid", "label"] = "platelet"
    tables.TRAINING.write(images)
    with pytest.raises(ModelError, match="platelet"):
        train.main()


def test_rows_to_learn_from_and_rows_that_judge_are_asked_for_once(monkeypatch):
    """Only the rows to learn from are augmented."""
    asked = []
    real = rows.read

    def listen(recipe, stream, rule, plain_only):
        asked.append((stream.args, plain_only))
        return real(recipe, stream, rule, plain_only)

    monkeypatch.setattr(rows, "read", listen)
    train.main()
    assert asked == [(("train",), False), (("valid",), True)]


@pytest.mark.parametrize(
    ("gone", "error"),
    [("data/recipe.json", ModelError), ("data/training/pictures.parquet", TableError)],
)
def test_what_is_missing_is_named(gone, error):
    Path(gone).unlink()
    with pytest.raises(error, match=rf"{gone} is missing.*dvc repro"):
        train.main()
    assert not Path("data/model").exists()


def test_published_weights_are_named():
    """Lite0's file comes with the project: name and sha256 stand beside the scores."""
    wanted = {"backbone": "efficientnet_lite0", "size": 32, "layers": ["block2"]}
    frozen = KNN_RECIPE | {"vectors": "features", "features": wanted}
    choose("frozen", {"frozen": frozen})
    train.main()
    content = read_metrics()
    named = {"file": efficientnet_lite0.WEIGHTS.name, "sha256": efficientnet_lite0.WEIGHTS_SHA256}
    assert content["published_weights"] == {"efficientnet_lite0": named}
    # What is saved holds them: the layers have the file's numbers.
    published = backbones.load_extractor("efficientnet_lite0", 32, ["block2"], None)
    ours = trained.collect(trained.load(Path("data/model")).network)
    theirs = trained.collect(published)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        np.testing.assert_array_equal(ours[name], weight)

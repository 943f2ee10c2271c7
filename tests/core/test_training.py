"""Training: the same twice, the best epoch kept, saved without pickles, and clear errors."""

import json
import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import training
from stages.core.errors import ModelError
from stages.core.params import HeadRecipe, InputsParams, PixelRecipe

CLASSES = ["basophil", "eosinophil", "monocyte"]
INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["white_point"], hide="nothing"
)


def make_recipe(**changes):
    """A head that learns in a second."""
    content = {
        "learns_from": "features", "hidden": [8], "dropout": 0.1, "l2": 1e-4,
        "learning_rate": 0.01, "epochs": 6, "batch": 16, "patience": 3,
        "class_weights": "balanced",
    }  # fmt: skip
    return HeadRecipe(**(content | changes))


def make_rows(n_rows, seed=0, hospital="munich", n_views=1):
    """Rows whose class shows in the first three of five features, in a muddle of classes."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(rng.permutation(np.arange(n_rows // n_views) % 3), n_views)
    x = rng.normal(size=(len(codes), 5)).astype(np.float32)
    x[np.arange(len(codes)), codes] += 4
    ids = [f"{hospital}/{row // n_views:04d}.jpg" for row in range(len(codes))]
    return SimpleNamespace(image_ids=ids, x=x), [CLASSES[code] for code in codes]


def no_rows():
    """A part without pictures."""
    return SimpleNamespace(image_ids=[], x=np.zeros((0, 0), np.float32)), []


def fit(recipe, train=None, valid=None, classes=CLASSES, seed=5):
    """Train on the made rows."""
    return training.fit(
        recipe, *(train or make_rows(120)), *(valid or make_rows(40, 1)), classes, INPUTS, seed
    )


@pytest.fixture(scope="module")
def trained():
    """One model and its history."""
    return fit(make_recipe())


def test_it_learns_and_tells_each_epoch(trained):
    """Rows that can be told apart are told apart; the history has a row for each epoch."""
    model, history = trained
    rows, labels = make_rows(60, 2)
    assert list(history.columns) == list(training.HISTORY)
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]
    predicted = training.predict_images(model, rows).idxmax(axis=1)
    assert (predicted.to_numpy() == labels).mean() > 0.9


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(trained, tmp_path):
    """Training twice writes twice the same files."""
    again, history = fit(make_recipe())
    training.save(trained[0], tmp_path / "one")
    training.save(again, tmp_path / "two")
    for name in (training.CARD, training.WEIGHTS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    pd.testing.assert_frame_equal(history, trained[1])
    _, other = fit(make_recipe(epochs=1), seed=6)
    assert other["loss"][0] != history["loss"][0]


def test_a_loaded_model_answers_as_the_saved_one(trained, tmp_path):
    """Folder and back: classes, recipe, inputs and every probability."""
    training.save(trained[0], tmp_path / "model")
    loaded = training.load(tmp_path / "model")
    rows, _ = make_rows(70, 3)
    assert (loaded.classes, loaded.recipe, loaded.inputs) == (CLASSES, make_recipe(), INPUTS)
    np.testing.assert_array_equal(loaded.predict(rows.x), trained[0].predict(rows.x))


def test_a_lone_picture_gets_the_answer_it_gets_among_others(trained):
    """What a picture is does not depend on its neighbours in a batch."""
    rows, _ = make_rows(training.PREDICT_BATCH + 7, 4)
    together = trained[0].predict(rows.x)
    np.testing.assert_allclose(together.sum(axis=1), 1.0, rtol=1e-12)
    assert together.dtype == np.float64
    for row in (0, 5, training.PREDICT_BATCH + 6):
        np.testing.assert_allclose(
            trained[0].predict(rows.x[row : row + 1])[0], together[row], atol=1e-7
        )


def test_a_picture_is_the_mean_of_its_views(trained):
    """Views are averaged by picture, and pictures come sorted."""
    rows, labels = make_rows(30, 5, n_views=3)
    answers = training.predict_images(trained[0], rows)
    expected = trained[0].predict(rows.x).reshape(10, 3, 3).mean(axis=1)
    assert answers.index.tolist() == sorted(set(rows.image_ids))
    assert answers.columns.tolist() == CLASSES
    np.testing.assert_allclose(answers, expected, rtol=1e-12)
    truth = pd.Series(labels, rows.image_ids).groupby(level=0).first()
    share = training.accuracy(trained[0], rows, truth)
    assert share == np.mean([CLASSES[i] for i in expected.argmax(axis=1)] == truth)
    assert training.accuracy(trained[0], no_rows()[0], truth) is None


def test_the_kept_weights_are_those_of_the_best_epoch_not_the_last():
    """Labels at war with the training part: the loss of validation rises, epoch 1 is kept."""
    rows, labels = make_rows(40, 1)
    wrong = [CLASSES[(CLASSES.index(name) + 1) % 3] for name in labels]
    recipe = make_recipe(epochs=20, patience=2, l2=0.0)
    model, history = fit(recipe, valid=(rows, wrong))
    assert history["val_loss"].is_monotonic_increasing
    assert training.best_epoch(history) == 1
    assert history["learning_rate"].tolist() == pytest.approx([0.01] * 3 + [0.001] * 2)
    first, _ = fit(recipe.model_copy(update={"epochs": 1}), valid=(rows, wrong))
    np.testing.assert_array_equal(model.predict(rows.x), first.predict(rows.x))


def test_without_validation_all_epochs_run_and_it_is_said(caplog):
    """No picture to validate on is allowed, because split.valid may be 0."""
    with caplog.at_level(logging.INFO):
        _, history = fit(make_recipe(epochs=2, patience=1), valid=no_rows())
    assert len(history) == 2
    assert history[["val_loss", "val_accuracy"]].isna().all(axis=None)
    assert training.best_epoch(history) == 2
    assert "no picture to validate on; running all 2 epochs" in caplog.text


@given(st.lists(st.sampled_from(CLASSES), max_size=200))
def test_balanced_weights_give_every_class_the_same_share(labels):
    """The weights of the rows of each class sum to N / n_classes; their mean is 1."""
    labels = labels + CLASSES
    weights = training.class_weights(labels, CLASSES, "balanced")
    for name in CLASSES:
        assert weights[name] * labels.count(name) == pytest.approx(len(labels) / len(CLASSES))
    assert set(training.class_weights(labels, CLASSES, "none").values()) == {1.0}


def test_balanced_weights_are_those_of_earlier_work_but_for_its_factor():
    """Barcelona's counts: the published weights times 2/11 (they used the two-class formula)."""
    counts = {
        "BA": 903, "BNE": 1212, "EO": 2349, "ERB": 1162, "LY": 944, "MMY": 734, "MO": 1068,
        "MY": 833, "PLT": 1739, "PMY": 460, "SNE": 1263,
    }  # fmt: skip
    labels = [name for name, count in counts.items() for _ in range(count)]
    weights = training.class_weights(labels, list(counts), "balanced")
    published = {
        "BA": 7.0138, "BNE": 5.2257, "EO": 2.6963, "ERB": 5.4505, "LY": 6.7092, "MMY": 8.6287,
        "MO": 5.9302, "MY": 7.6032, "PLT": 3.6420, "PMY": 13.7685, "SNE": 5.0146,
    }  # fmt: skip
    assert len(labels) == 12_667
    assert {name: weight * 11 / 2 for name, weight in weights.items()} == pytest.approx(
        published, abs=5.1e-5
    )


def test_pixels_are_learnt_from_a_file_on_disk(tmp_path):
    """A network on uint8 pixels of a memory map: red, green and blue are told apart."""
    codes = np.arange(36) % 3
    shape = (36, 32, 32, 3)
    pixels = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=shape)
    pixels[np.arange(36), :, :, codes] = 200
    rows = SimpleNamespace(image_ids=[f"munich/{n:02d}" for n in range(36)], x=pixels)
    labels = [CLASSES[code] for code in codes]
    recipe = PixelRecipe(
        learns_from="pixels", network="lenet", size=32, learning_rate=0.003, epochs=4, batch=12,
        patience=4, class_weights="none",
    )  # fmt: skip
    model, _ = fit(recipe, (rows, labels), (rows, labels))
    training.save(model, tmp_path / "model")
    answers = training.predict_images(training.load(tmp_path / "model"), rows)
    assert (answers.idxmax(axis=1).to_numpy() == labels).all()


def test_a_class_without_training_rows_is_named_with_hospitals_and_way_out():
    """The class, the hospitals that were asked, and what to change."""
    with pytest.raises(
        ModelError, match=r"class 'platelet' has no image.*hospitals: munich.*split"
    ):
        fit(make_recipe(), classes=[*CLASSES, "platelet"])
    with pytest.raises(ModelError, match=r"class 'basophil' has no image.*hospitals: none"):
        fit(make_recipe(), train=no_rows())


def test_a_label_that_is_no_class_is_named():
    """Split and harmonise out of step are found before anything is learnt."""
    with pytest.raises(ModelError, match=r"no class: monocyte. Classes: basophil, eosinophil"):
        fit(make_recipe(), classes=CLASSES[:2])


def test_one_class_is_nothing_to_learn():
    """A classifier of one class is always right and of no use."""
    rows, _ = make_rows(9)
    with pytest.raises(ModelError, match=r"nothing to tell apart.*\[basophil\]"):
        fit(make_recipe(), (rows, ["basophil"] * 9), no_rows(), ["basophil"])


def test_a_loss_that_is_no_number_names_epoch_and_way_out():
    """A value of infinity in training ends with one line."""
    rows, labels = make_rows(30)
    rows.x *= np.float32(1e18)
    with pytest.raises(ModelError, match=r"no longer a number in epoch 1.*learning_rate"):
        fit(make_recipe(learning_rate=1.0, l2=1e38), (rows, labels))


def test_a_missing_or_strange_model_folder_names_the_way_out(trained, tmp_path):
    """A model that is not there, of another shape, or of no card."""
    with pytest.raises(ModelError, match=r"card.json is missing.*dvc repro"):
        training.load(tmp_path / "nothing")
    training.save(trained[0], tmp_path / "model")
    card = json.loads((tmp_path / "model" / training.CARD).read_text())
    card["recipe"]["hidden"] = [9]
    (tmp_path / "model" / training.CARD).write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"model is not a model that this version wrote.*repro"):
        training.load(tmp_path / "model")


def test_a_model_file_that_holds_a_pickle_is_refused(trained, tmp_path):
    """Loading a model from a stranger never runs anything."""
    training.save(trained[0], tmp_path / "model")
    with np.load(tmp_path / "model" / training.WEIGHTS) as arrays:
        content = dict(arrays) | {"hidden_1/kernel": np.array([{}], dtype=object)}
    np.savez(tmp_path / "model" / training.WEIGHTS, allow_pickle=True, **content)
    with pytest.raises(ModelError, match=r"not a model that this version wrote \(.*pickle"):
        training.load(tmp_path / "model")

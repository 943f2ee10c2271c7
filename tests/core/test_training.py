"""Training: what learns, what is kept, the same bytes after any kill, and clear errors."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import (
    backbones,
    combining,
    errors,
    feeding,
    frameworks,
    models,
    networks,
    progress,
    training,
)
from stages.core.errors import ModelError
from stages.core.examples import Examples, plain
from stages.core.params import (
    Augmentation,
    CascadeRecipe,
    ClassifierRecipe,
    ClassifierSettings,
    EnsembleRecipe,
    HeadRecipe,
    InputsParams,
    NetworkRecipe,
    Step,
)
from tests.core.test_networks import made_base

CLASSES = ["basophil", "eosinophil", "monocyte"]
INPUTS = InputsParams(
    crop="cell", scale="hospital", half_side=1.5, white_balance=["white_point"], hide="nothing"
)
SIDE = 16
MADE = "vgg19"  # the recipe's name of the small backbone of test_networks


def make_head(**changes):
    """A head that learns in a second."""
    content = {
        "kind": "head", "hidden": [8], "dropout": 0.1, "l2": 1e-4, "learning_rate": 0.01,
        "epochs": 6, "batch": 16, "patience": 3, "class_weights": "balanced",
    }  # fmt: skip
    return HeadRecipe(**(content | changes))


def make_network(*steps, **changes):
    """A small backbone with a linear head, unless told otherwise."""
    content = {
        "kind": "network", "network": MADE, "size": 32, "weights": "imagenet", "dropout": 0.2,
        "batch": 8, "steps": list(steps) or [Step(epochs=2, schedule="constant")],
    }  # fmt: skip
    return NetworkRecipe(**(content | changes))


@pytest.fixture
def small_base(monkeypatch):
    """Put the small backbone in place of the published ones."""
    monkeypatch.setattr(backbones, "build", made_base)


def make_rows(n_rows, seed=0, hospital="munich", n_views=1):
    """Features whose first three of five tell the class, in a muddle of classes."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(rng.permutation(np.arange(n_rows // n_views) % 3), n_views)
    x = rng.normal(size=(len(codes), 5)).astype(np.float32)
    x[np.arange(len(codes)), codes] += 4
    ids = [f"{hospital}/{seed}_{row // n_views:04d}.jpg" for row in range(len(codes))]
    views = [f"{'augmented_' if row % n_views else ''}{row % n_views}" for row in range(len(codes))]
    return Examples(ids, views, x), codes


def make_pixels(n_rows, seed=0, hospital="munich", margin=0):
    """Noisy images whose class is their brightest channel."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(n_rows) % 3)
    side = SIDE + 2 * margin
    x = rng.integers(0, 120, (n_rows, side, side, 3), dtype=np.uint8)
    x[np.arange(n_rows), :, :, codes] += 100
    ids = [f"{hospital}/{seed}_{row:04d}.jpg" for row in range(n_rows)]
    return Examples(ids, ["white_point"] * n_rows, x, margin), codes


def no_rows(like):
    """A part without images."""
    return Examples([], [], like.x[:0], like.margin)


def labels_of(*parts, classes=CLASSES):
    """Class by image of (rows, codes)."""
    return pd.Series(
        {name: classes[code] for rows, codes in parts
         for name, code in zip(rows.image_ids, codes, strict=True)}, dtype=object,
    )  # fmt: skip


def fit(recipe, train=None, valid=None, labels=None, classes=CLASSES, seed=5, partial=None):
    """Train on made rows of the recipe's kind."""
    make = make_rows if isinstance(recipe, HeadRecipe) else make_pixels
    margin = {} if isinstance(recipe, HeadRecipe) else {
        "margin": 4 * (not getattr(recipe, "augment", Augmentation()).is_empty)
    }  # fmt: skip
    train = train or make(60, **margin)
    valid = valid or make(24, 1)
    labels = labels if labels is not None else labels_of(train, valid)
    return training.fit(recipe, train[0], valid[0], labels, classes, INPUTS, seed, partial=partial)


def saved(model, folder):
    """Every byte of a saved model."""
    models.save(model, folder)
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*")) if path.is_file()
    }  # fmt: skip


def weights_of(model):
    return models.collect(model.network)


def spy(monkeypatch, module, name, note):
    """Let `note` see the arguments and the answer of each call of a function."""
    real = getattr(module, name)

    def call(*arguments, **named):
        answer = real(*arguments, **named)
        note(arguments, answer)
        return answer

    monkeypatch.setattr(module, name, call)


def weights_by_epoch(monkeypatch):
    """Collect the network's weights at the end of each epoch."""
    seen = []
    real = training._callbacks

    def callbacks(job, network, model, *others):
        keras = frameworks.load_keras()
        after = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda *_: seen.append(models.collect(network))
        )
        return [*real(job, network, model, *others), after]

    monkeypatch.setattr(training, "_callbacks", callbacks)
    return seen


# -- a head on features ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """A head, its history and its steps."""
    return fit(make_head(), make_rows(120), make_rows(40, 1))


def test_it_learns_and_tells_each_epoch(trained):
    """Rows that can be told apart are told apart; the history has a row for each epoch."""
    rows, codes = make_rows(60, 2)
    history = trained.history
    assert list(history.columns) == list(training.HISTORY)
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))
    assert set(history["member"]) == {"model"}
    assert set(history["step"]) == {1}
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]
    assert len(trained.seconds) == len(history)
    predicted = models.predict_images(trained.model, rows).idxmax(axis=1)
    assert (predicted.to_numpy() == np.array(CLASSES)[codes]).mean() > 0.9


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(trained, tmp_path):
    """Training twice writes twice the same files."""
    again = fit(make_head(), make_rows(120), make_rows(40, 1))
    assert saved(trained.model, tmp_path / "one") == saved(again.model, tmp_path / "two")
    pd.testing.assert_frame_equal(again.history, trained.history)
    other = fit(make_head(epochs=1), make_rows(120), make_rows(40, 1), seed=6)
    assert other.history["loss"][0] != again.history["loss"][0]


def wrong_labels(train, valid):
    """Labels of validation at war with those of training: its loss rises from the start."""
    return labels_of(train, (valid[0], (valid[1] + 1) % 3))


def test_plateau_keeps_the_best_epoch(trained, tmp_path):
    """The loss of validation rises, so epoch 1 is kept; the rate falls, and training ends."""
    train, valid = make_rows(120), make_rows(40, 1)
    recipe = make_head(epochs=20, patience=2, l2=0.0)
    found = fit(recipe, train, valid, wrong_labels(train, valid))
    assert found.history["val_loss"].is_monotonic_increasing
    assert found.history["learning_rate"].tolist() == pytest.approx([0.01] * 3 + [0.001] * 2)
    assert found.steps == [
        {"member": "model", "train": "all", "n_learning": 75, "epochs_run": 5, "kept_epoch": 1}
    ]
    first = fit(recipe.model_copy(update={"epochs": 1}), train, valid, wrong_labels(train, valid))
    for name, weight in weights_of(first.model).items():
        np.testing.assert_array_equal(weights_of(found.model)[name], weight)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_other_schedules_keep_the_last_epoch(small_base, monkeypatch, schedule):
    """All epochs are run, though the loss of validation rises."""
    seen = weights_by_epoch(monkeypatch)
    train, valid = make_pixels(48), make_pixels(12, 1)
    recipe = make_network(Step(epochs=5, schedule=schedule, learning_rate=0.05))
    found = fit(recipe, train, valid, wrong_labels(train, valid))
    assert len(seen) == len(found.history) == 5
    assert found.history["val_loss"].idxmin() < 4
    assert found.steps[0]["kept_epoch"] == 5
    for name, weight in weights_of(found.model).items():
        np.testing.assert_array_equal(seen[-1][name], weight)
    rates = found.history["learning_rate"].to_numpy()
    if schedule == "constant":
        np.testing.assert_allclose(rates, 0.05, rtol=1e-6)
    else:  # 30 updates, 3 of them to warm up, then half a cosine down to 0
        places = (np.arange(6, 31, 6) - 3) / 27
        np.testing.assert_allclose(rates, 0.025 * (1 + np.cos(np.pi * places)), atol=1e-6)


def test_validation_accuracy_can_be_watched(small_base, monkeypatch):
    """The best accuracy is kept where the best loss is another epoch; ties keep the first."""
    told = iter([(0.9, 0.5), (0.8, 0.7), (0.7, 0.7), (0.6, 0.6), (0.5, 0.6), (0.4, 0.6)])
    keras = frameworks.load_keras()

    class Liar(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"], logs["val_accuracy"] = next(told)

    real = training._callbacks
    monkeypatch.setattr(training, "_callbacks", lambda *given: [Liar(), *real(*given)])
    seen = weights_by_epoch(monkeypatch)
    step = Step(epochs=9, monitor="val_accuracy", patience=2, stop_patience=3, factor=0.5)
    found = fit(make_network(step))
    assert found.steps[0]["kept_epoch"] == 2
    assert found.steps[0]["epochs_run"] == 5
    assert found.history["learning_rate"].tolist() == pytest.approx([1e-3] * 4 + [5e-4])
    for name, weight in weights_of(found.model).items():
        np.testing.assert_array_equal(seen[1][name], weight)


def test_without_validation_all_epochs_run_and_it_is_said(caplog):
    """No image to validate on is allowed, because split.valid may be 0."""
    train = make_rows(60)
    with caplog.at_level(logging.INFO):
        found = fit(make_head(epochs=3, patience=1), train, (no_rows(train[0]), []))
    assert len(found.history) == 3
    assert found.history[["val_loss", "val_accuracy"]].isna().all(axis=None)
    assert found.history["learning_rate"].tolist() == pytest.approx([0.01] * 3)
    assert found.steps[0]["kept_epoch"] == 3
    assert "no image to validate on; running all epochs" in caplog.text


# -- weights of classes ----------------------------------------------------------------------------

BARCELONA = {
    "BA": 903, "BNE": 1212, "EO": 2349, "ERB": 1162, "LY": 944, "MMY": 734, "MO": 1068,
    "MY": 833, "PLT": 1739, "PMY": 460, "SNE": 1263,
}  # fmt: skip
PUBLISHED = {
    "BA": 7.0138, "BNE": 5.2257, "EO": 2.6963, "ERB": 5.4505, "LY": 6.7092, "MMY": 8.6287,
    "MO": 5.9302, "MY": 7.6032, "PLT": 3.6420, "PMY": 13.7685, "SNE": 5.0146,
}  # fmt: skip


def test_binary_weights_are_the_published_ones():
    """Barcelona's counts of training, and the eleven numbers that both projects used."""
    labels = [name for name, count in BARCELONA.items() for _ in range(count)]
    assert len(labels) == 12_667
    weights = training.class_weights(labels, list(BARCELONA), "binary")
    assert weights == pytest.approx(PUBLISHED, abs=5.1e-5)
    balanced = training.class_weights(labels, list(BARCELONA), "balanced")
    assert {name: weight * 11 / 2 for name, weight in balanced.items()} == pytest.approx(weights)


@given(st.lists(st.sampled_from(CLASSES), max_size=200))
def test_weights_of_classes_by_their_definitions(labels):
    """Balanced: every class the same share. Root: their roots. Both: a mean of 1 over the rows."""
    labels = labels + CLASSES
    found = {
        method: training.class_weights(labels, CLASSES, method)
        for method in ("none", "balanced", "sqrt")
    }
    for name in CLASSES:
        share = found["balanced"][name] * labels.count(name)
        assert share == pytest.approx(len(labels) / len(CLASSES))
        ratio = (found["sqrt"][name] / found["sqrt"][CLASSES[0]]) ** 2
        assert ratio == pytest.approx(labels.count(CLASSES[0]) / labels.count(name))
    for method in ("balanced", "sqrt"):
        assert np.mean([found[method][name] for name in labels]) == pytest.approx(1)
    assert set(found["none"].values()) == {1.0}


def test_weights_of_rows_and_smoothing_are_in_the_loss(small_base):
    """A linear head starts with equal chances: the first loss of one batch is known."""
    codes = np.array([0] * 9 + [1] * 2 + [2])
    rows = make_pixels(12)[0]
    step = Step(train="head", epochs=1, schedule="constant", learning_rate=1e-6)
    settings = {"batch": 12, "dropout": 0.0, "class_weights": "binary"}
    found = fit(make_network(step, **settings), (rows, codes), (rows, codes))
    for name in ("loss", "val_loss"):  # 3/2 is the mean of the weights of N / (2 n_c)
        assert found.history[name][0] == pytest.approx(1.5 * np.log(3), rel=1e-4)
    confident = make_network(
        Step(train="head", epochs=60, schedule="constant", learning_rate=0.3), batch=12,
        dropout=0.0, label_smoothing=0.3,
    )  # fmt: skip
    pixels = make_pixels(12)
    smooth = fit(confident, pixels, pixels)
    targets = 0.7 * np.eye(3) + 0.1
    floor = -(targets[0] * np.log(targets[0])).sum()
    assert smooth.history["loss"].min() == pytest.approx(floor, rel=0.08)
    assert smooth.history["loss"].min() >= floor


# -- steps -----------------------------------------------------------------------------------------


def test_steps_follow_one_another(small_base, monkeypatch):
    """Head, then block 2, then all: own rates and counts; what is frozen keeps every bit."""
    seen = weights_by_epoch(monkeypatch)
    started = []
    spy(monkeypatch, networks, "build", lambda _, net: started.append(models.collect(net)))
    steps = [
        Step(train="head", learning_rate=0.01, epochs=2, schedule="constant"),
        Step(train="block2", learning_rate=0.002, epochs=1, schedule="constant"),
        Step(train="all", learning_rate=0.0005, epochs=2, schedule="constant"),
    ]
    found = fit(make_network(*steps))
    head, block1, block2 = 5 * 3 + 3, 27 * 4 + 4, 36 * 5 + 5
    assert found.steps == [
        {"member": "model", "train": train, "n_learning": n, "epochs_run": k, "kept_epoch": k}
        for train, n, k in (
            ("head", head, 2), ("block2", head + block2, 1), ("all", head + block2 + block1, 2),
        )
    ]  # fmt: skip
    history = found.history
    assert history[["step", "epoch"]].to_numpy().tolist() == [
        [1, 1],
        [1, 2],
        [2, 1],
        [3, 1],
        [3, 2],
    ]
    assert history["learning_rate"].tolist() == pytest.approx([0.01] * 2 + [0.002] + [0.0005] * 2)
    before = started[0]
    learnt = [
        {"classifier"}, {"classifier"}, {"classifier", "block2_conv"},
        *[{"classifier", "block2_conv", "block1_conv"}] * 2,
    ]  # fmt: skip
    for after, expected in zip(seen, learnt, strict=True):
        changed = {name for name in after if after[name].tobytes() != before[name].tobytes()}
        assert {name.split("/")[0] for name in changed} == expected  # no block*_norm among them
        before = after
    for name, weight in weights_of(found.model).items():
        np.testing.assert_array_equal(seen[-1][name], weight)


def test_statistics_of_normalisations_follow_only_without_published_weights(
    small_base, monkeypatch
):
    seen = weights_by_epoch(monkeypatch)
    fit(make_network(Step(epochs=1, schedule="constant"), weights="none"))
    assert (seen[0]["block1_norm/moving_mean"] != 0).any()
    assert (seen[0]["block1_norm/gamma"] != 1).any()
    fit(make_network(Step(epochs=1, schedule="constant"), norms=["input"]))
    assert (seen[1]["block1_norm/moving_mean"] == 0).all()
    assert (seen[1]["classifier_norm/moving_mean"] != 0).any()


def test_averaged_weights_are_the_exponential_mean_of_all_updates(
    small_base, monkeypatch, tmp_path
):
    """Recomputed from the weights after each update; they are what is kept and saved."""
    keras = frameworks.load_keras()
    updates = []
    real = training._callbacks

    def callbacks(job, network, model, *others):
        listen = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: updates.append(
                {w.path: w.numpy() for w in network.trainable_weights}
            ),
        )
        return [*real(job, network, model, *others), listen]

    monkeypatch.setattr(training, "_callbacks", callbacks)
    momentum, pixels = 0.8, make_pixels(12)
    recipe = make_network(
        Step(epochs=6, schedule="constant", learning_rate=0.02), batch=12, average=momentum
    )
    found = fit(recipe, pixels, pixels)
    assert len(updates) == 6
    for weight in found.model.network.trainable_weights:
        mean = updates[0][weight.path]  # Keras starts the mean with the first updated weights
        for update in updates[1:]:
            mean = momentum * mean + (1 - momentum) * update[weight.path]
        np.testing.assert_allclose(weight.numpy(), mean, atol=2e-6)
        assert np.abs(mean - updates[-1][weight.path]).max() > 1e-3
    models.save(found.model, tmp_path / "model")
    answers = models.load(tmp_path / "model").predict(pixels[0].x)
    np.testing.assert_array_equal(answers, found.model.predict(pixels[0].x))
    truth = np.log(answers[np.arange(12), pixels[1]])
    assert found.history["val_loss"].iloc[-1] == pytest.approx(-truth.mean(), rel=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "nadam", "adagrad", "adamax"])
def test_optimisers_get_their_settings(name):
    """The class of that name, with decay, clipping and averaging."""
    keras = frameworks.load_keras()
    recipe = make_network(
        Step(learning_rate=0.003), optimiser=name, weight_decay=0.02, clip_norm=0.7, average=0.9
    )
    job = training._Job(recipe, CLASSES, INPUTS, 1, progress.Progress(None, ""))
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    training._compile(job, network, recipe.steps[0], 10)
    found = network.optimizer
    assert type(found).__name__.lower() == name
    assert (found.weight_decay, found.global_clipnorm) == (0.02, 0.7)
    assert (found.use_ema, found.ema_momentum) == (True, 0.9)
    assert float(found.learning_rate.numpy()) == pytest.approx(0.003)


# -- what is fed -----------------------------------------------------------------------------------


def listen_to_orders(monkeypatch):
    """Remember (epoch, order) of all rows that training drew."""
    orders = []
    spy(
        monkeypatch, feeding, "draw_order",
        lambda given, order: orders.append((given[3], np.array(order))),
    )  # fmt: skip
    return orders


@pytest.mark.parametrize("views", [0, 3])
def test_balanced_sampling_and_an_order_for_each_epoch(small_base, monkeypatch, views):
    """Every class as often, though one has most rows; epochs are counted from 0, none is lost."""
    orders = listen_to_orders(monkeypatch)
    rows, _ = make_pixels(24, margin=4)
    codes = np.array([0] * 18 + [1] * 4 + [2] * 2)
    recipe = make_network(
        Step(train="head", epochs=3, schedule="constant"), sampling="balanced", views=views,
        augment=Augmentation(flips=True, noise=1.0),
    )  # fmt: skip
    fit(recipe, (rows, codes), (rows, codes), labels_of((rows, codes)))
    assert [epoch for epoch, _ in orders] == [0, 1, 2]
    for _, order in orders:
        assert np.bincount(codes[order]).tolist() == [8, 8, 8]


def test_frozen_layers_run_once_over_the_stored_views(small_base, monkeypatch):
    """Three views of 20 images and one of 12 go through the trunk; an epoch has 20 rows."""
    asked, fed = [], []
    spy(monkeypatch, models, "answer", lambda given, _: asked.append(np.array(given[1])))
    spy(monkeypatch, training, "_feed", lambda given, data: fed.append((given[0], given[1], data)))
    train, valid = make_pixels(20, margin=4), make_pixels(12, 1)
    recipe = make_network(
        Step(train="head", epochs=4, schedule="constant"), views=3,
        augment=Augmentation(flips=True, noise=1.0),
    )  # fmt: skip
    found = fit(recipe, train, valid)
    pixels = np.concatenate(asked)
    assert len(pixels) == 3 * 20 + 12
    np.testing.assert_array_equal(pixels[:20], plain(train[0]).x)  # view 0 is the plain one
    np.testing.assert_array_equal(pixels[60:], valid[0].x)
    assert (pixels[20:40] != pixels[:20]).any(axis=(1, 2, 3)).all()
    assert (pixels[20:40] != pixels[40:60]).any(axis=(1, 2, 3)).all()
    # Hand-made features: the published layers of a network that was not trained on.
    keras = frameworks.load_keras()
    trunk = keras.Model(found.model.network.input, found.model.network.get_layer("average").output)
    (stored, part, data), (judged, _, _) = fed
    by_hand = trunk.predict(pixels, verbose=0)
    np.testing.assert_allclose(
        stored, by_hand[:60].reshape(3, 20, 5).swapaxes(0, 1), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(judged, by_hand[60:, None], rtol=1e-5, atol=1e-6)
    drawn = []
    for _ in range(12):
        values, targets, _ = (np.concatenate(one) for one in zip(
            *[[part.numpy() for part in batch] for batch in data], strict=True))  # fmt: skip
        assert values.shape == (20, 5)
        match = (stored[None] == values[:, None, None]).all(axis=3).any(axis=2)
        rows = match.argmax(axis=1)
        assert sorted(rows) == list(range(20))
        np.testing.assert_array_equal(targets, part.targets[rows])
        drawn += [int((stored[row] == value).all(axis=1).argmax())
                  for row, value in zip(rows, values, strict=True)]  # fmt: skip
    assert np.bincount(drawn).min() > 40  # of 240: each of the three views about 80 times


def test_images_that_are_not_changed_are_stored_too(small_base, monkeypatch):
    """Every view would be the same: frozen layers run once, whatever `views` says."""
    asked = []
    spy(monkeypatch, models, "answer", lambda given, _: asked.append(len(given[1])))
    fit(make_network(Step(train="head", epochs=3, schedule="constant")))
    assert sum(asked) == 60 + 24
    asked.clear()
    fit(make_network(Step(train="all", epochs=1, schedule="constant")))
    assert asked == []


def test_stored_and_fresh_views_learn_the_same_from_plain_images(small_base):
    """Where images stay as they are and nothing is dropped, storing changes the speed alone."""
    step = Step(train="block2", epochs=2, schedule="constant", learning_rate=0.01)
    train = make_pixels(60)
    stored = fit(make_network(step, dropout=0.0), train)
    # Brightness 1 to 1 changes nothing, but is no empty augmentation.
    fresh = fit(make_network(step, dropout=0.0, augment=Augmentation(brightness=[1.0, 1.0])), train)
    for name, weight in weights_of(stored.model).items():
        np.testing.assert_allclose(weights_of(fresh.model)[name], weight, atol=1e-5)


def test_networks_from_scratch_learn_from_a_file_on_disk(tmp_path):
    """A network on uint8 pixels of a memory map: red, green and blue are told apart."""
    rows, codes = make_pixels(36)
    pixels = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=rows.x.shape)
    pixels[:] = rows.x
    rows = Examples(rows.image_ids, rows.views, pixels)
    recipe = make_network(
        Step(learning_rate=0.003, epochs=6), network="plain_cnn", weights="none", hidden=[8]
    )
    found = fit(recipe, (rows, codes), (rows, codes))
    assert models.accuracy(found.model, rows, labels_of((rows, codes))) == 1.0


# -- what is no plain network ----------------------------------------------------------------------


def test_a_classifier_learns_the_first_hidden_layer(small_base, monkeypatch):
    """The SVM gets the trained network's numbers of the plain images, and gives the answers."""
    given = []
    spy(monkeypatch, training.classifiers, "fit", lambda one, _: given.append(one))
    train = make_pixels(36, margin=4)
    recipe = make_network(
        Step(epochs=2, schedule="constant"), hidden=[6], augment=Augmentation(flips=True),
        then=ClassifierSettings(classifier="svm", folds=2, c=[0.1, 1.0]),
    )  # fmt: skip
    found = fit(recipe, train)
    settings, x, names, classes, seed = given[0]
    assert (settings, classes, seed) == (recipe.then, CLASSES, 5)
    assert list(names) == [CLASSES[code] for code in train[1]]
    hidden = networks.first_hidden(found.model.network)
    np.testing.assert_allclose(x, hidden.predict(plain(train[0]).x, verbose=0), atol=1e-5)
    test = make_pixels(9, 3)[0].x
    expected = found.model.classifier.predict(models.answer(hidden, test))
    np.testing.assert_allclose(found.model.predict(test), expected, rtol=1e-12)


@pytest.mark.parametrize("vectors", ["features", "grey"])
def test_a_classifier_alone(vectors):
    """Plain views alone are learnt; loss and accuracy are those of its own probabilities."""
    recipe = ClassifierRecipe(kind="classifier", vectors=vectors, size=SIDE, classifier="knn")
    if vectors == "features":
        train, valid = make_rows(90, n_views=3), make_rows(24, 1)
    else:
        train, valid = make_pixels(30), make_pixels(24, 1)
        for rows, codes in (train, valid):  # grey level tells the class
            rows.x[:] = (rows.x * 0.1 + 80 * codes[:, None, None, None]).astype(np.uint8)
    found = fit(recipe, train, valid)
    assert found.model.network is None
    assert found.model.n_weights == 0
    assert found.steps == [
        {"member": "model", "train": "all", "n_learning": 0, "epochs_run": 1, "kept_epoch": 1}
    ]
    row = found.history.iloc[0]
    given = found.model.predict(valid[0].x)[np.arange(24), valid[1]]
    assert row["val_loss"] == pytest.approx(-np.log(np.clip(given, 1e-7, None)).mean())
    assert row["val_accuracy"] == np.mean(
        found.model.predict(valid[0].x).argmax(axis=1) == valid[1]
    ) > 0.9  # fmt: skip
    assert found.model.classifier.arrays["codes"].shape == (30,)


def test_a_classifier_without_validation():
    train = make_rows(30)
    recipe = ClassifierRecipe(kind="classifier", vectors="features", classifier="knn")
    empty = Examples([], [], np.zeros((0, 0), np.float32))  # as read_features gives it
    found = fit(recipe, train, (empty, []))
    assert np.isnan(found.history["val_loss"][0])
    assert models.accuracy(found.model, empty, labels_of(train)) is None


FIVE = ["band", "blast", "lymphocyte", "monocyte", "segmented"]
GROUPS = {"neutrophil": ["band", "segmented"]}


def make_five(n_rows, seed=0, **_):
    """Features of five classes."""
    rng = np.random.default_rng(seed)
    codes = np.arange(n_rows) % 5
    x = (rng.normal(size=(n_rows, 5)) + 3 * np.eye(5)[codes]).astype(np.float32)
    ids = [f"munich/{seed}_{row:04d}.jpg" for row in range(n_rows)]
    return Examples(ids, ["white_point"] * n_rows, x), codes


def by_member(rows, names=("first", "second")):
    return dict.fromkeys(names, rows)


def test_a_cascade_end_to_end(tmp_path):
    """First: coarse classes; second: the group's and others; joined as computed by hand."""
    near = ClassifierRecipe(kind="classifier", vectors="features", classifier="knn")
    recipe = CascadeRecipe(
        kind="cascade",
        groups=GROUPS,
        first=make_head(hidden=[], epochs=4, learning_rate=0.1),
        second=near,
    )
    train, valid, test = (make_five(n, seed) for n, seed in ((100, 0), (25, 1), (50, 2)))
    labels = labels_of(train, valid, test, classes=FIVE)
    found = training.fit(recipe, by_member(train[0]), by_member(valid[0]), labels, FIVE, INPUTS, 5)
    first, second = found.model.members["first"], found.model.members["second"]
    assert first.classes == ["blast", "lymphocyte", "monocyte", "neutrophil"]
    assert second.classes == ["band", "others", "segmented"]
    assert found.history["member"].tolist() == ["first"] * 4 + ["second"]
    assert [step["member"] for step in found.steps] == ["first", "second"]
    assert len(found.seconds) == 5
    coarse, fine = first.predict(test[0].x), second.predict(test[0].x)
    answers = models.predict_images(found.model, by_member(test[0]))
    told = []
    for one, two in zip(coarse, fine, strict=True):
        said = first.classes[one.argmax()]
        if said == "neutrophil":
            asked = second.classes[two.argmax()]
            said = asked if asked != "others" else ("band", "segmented")[two[[0, 2]].argmax()]
        told.append(said)
    assert answers.idxmax(axis=1).tolist() == told
    assert {"band", "segmented", "blast"} < set(told)
    assert models.accuracy(found.model, by_member(test[0]), labels) > 0.75
    files = saved(found.model, tmp_path / "model")
    assert sorted(files) == [
        "card.json", "first/card.json", "first/weights.npz", "second/card.json",
        "second/classifier.npz",
    ]  # fmt: skip
    back = models.predict_images(models.load(tmp_path / "model"), by_member(test[0]))
    pd.testing.assert_frame_equal(back, answers)
    assert found.model.n_weights == first.n_weights == 10 + 5 * 4 + 4
    # A member does not depend on who is trained beside it.
    names = combining.merge(list(labels), GROUPS)
    alone = training.fit(
        recipe.first, train[0], valid[0], pd.Series(names, labels.index), first.classes, INPUTS,
        training.seed_for(5, "first"),
    )  # fmt: skip
    np.testing.assert_array_equal(alone.model.predict(test[0].x), coarse)


def test_a_cascade_that_does_not_fit_the_classes_is_refused():
    recipe = CascadeRecipe(
        kind="cascade", groups={"x": ["band", "stab"]}, first=make_head(), second=make_head()
    )
    rows, codes = make_five(20)
    with pytest.raises(ModelError, match=r"does not have: stab\. Classes: band, blast"):
        training.fit(
            recipe, by_member(rows), by_member(rows), labels_of((rows, codes), classes=FIVE), FIVE,
            INPUTS, 5,
        )  # fmt: skip


def test_an_ensemble_end_to_end(tmp_path):
    """The plain mean of a network on features, and neighbours."""
    neighbours = ClassifierRecipe(kind="classifier", vectors="features", classifier="knn")
    members = {"net": make_head(hidden=[], epochs=3), "near": neighbours}
    recipe = EnsembleRecipe(kind="ensemble", members=members)
    train, valid, test = make_rows(60), make_rows(24, 1), make_rows(30, 2)
    found = training.fit(
        recipe, by_member(train[0], members), by_member(valid[0], members),
        labels_of(train, valid), CLASSES, INPUTS, 5, partial=tmp_path / "partial",
    )  # fmt: skip
    answers = models.predict_images(found.model, by_member(test[0], members))
    both = [found.model.members[name].predict(test[0].x) for name in members]
    np.testing.assert_allclose(answers, np.mean(both, axis=0), rtol=1e-12)
    assert np.abs(both[0] - both[1]).max() > 0.05
    assert found.history["member"].tolist() == ["net"] * 3 + ["near"]
    assert [path.name for path in (tmp_path / "partial").iterdir()] == ["net"]


# -- killed and taken up again ---------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL, after the state of some epoch was written."""


def train_with_kills(monkeypatch, recipe, partial, kills, **given):
    """Train; after each number of written states in `kills` be killed, and start again."""
    real = progress.Progress.save
    for n_states in kills:
        left = [n_states]

        def save(state, left=left):
            real(state)
            left[0] -= 1
            if not left[0]:
                raise Killed

        monkeypatch.setattr(progress.Progress, "save", save)
        with pytest.raises(Killed):
            fit(recipe, partial=partial, **given)
    monkeypatch.setattr(progress.Progress, "save", real)
    return fit(recipe, partial=partial, **given)


def war():
    """Parts whose labels are at war, so that a plateau comes soon."""
    train, valid = make_rows(60), make_rows(24, 1)
    return {"train": train, "valid": valid, "labels": wrong_labels(train, valid)}


def resumable():
    """Recipes with their rows, and after which epochs they are killed."""
    cosine = Step(train="block2", epochs=3, schedule="cosine", learning_rate=0.01)
    two = [Step(train="head", epochs=3, patience=1, stop_patience=2, learning_rate=0.05), cosine]
    strong = Augmentation(flips=True, noise=0.5, rotation=180)
    averaged = {"average": 0.7, "optimiser": "adamw", "hidden": [4], "sampling": "balanced"}
    head = make_head(epochs=20, patience=2, dropout=0.4, hidden=[8, 6])
    return {
        # It runs five epochs: the rate falls after the third, the stop comes after the fifth.
        "plateau, killed before the fall": (head, [2], war),
        "plateau, killed after the fall, and when it had ended": (head, [3, 2], war),
        "stored views, two steps, killed in both and between": (
            make_network(*two, views=2, augment=strong, **averaged), [1, 2, 1, 2], dict,
        ),
        "fresh views, killed twice": (
            make_network(cosine, augment=strong, **averaged, norms=["hidden"]), [1, 1], dict,
        ),
        "all layers, from scratch": (
            make_network(
                Step(epochs=3, learning_rate=0.01, patience=1, stop_patience=3), weights="none",
                dropout=0.5,
            ),
            [2], dict,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", list(resumable()))
def test_a_killed_training_gives_the_bytes_of_a_calm_one(small_base, monkeypatch, tmp_path, case):
    recipe, kills, given = resumable()[case]
    calm = fit(recipe, partial=tmp_path / "calm", **given())
    files = saved(calm.model, tmp_path / "one")
    epochs = len(calm.history)
    assert epochs >= sum(kills)
    resumed = train_with_kills(monkeypatch, recipe, tmp_path / "killed", kills, **given())
    assert saved(resumed.model, tmp_path / "two") == files
    pd.testing.assert_frame_equal(resumed.history, calm.history, check_exact=True)
    assert resumed.steps == calm.steps
    assert len(resumed.seconds) == epochs - sum(kills)
    if recipe.kind == "head":
        rates = calm.history["learning_rate"].tolist()
        assert rates == pytest.approx([0.01] * 3 + [0.001] * 2)
        assert calm.steps[0]["kept_epoch"] == 1


def test_a_finished_training_is_not_run_again(small_base, monkeypatch, tmp_path):
    """Killed between its last epoch and the stage's end: only what was kept is read."""
    step = Step(train="head", epochs=2, schedule="constant")
    recipe = make_network(step, step)
    first = fit(recipe, partial=tmp_path / "state")
    monkeypatch.setattr(models, "answer", lambda *_: pytest.fail("the trunk ran"))
    again = fit(recipe, partial=tmp_path / "state")
    assert again.seconds == []
    assert saved(again.model, tmp_path / "one") == saved(first.model, tmp_path / "two")


def epochs_run(recipe, partial, **given):
    return len(fit(recipe, partial=partial, **given).seconds)


def test_the_state_of_another_training_is_not_taken_up(tmp_path, monkeypatch):
    """Other settings, seed, labels or code: the epoch is run again; the same: it is not."""
    recipe, state = make_head(epochs=1), tmp_path / "state"
    valid = make_rows(24, 1)
    assert epochs_run(recipe, state) == 1
    assert epochs_run(recipe, state) == 0
    assert epochs_run(make_head(epochs=1, dropout=0.2), state) == 1
    assert epochs_run(make_head(epochs=1, dropout=0.2), state, seed=6) == 1
    assert epochs_run(recipe, state) == 1
    assert epochs_run(recipe, state, valid=(valid[0], np.roll(valid[1], 1))) == 1
    assert epochs_run(recipe, state) == 1
    (tmp_path / "code").mkdir()
    (tmp_path / "code/training.py").write_text("# another version")
    monkeypatch.setattr(progress, "__file__", str(tmp_path / "code/progress.py"))
    assert epochs_run(recipe, state) == 1


def test_a_damaged_state_is_not_taken_up(tmp_path):
    """What else can be damaged is in test_progress."""
    recipe, state = make_head(epochs=1), tmp_path / "state"
    fit(recipe, partial=state)
    path = state / progress.ARRAYS
    path.write_bytes(path.read_bytes()[:-50])
    assert epochs_run(recipe, state) == 1


CHILD = """
import sys
from pathlib import Path
from stages.core import backbones
from tests.core import test_training as tests
backbones.build = tests.made_base
tests.fit(tests.long_recipe(), partial=Path(sys.argv[1]))
"""


def long_recipe():
    """Two steps of many short epochs, with all that has a state of its own."""
    return make_network(
        Step(train="head", epochs=3, schedule="constant", learning_rate=0.02),
        Step(train="all", epochs=14, schedule="cosine", learning_rate=0.01),
        optimiser="adamw", average=0.9, dropout=0.3, augment=Augmentation(flips=True, noise=0.5),
    )  # fmt: skip


def test_a_training_killed_for_real_goes_on(small_base, tmp_path):
    """SIGKILL to a process in the middle of step 2; another ends with the bytes of a calm run."""
    root = Path(__file__).resolve().parents[2]
    partial = tmp_path / "state"
    environment = os.environ | {"PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with (tmp_path / "said").open("wb") as said:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(partial)], env=environment, stderr=said
        )
        while child.poll() is None and n_epochs_of(partial) < 5:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL, (tmp_path / "said").read_text()
    reached = n_epochs_of(partial)
    assert 5 <= reached < 17
    resumed = fit(long_recipe(), partial=partial)
    assert len(resumed.seconds) == 17 - reached
    calm = fit(long_recipe())
    assert saved(resumed.model, tmp_path / "one") == saved(calm.model, tmp_path / "two")
    pd.testing.assert_frame_equal(resumed.history, calm.history, check_exact=True)


def n_epochs_of(partial):
    """Read the state while another process writes it."""
    try:
        return len(json.loads((partial / progress.STATE).read_text())["history"])
    except FileNotFoundError:
        return 0


# -- clear errors ----------------------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_epoch_and_way_out(small_base, tmp_path):
    """A rate far too large; the weights until then are kept, and fit the network."""
    recipe = make_network(
        Step(epochs=1, schedule="constant"),
        Step(epochs=30, schedule="constant", learning_rate=1.0),
        optimiser="sgd", weight_decay=1e6, weights="none", hidden=[8],
    )  # fmt: skip
    state = tmp_path / "state"
    with pytest.raises(ModelError) as caught:
        fit(recipe, partial=state)
    text = str(caught.value)
    assert "\n" not in text
    assert "the loss is no longer a number in epoch 1 of step 2." in text
    assert f"until epoch 1 of step 1 are kept in {state} (arrays kept/... of state.npz)" in text
    assert "Lower the recipe's learning_rate in params.yaml" in text
    network = networks.build(recipe, (SIDE, SIDE, 3), 3)
    with np.load(state / progress.ARRAYS, allow_pickle=False) as arrays:
        kept = {name.removeprefix("kept/"): arrays[name] for name in arrays.files
                if name.startswith("kept/")}  # fmt: skip
    models.fill(network, kept)
    calm = fit(make_network(Step(epochs=1, schedule="constant"), optimiser="sgd", weight_decay=1e6,
                            weights="none", hidden=[8]))  # fmt: skip
    for name, weight in models.collect(network).items():
        np.testing.assert_array_equal(weight, weights_of(calm.model)[name])


def endless_base(name, size, weights, weights_dir):
    """A backbone whose one map of a batch takes more than any computer can address."""
    keras = frameworks.load_keras()
    layers = keras.layers
    pixels = keras.Input((size, size, 3), name="pixels")
    x = layers.Conv2D(16, 3, padding="same", name="block1_conv")(pixels)
    x = layers.ZeroPadding2D(2**19, name="block1_pad")(x)
    return keras.Model(pixels, layers.GlobalAveragePooling2D(name="average")(x), name=name)


def test_a_batch_that_does_not_fit_into_memory_names_the_way_out(monkeypatch, capsys, tmp_path):
    """TensorFlow's own allocator refuses; the command ends with exit code 1 and one line."""
    monkeypatch.setattr(backbones, "build", endless_base)
    monkeypatch.setattr(sys, "argv", ["stages/train.py"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        errors.run_stage(lambda: fit(make_network(Step(epochs=1, schedule="constant"))))
    assert ended.value.code == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train:")
               and "no image" not in line]  # fmt: skip
    assert line.startswith("train: a batch of 8 does not fit into memory. Lower the recipe's batch")


class NoRoom:
    """Rows that cannot be read for want of memory."""

    def __init__(self, x):
        self.x, self.shape, self.dtype, self.ndim = x, x.shape, x.dtype, x.ndim
        self.left = 20

    def __len__(self):
        return len(self.x)

    def __getitem__(self, place):
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        return self.x[place]


@pytest.mark.parametrize("network", ["lenet", MADE])
def test_rows_that_do_not_fit_into_memory_are_told_too(small_base, network):
    rows, codes = make_pixels(36)
    rows = Examples(rows.image_ids, rows.views, NoRoom(rows.x))
    step = Step(train="all" if network == "lenet" else "head", epochs=1, schedule="constant")
    weights = "none" if network == "lenet" else "imagenet"
    with pytest.raises(ModelError, match=r"batch of 8 does not fit into memory.*Lower"):
        fit(make_network(step, network=network, weights=weights), (rows, codes))


def test_a_class_without_training_rows_is_named_with_hospitals_and_way_out():
    """The class, the hospitals that were asked, and what to change."""
    with pytest.raises(
        ModelError, match=r"class 'platelet' has no image.*hospitals: munich.*split"
    ):
        fit(make_head(), classes=[*CLASSES, "platelet"])
    train = make_rows(3)
    with pytest.raises(ModelError, match=r"class 'basophil' has no image.*hospitals: none"):
        fit(make_head(), (no_rows(train[0]), []))


def test_a_label_that_is_no_class_is_named():
    """Split and harmonise out of step are found before anything is learnt."""
    with pytest.raises(ModelError, match=r"no class: monocyte. Classes: basophil, eosinophil"):
        fit(make_head(), classes=CLASSES[:2])


@pytest.mark.parametrize("kind", ["head", "classifier"])
def test_one_class_is_nothing_to_learn(kind):
    """A classifier of one class is always right and of no use."""
    rows, _ = make_rows(9)
    recipe = make_head()
    if kind == "classifier":
        recipe = ClassifierRecipe(kind="classifier", vectors="features", classifier="knn")
    with pytest.raises(ModelError, match=r"nothing to tell apart.*\[basophil\]"):
        fit(recipe, (rows, np.zeros(9, int)), (no_rows(rows), []), classes=["basophil"])


def test_a_layer_that_is_not_there_is_named(small_base):
    with pytest.raises(ModelError, match=r"no layer or block 'block3'\. Did you mean 'block"):
        fit(make_network(Step(train="block3")))

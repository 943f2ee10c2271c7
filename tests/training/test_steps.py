"""Steps of a training: what learns, at which rate, what is fed, what is kept, clear errors."""

import os
import sys
import tempfile
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from stages.core import backend, errors
from stages.core.errors import ModelError
from stages.inputs.augmentation import Augmentation
from stages.inputs.reading import Examples, plain
from stages.models import backbones, networks, trained
from stages.models.recipes import Step
from stages.training import batches, checkpoints, steps
from tests.made.made_training import (
    CLASSES,
    INPUTS,
    MADE,
    SIDE,
    fit,
    labels_of,
    make_frozen,
    make_network,
    make_pixels,
    spy,
    weights_by_epoch,
    weights_of,
    wrong_labels,
)

pytestmark = [
    pytest.mark.usefixtures("at_once"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning"),
]


def test_plateau_keeps_the_best_epoch(small_base):
    """The loss of validation rises, so epoch 1 is kept; the rate falls, and training ends."""
    train, valid = make_pixels(36), make_pixels(24, 1)
    labels = wrong_labels(train, valid)
    found = fit(make_frozen(epochs=20, patience=2), train, valid, labels)
    assert found.history["val_loss"].is_monotonic_increasing
    assert found.history["learning_rate"].tolist() == pytest.approx([0.05] * 3 + [0.005] * 2)
    head = 5 * 8 + 8 + 8 * 3 + 3
    assert found.steps == [
        {"member": "model", "train": "head", "n_learning": head, "epochs_run": 5, "kept_epoch": 1}
    ]
    first = fit(make_frozen(epochs=1, patience=2), train, valid, labels)
    for name, weight in weights_of(first.model).items():
        np.testing.assert_array_equal(weights_of(found.model)[name], weight)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_other_schedules_keep_the_last_epoch(small_base, monkeypatch, schedule):
    """All epochs are run, though the loss of validation rises."""
    seen = weights_by_epoch(monkeypatch)
    train, valid = make_pixels(24), make_pixels(12, 1)
    recipe = make_network(Step(epochs=5, schedule=schedule, learning_rate=0.05), batch=4)
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
    keras = backend.load_keras()

    class Liar(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"], logs["val_accuracy"] = next(told)

    real = steps._callbacks
    monkeypatch.setattr(steps, "_callbacks", lambda *given: [Liar(), *real(*given)])
    seen = weights_by_epoch(monkeypatch)
    step = Step(epochs=9, monitor="val_accuracy", patience=2, stop_patience=3, factor=0.5)
    found = fit(make_network(step))
    assert found.steps[0]["kept_epoch"] == 2
    assert found.steps[0]["epochs_run"] == 5
    assert found.history["learning_rate"].tolist() == pytest.approx([1e-3] * 4 + [5e-4])
    for name, weight in weights_of(found.model).items():
        np.testing.assert_array_equal(seen[1][name], weight)


def test_steps_follow_one_another(small_base, monkeypatch):
    """Head, then block 2, then all: own rates and counts; what is frozen keeps every bit."""
    seen = weights_by_epoch(monkeypatch)
    started = []
    spy(monkeypatch, networks, "build", lambda _, net: started.append(trained.collect(net)))
    stretches = [
        Step(train="head", learning_rate=0.01, epochs=2, schedule="constant"),
        Step(train="block2", learning_rate=0.002, epochs=1, schedule="constant"),
        Step(train="all", learning_rate=0.0005, epochs=2, schedule="constant"),
    ]
    found = fit(make_network(*stretches))
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
    keras = backend.load_keras()
    updates = []
    real = steps._callbacks

    def callbacks(job, network, model, *others):
        listen = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: updates.append(
                {w.path: w.numpy() for w in network.trainable_weights}
            ),
        )
        return [*real(job, network, model, *others), listen]

    monkeypatch.setattr(steps, "_callbacks", callbacks)
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
    trained.save(found.model, tmp_path / "model")
    answers = trained.load(tmp_path / "model").predict(pixels[0].x)
    np.testing.assert_array_equal(answers, found.model.predict(pixels[0].x))
    truth = np.log(answers[np.arange(12), pixels[1]])
    assert found.history["val_loss"].iloc[-1] == pytest.approx(-truth.mean(), rel=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "nadam", "adagrad", "adamax"])
def test_optimisers_get_their_settings(name):
    """The class of that name, with decay, clipping and averaging."""
    keras = backend.load_keras()
    recipe = make_network(
        Step(learning_rate=0.003), optimiser=name, weight_decay=0.02, clip_norm=0.7, average=0.9
    )
    job = steps.Job(recipe, CLASSES, INPUTS, 1, checkpoints.Progress(None, ""))
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    steps._compile(job, network, recipe.steps[0], 10)
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
        monkeypatch, batches, "draw_order",
        lambda given, order: orders.append((given[4], np.array(order))),
    )  # fmt: skip
    return orders


@pytest.mark.parametrize("views", [0, 3])
def test_balanced_sampling_and_an_order_for_each_epoch(small_base, monkeypatch, views):
    """Every class and hospital as often, though one has most rows; epochs go from 0, none is lost.

    Images and stored answers alike know which hospital a row is of.
    """
    orders = listen_to_orders(monkeypatch)
    rows, _ = make_pixels(24, margin=4)
    rows = replace(rows, image_ids=[f"h{row % 6 > 4}/{row}" for row in range(24)])
    codes = np.array([0] * 18 + [1] * 4 + [2] * 2)
    recipe = make_network(
        Step(train="head", epochs=3, schedule="constant"), sampling="balanced_by_hospital",
        views=views,
        augment=Augmentation(flips=True, noise=1.0),
    )  # fmt: skip
    fit(recipe, (rows, codes), (rows, codes), labels_of((rows, codes)))
    assert [epoch for epoch, _ in orders] == [0, 1, 2]
    for _, order in orders:
        assert np.bincount(codes[order]).tolist() == [8, 8, 8]
        assert np.isin(order[codes[order] == 0], [5, 11, 17]).sum() == 4


def test_frozen_layers_run_once_over_the_stored_views(small_base, monkeypatch):
    """Three views of 20 images and one of 12 go through the trunk; an epoch has 20 rows."""
    asked, fed = [], []
    spy(monkeypatch, trained, "answer", lambda given, _: asked.append(np.array(given[1])))
    spy(monkeypatch, steps, "_feed", lambda given, data: fed.append((given[0], given[1], data)))
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
    keras = backend.load_keras()
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


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve room")
def test_room_for_stored_views_is_taken_before_they_are_made(monkeypatch):
    """A disk that is too full is an error at the start, and not a crash in the middle."""
    kept = []

    def open_and_keep(**given):
        file = tempfile.TemporaryFile(**given)  # noqa: SIM115
        kept.append(os.dup(file.fileno()))
        return file

    monkeypatch.setattr(steps, "tempfile", SimpleNamespace(TemporaryFile=open_and_keep))
    monkeypatch.setattr(batches, "stream_views", lambda *_: iter(()))
    trunk = SimpleNamespace(output_shape=(None, 6, 6, 512))
    stored = steps._store(trunk, make_pixels(10)[0], make_network(), 0.0, 3, 1)
    taken = os.fstat(kept[0]).st_blocks * 512
    os.close(kept[0])
    assert stored.shape == (10, 3, 6, 6, 512)
    assert taken >= stored.nbytes


def test_images_that_are_not_changed_are_stored_too(small_base, monkeypatch):
    """Every view would be the same: frozen layers run once, whatever `views` says."""
    asked = []
    spy(monkeypatch, trained, "answer", lambda given, _: asked.append(len(given[1])))
    fit(make_network(Step(train="head", epochs=3, schedule="constant")))
    assert sum(asked) == 24 + 12
    asked.clear()
    fit(make_network(Step(train="all", epochs=1, schedule="constant")))
    assert asked == []


def test_stored_and_fresh_views_learn_the_same_from_plain_images(small_base):
    """Where images stay as they are and nothing is dropped, storing changes the speed alone."""
    step = Step(train="block2", epochs=2, schedule="constant", learning_rate=0.01)
    train = make_pixels(24)
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
    rows = Examples(rows.image_ids, pixels)
    recipe = make_network(
        Step(learning_rate=0.003, epochs=6), network="plain_cnn", weights="none", hidden=[8]
    )
    found = fit(recipe, (rows, codes), (rows, codes))
    assert trained.accuracy(found.model, rows, labels_of((rows, codes))) == 1.0


# -- what is no plain network ----------------------------------------------------------------------


def test_a_loss_that_is_no_number_names_epoch_and_way_out(small_base, tmp_path):
    """A rate far too large; the weights until then are kept, and fit the network."""
    recipe = make_network(
        Step(epochs=1, schedule="constant"),
        Step(epochs=30, schedule="constant", learning_rate=1.0),
        optimiser="sgd", weight_decay=1e4, weights="none", hidden=[8],
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
    with np.load(state / checkpoints.ARRAYS, allow_pickle=False) as arrays:
        kept = {name.removeprefix("kept/"): arrays[name] for name in arrays.files
                if name.startswith("kept/")}  # fmt: skip
    trained.fill(network, kept)
    calm = fit(make_network(Step(epochs=1, schedule="constant"), optimiser="sgd", weight_decay=1e4,
                            weights="none", hidden=[8]))  # fmt: skip
    for name, weight in trained.collect(network).items():
        np.testing.assert_array_equal(weight, weights_of(calm.model)[name])


def endless_base(name, size):
    """A backbone with a map for which TensorFlow has no room, and says so without its 10 s."""
    tf, keras = backend.load_tensorflow()[1], backend.load_keras()
    layers = keras.layers

    class Endless(layers.Layer):
        def call(self, x):
            if tf.executing_eagerly():  # where it is built, nothing is allocated
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
            return x

    pixels = keras.Input((size, size, 3), name="pixels")
    x = layers.Conv2D(16, 3, padding="same", name="block1_conv")(pixels)
    x = Endless(name="block1_pad")(x)
    return keras.Model(pixels, layers.GlobalAveragePooling2D(name="average")(x), name=name)


def test_a_batch_that_does_not_fit_into_memory_names_the_way_out(monkeypatch, capsys, tmp_path):
    """TensorFlow's own error; the command ends with exit code 1 and one line."""
    monkeypatch.setattr(backbones, "_build", endless_base)
    monkeypatch.setattr(backbones, "_load", lambda *_: None)
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
    rows = Examples(rows.image_ids, NoRoom(rows.x))
    step = Step(train="all" if network == "lenet" else "head", epochs=1, schedule="constant")
    weights = "none" if network == "lenet" else "imagenet"
    with pytest.raises(ModelError, match=r"batch of 8 does not fit into memory.*Lower"):
        fit(make_network(step, network=network, weights=weights), (rows, codes))

"""Training: the same bytes after any kill, composites, class weights, and clear errors."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core import backend
from stages.core.errors import ModelError
from stages.core.params import FeaturesParams
from stages.inputs.augmentation import Augmentation
from stages.inputs.reading import plain
from stages.models import backbones, composites, networks, trained
from stages.models.recipes import (
    CascadeRecipe,
    ClassifierRecipe,
    ClassifierSettings,
    EnsembleRecipe,
    Step,
)
from stages.training import checkpoints, fitting, steps
from tests.made import small_backbone
from tests.made.made_training import (
    CLASSES,
    FIVE,
    GREY,
    GROUPS,
    MADE,
    SIDE,
    by_member,
    fit,
    labels_of,
    make_five,
    make_frozen,
    make_network,
    make_pixels,
    no_rows,
    saved,
    spy,
    task,
    wrong_labels,
)

pytestmark = [
    pytest.mark.usefixtures("at_once"),
    pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning"),
]
EMBEDDED = ClassifierRecipe(
    kind="classifier", vectors="features", classifier="knn",
    features=FeaturesParams(backbone=MADE, size=32, layers=["block1", "top"]),
)  # fmt: skip


@pytest.fixture(scope="module")
def frozen():
    """A frozen backbone with a head, its history and its steps."""
    with pytest.MonkeyPatch.context() as patch:
        small_backbone.put_in_place(patch.setattr)
        yield fit(make_frozen(), make_pixels(120), make_pixels(40, 1))


def test_it_learns_and_tells_each_epoch(frozen):
    """Images that can be told apart are told apart; the history has a row for each epoch."""
    rows, codes = make_pixels(60, 2)
    history = frozen.history
    assert list(history.columns) == list(steps.HISTORY)
    assert history["epoch"].tolist() == list(range(1, len(history) + 1))
    assert set(history["member"]) == {"model"}
    assert set(history["step"]) == {1}
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]
    assert len(frozen.seconds) == len(history)
    predicted = trained.predict_images(frozen.model, rows).idxmax(axis=1)
    assert (predicted.to_numpy() == np.array(CLASSES)[codes]).mean() > 0.9


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    frozen, small_base, in_graphs, tmp_path
):
    """Training twice writes twice the same files."""
    again = fit(make_frozen(), make_pixels(120), make_pixels(40, 1))
    assert saved(frozen.model, tmp_path / "one") == saved(again.model, tmp_path / "two")
    pd.testing.assert_frame_equal(again.history, frozen.history)
    other = fit(make_frozen(epochs=1), make_pixels(120), make_pixels(40, 1), seed=6)
    assert other.history["loss"][0] != again.history["loss"][0]


def test_without_validation_all_epochs_run_and_it_is_said(small_base, caplog):
    """No image to validate on is allowed, because split.valid may be 0."""
    train = make_pixels(60)
    with caplog.at_level(logging.INFO):
        found = fit(make_frozen(epochs=3, patience=1), train, (no_rows(train[0]), []))
    assert len(found.history) == 3
    assert found.history[["val_loss", "val_accuracy"]].isna().all(axis=None)
    assert found.history["learning_rate"].tolist() == pytest.approx([0.05] * 3)
    assert found.steps[0]["kept_epoch"] == 3
    assert "no image to validate on; running all epochs" in caplog.text


def test_a_member_has_a_task_of_its_own(tmp_path):
    """Seeds follow the names of the members, not their order; each keeps its state apart."""
    whole = task(FIVE, seed=5, partial=tmp_path)
    first, second = whole.of("first", CLASSES), whole.of("second", CLASSES[:2])
    assert (first.classes, second.classes) == (CLASSES, CLASSES[:2])
    assert (first.partial, second.partial) == (tmp_path / "first", tmp_path / "second")
    assert len({whole.seed, first.seed, second.seed, task(FIVE, 6).of("first", CLASSES).seed}) == 4
    assert (first.inputs, first.weights_dir) == (whole.inputs, whole.weights_dir)
    assert task(FIVE, 5).of("first", CLASSES) == replace(first, partial=None)


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
    weights = fitting.class_weights(labels, list(BARCELONA), "binary")
    assert weights == pytest.approx(PUBLISHED, abs=5.1e-5)
    balanced = fitting.class_weights(labels, list(BARCELONA), "balanced")
    assert {name: weight * 11 / 2 for name, weight in balanced.items()} == pytest.approx(weights)


@given(st.lists(st.sampled_from(CLASSES), max_size=200))
def test_weights_of_classes_by_their_definitions(labels):
    """Balanced: every class the same share. Root: their roots. Both: a mean of 1 over the rows."""
    labels = labels + CLASSES
    found = {
        method: fitting.class_weights(labels, CLASSES, method)
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
        Step(train="head", epochs=20, schedule="constant", learning_rate=0.3), batch=12,
        dropout=0.0, label_smoothing=0.3,
    )  # fmt: skip
    pixels = make_pixels(12)
    smooth = fit(confident, pixels, pixels)
    targets = 0.7 * np.eye(3) + 0.1
    floor = -(targets[0] * np.log(targets[0])).sum()
    assert smooth.history["loss"].min() == pytest.approx(floor, rel=0.08)
    assert smooth.history["loss"].min() >= floor


# -- steps -----------------------------------------------------------------------------------------


def test_a_classifier_learns_the_first_hidden_layer(small_base, monkeypatch):
    """The SVM gets the trained network's numbers of the plain images, and gives the answers."""
    given = []
    spy(monkeypatch, fitting.classifiers, "fit", lambda one, _: given.append(one))
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
    expected = found.model.classifier.predict(trained.answer(hidden, test))
    np.testing.assert_allclose(found.model.predict(test), expected, rtol=1e-12)


@pytest.mark.parametrize("recipe", [EMBEDDED, GREY], ids=["features", "grey"])
def test_a_classifier_alone(small_base, recipe):
    """Plain images alone are learnt; loss and accuracy are those of its own probabilities."""
    train, valid = make_pixels(30), make_pixels(24, 1)
    for rows, codes in (train, valid) if recipe is GREY else ():  # grey level tells the class
        rows.x[:] = (rows.x * 0.1 + 80 * codes[:, None, None, None]).astype(np.uint8)
    found = fit(recipe, train, valid)
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
    n_columns = 4 + 5 if recipe is EMBEDDED else SIDE * SIDE
    assert found.model.classifier.arrays["mean"].shape == (n_columns,)


def test_a_classifier_of_features_looks_at_a_frozen_network(small_base, monkeypatch):
    """With its published weights, from the folder that is named; none of them learns."""
    loaded, given = [], []
    spy(monkeypatch, backbones, "_load", lambda one, _: loaded.append(one[1:]))
    spy(monkeypatch, fitting.classifiers, "fit", lambda one, _: given.append(one[1]))
    train = make_pixels(30)
    asked = replace(task(), weights_dir="weights")
    model = fitting.fit(EMBEDDED, train[0], no_rows(train[0]), labels_of(train), asked).model
    assert loaded == [(MADE, "weights")]
    network = small_backbone.build(MADE, SIDE)
    small_backbone.load(network, MADE, None)
    end = backend.load_keras().Model(network.input, network.get_layer("block1_relu").output)
    by_hand = np.hstack([
        end.predict(train[0].x, verbose=0).mean(axis=(1, 2)), network.predict(train[0].x, verbose=0)
    ])  # fmt: skip
    np.testing.assert_allclose(given[0], by_hand, rtol=1e-4, atol=1e-6)
    assert model.n_weights == network.count_params()
    assert not model.network.trainable_weights


def test_a_classifier_without_validation():
    train = make_pixels(30)
    empty = no_rows(train[0])
    found = fit(GREY, train, (empty, []))
    assert np.isnan(found.history["val_loss"][0])
    assert trained.accuracy(found.model, empty, labels_of(train)) is None


def test_a_cascade_end_to_end(small_base, tmp_path):
    """First: coarse classes; second: the group's and others; joined as computed by hand."""
    first = make_frozen(hidden=[], epochs=4, learning_rate=0.3, batch=8, dropout=0.0)
    recipe = CascadeRecipe(kind="cascade", groups=GROUPS, first=first, second=GREY)
    train, valid, test = (make_five(n, seed) for n, seed in ((100, 0), (25, 1), (50, 2)))
    labels = labels_of(train, valid, test, classes=FIVE)
    asked = task(FIVE)
    found = fitting.fit(recipe, by_member(train[0]), by_member(valid[0]), labels, asked)
    first, second = found.model.members["first"], found.model.members["second"]
    assert first.classes == ["blast", "lymphocyte", "monocyte", "neutrophil"]
    assert second.classes == ["band", "others", "segmented"]
    assert found.history["member"].tolist() == ["first"] * 4 + ["second"]
    assert [step["member"] for step in found.steps] == ["first", "second"]
    assert len(found.seconds) == 5
    coarse, fine = first.predict(test[0].x), second.predict(test[0].x)
    answers = trained.predict_images(found.model, by_member(test[0]))
    told = []
    for one, two in zip(coarse, fine, strict=True):
        said = first.classes[one.argmax()]
        if said == "neutrophil":
            fine_said = second.classes[two.argmax()]
            is_kept = fine_said == "others"
            said = ("band", "segmented")[two[[0, 2]].argmax()] if is_kept else fine_said
        told.append(said)
    assert answers.idxmax(axis=1).tolist() == told
    assert {"band", "segmented", "blast"} < set(told)
    assert trained.accuracy(found.model, by_member(test[0]), labels) > 0.75
    files = saved(found.model, tmp_path / "model")
    assert sorted(files) == [
        "card.json", "first/card.json", "first/weights.npz", "second/card.json",
        "second/classifier.npz",
    ]  # fmt: skip
    back = trained.predict_images(trained.load(tmp_path / "model"), by_member(test[0]))
    pd.testing.assert_frame_equal(back, answers)
    assert found.model.n_weights == first.n_weights == first.network.count_params()
    # A member does not depend on who is trained beside it.
    names = composites.merge(list(labels), GROUPS)
    alone = fitting.fit(
        recipe.first, train[0], valid[0], pd.Series(names, labels.index),
        asked.of("first", first.classes),
    )  # fmt: skip
    np.testing.assert_array_equal(alone.model.predict(test[0].x), coarse)


def test_a_cascade_that_does_not_fit_the_classes_is_refused():
    recipe = CascadeRecipe(kind="cascade", groups={"x": ["band", "stab"]}, first=GREY, second=GREY)
    rows, codes = make_five(20)
    with pytest.raises(ModelError, match=r"does not have: stab\. Classes: band, blast"):
        fitting.fit(
            recipe, by_member(rows), by_member(rows), labels_of((rows, codes), classes=FIVE),
            task(FIVE),
        )  # fmt: skip


def test_an_ensemble_end_to_end(small_base, tmp_path):
    """The plain mean of a network's probabilities and neighbours'."""
    members = {"net": make_frozen(hidden=[], epochs=3), "near": EMBEDDED}
    recipe = EnsembleRecipe(kind="ensemble", members=members)
    train, valid, test = make_pixels(60), make_pixels(24, 1), make_pixels(30, 2)
    found = fitting.fit(
        recipe, by_member(train[0], members), by_member(valid[0], members),
        labels_of(train, valid), task(partial=tmp_path / "partial"),
    )  # fmt: skip
    answers = trained.predict_images(found.model, by_member(test[0], members))
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
    real = checkpoints.Progress.save
    for n_states in kills:
        left = [n_states]

        def save(state, left=left):
            real(state)
            left[0] -= 1
            if not left[0]:
                raise Killed

        monkeypatch.setattr(checkpoints.Progress, "save", save)
        with pytest.raises(Killed):
            fit(recipe, partial=partial, **given)
    monkeypatch.setattr(checkpoints.Progress, "save", real)
    return fit(recipe, partial=partial, **given)


def war():
    """Parts whose labels are at war, so that a plateau comes soon."""
    train, valid = make_pixels(36), make_pixels(24, 1)
    return {"train": train, "valid": valid, "labels": wrong_labels(train, valid)}


def resumable():
    """Recipes with their rows, and after which epochs they are killed."""
    return {
        # It runs five epochs: the rate falls after the third, the stop comes after the fifth.
        "plateau, killed before the fall, after it, and when it had ended": (
            make_frozen(epochs=20, patience=2), [2, 1, 2], war,
        ),
        "stored views, killed between two steps and in the second": (
            make_network(
                Step(train="head", epochs=2, patience=1, stop_patience=2, learning_rate=0.05),
                Step(train="block2", epochs=2, schedule="cosine", learning_rate=0.01),
                views=2, augment=Augmentation(flips=True, noise=0.5), average=0.7,
                optimiser="adamw", hidden=[4], sampling="balanced",
            ),
            [2, 1], dict,
        ),
    }  # fmt: skip


@pytest.mark.parametrize("case", list(resumable()))
def test_a_killed_training_gives_the_bytes_of_a_calm_one(small_base, monkeypatch, tmp_path, case):
    """The other kinds of state (fresh views, all layers, statistics) are killed for real below."""
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
    if given is war:
        rates = calm.history["learning_rate"].tolist()
        assert rates == pytest.approx([0.05] * 3 + [0.005] * 2)
        assert calm.steps[0]["kept_epoch"] == 1


def test_a_finished_training_is_not_run_again(small_base, monkeypatch, tmp_path):
    """Killed between its last epoch and the stage's end: only what was kept is read."""
    step = Step(train="head", epochs=2, schedule="constant")
    recipe = make_network(step, step)
    first = fit(recipe, partial=tmp_path / "state")
    monkeypatch.setattr(trained, "answer", lambda *_: pytest.fail("the trunk ran"))
    again = fit(recipe, partial=tmp_path / "state")
    assert again.seconds == []
    assert saved(again.model, tmp_path / "one") == saved(first.model, tmp_path / "two")


def epochs_run(recipe, partial, **given):
    return len(fit(recipe, partial=partial, **given).seconds)


def test_the_state_of_another_training_is_not_taken_up(small_base, tmp_path, monkeypatch):
    """Other settings, seed, labels, rows or code: the epoch is run again; the same: it is not."""
    recipe, state = make_frozen(epochs=1), tmp_path / "state"
    asked = []

    def take_up(folder, key):
        """Whether this training goes on where the last one stopped; it is not run here."""
        asked.append((folder, key))
        raise Killed

    real = checkpoints.Progress.start
    monkeypatch.setattr(checkpoints.Progress, "start", take_up)

    def key_of(recipe=recipe, **given):
        with pytest.raises(Killed):
            fit(recipe, partial=state, **given)
        assert asked[-1][0] == state
        return asked[-1][1]

    train, valid = make_pixels(60), make_pixels(24, 1)
    others = [
        key_of(), key_of(make_frozen(epochs=1, dropout=0.2)), key_of(seed=6),
        key_of(valid=(valid[0], np.roll(valid[1], 1))), key_of(classes=[*CLASSES[::-1]]),
    ]  # fmt: skip
    for part, (rows, codes) in {"train": train, "valid": valid}.items():
        x = rows.x.copy()
        x[len(x) // 2 + 1, 0, 0, 0] += 1
        others.append(key_of(**{part: (replace(rows, x=x), codes)}))
    wide = make_frozen(epochs=1, augment=Augmentation(hide=0.5))
    shown = make_pixels(60, margin=4)
    hidden = [replace(shown[0], hidden=255 - shown[0].x), replace(shown[0], hidden=shown[0].x)]
    others += [key_of(wide, train=(rows, shown[1])) for rows in hidden]
    with monkeypatch.context() as patch:
        (tmp_path / "code").mkdir()
        (tmp_path / "code/training.py").write_text("# another version")
        patch.setattr(checkpoints, "__file__", str(tmp_path / "code/training/checkpoints.py"))
        others.append(key_of())
    assert len(set(others)) == len(others)
    assert key_of() == others[0]
    monkeypatch.setattr(checkpoints.Progress, "start", real)
    assert epochs_run(recipe, state) == 1
    assert epochs_run(recipe, state) == 0
    assert epochs_run(recipe, state, seed=6) == 1
    path = state / checkpoints.ARRAYS  # what else can be damaged is in test_checkpoints
    path.write_bytes(path.read_bytes()[:-50])
    assert epochs_run(recipe, state, seed=6) == 1


# One Python for two tests: TensorFlow is imported once, and forked before it runs.
CHILD = """
import os
import sys
from pathlib import Path
import tensorflow as tf
from stages.core import backend
from tests.made import small_backbone
from tests.training import test_fitting as tests
small_backbone.put_in_place(setattr)
learner = os.fork()
if not learner:
    tests.fit(tests.long_recipe(), partial=Path(sys.argv[1]))
    os._exit(0)
print(learner, flush=True)
print(os.waitstatus_to_exitcode(os.waitpid(learner, 0)[1]), flush=True)
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
backend.list_gpus = lambda: ["CPU:0", "CPU:1"]
print(backend.mirror(("CPU:0", "CPU:1")).num_replicas_in_sync)
tests.train_two(Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Where another process was killed while it learnt, and where one learnt on two devices."""
    folder = tmp_path_factory.mktemp("elsewhere")
    killed, two, said = folder / "killed", folder / "two", folder / "said"
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "2"}
    command = [sys.executable, "-c", CHILD, str(killed), str(two)]
    with (
        said.open("wb") as errors,
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as child,
    ):
        learner = int(child.stdout.readline() or 0)
        with suppress(ProcessLookupError):  # it ended by itself: what was told says how
            while learner and n_epochs_of(killed) < 2:
                os.kill(learner, 0)
                time.sleep(0.03)
            os.kill(learner or child.pid, signal.SIGKILL)
        told = child.stdout.read()
    assert told == f"{-signal.SIGKILL}\n2\n", said.read_text()[-2000:]
    assert child.returncode == 0, said.read_text()[-2000:]
    return killed, two


def long_recipe():
    """Many short epochs on fresh views, with all that has a state of its own."""
    return make_network(
        Step(train="all", epochs=14, schedule="cosine", learning_rate=0.01),
        weights="none", hidden=[4], norms=["hidden"], sampling="balanced", optimiser="adamw",
        average=0.9, dropout=0.3, augment=Augmentation(flips=True, noise=0.5, rotation=180),
    )  # fmt: skip


def test_a_training_killed_for_real_goes_on(small_base, in_graphs, elsewhere, tmp_path):
    """SIGKILL to a process that learns; another ends with the bytes of a calm run."""
    partial = elsewhere[0]
    reached = n_epochs_of(partial)
    assert 2 <= reached < 14
    resumed = fit(long_recipe(), partial=partial)
    assert len(resumed.seconds) == 14 - reached
    calm = fit(long_recipe())
    assert saved(resumed.model, tmp_path / "one") == saved(calm.model, tmp_path / "two")
    pd.testing.assert_frame_equal(resumed.history, calm.history, check_exact=True)


def n_epochs_of(partial):
    """Read the state while another process writes it."""
    try:
        return len(json.loads((partial / checkpoints.STATE).read_text())["history"])
    except FileNotFoundError:
        return 0


# -- several devices -------------------------------------------------------------------------------


def train_two(folder):
    """A head, and a whole network: two trainings, each with a state of its own."""
    step = Step(train="all", epochs=1, schedule="cosine", learning_rate=0.01)
    rows = {"train": make_pixels(60), "valid": make_pixels(24, 1)}
    recipes = {
        "head": make_frozen(epochs=1),
        "network": make_network(step, optimiser="adamw", average=0.9, dropout=0.3, batch=20),
    }
    for name, recipe in recipes.items():
        training_of_it = fit(recipe, partial=folder / name / "state", **rows)
        saved(training_of_it.model, folder / name / "model")
        training_of_it.history.to_json(folder / name / "history.json")


def test_two_devices_learn_what_one_does(small_base, elsewhere, tmp_path):
    """Two CPU devices stand in for two GPUs; one training after the other in the same process."""
    train_two(tmp_path / "one")
    for name in ("head", "network"):
        folders = (tmp_path / "one", elsewhere[1])
        one, two = (pd.read_json(folder / name / "history.json") for folder in folders)
        assert len(one) == len(two)
        assert abs(one["loss"].iloc[0] - two["loss"].iloc[0]) < 0.1
        assert abs(one["val_loss"].iloc[-1] - two["val_loss"].iloc[-1]) < 0.1
    assert trained.load(elsewhere[1] / "network" / "model").classes == CLASSES


def test_mixed_precision_where_there_is_a_gpu_and_never_without(small_base, monkeypatch, tmp_path):
    """A CPU stands in for the GPU: halves within, probabilities in full."""
    recipe = make_network(Step(train="all", epochs=1, schedule="constant"), precision="mixed")
    test = make_pixels(12, 2)[0]
    with monkeypatch.context() as patch:
        patch.setattr(backend, "list_gpus", lambda: ["CPU:0"])
        mixed = fit(recipe).model
    kinds = {layer.name: layer.compute_dtype for layer in mixed.network.layers}
    assert "float16" in kinds.values()
    assert kinds[mixed.network.layers[-1].name] == "float32"
    trained.save(mixed, tmp_path / "model")
    answers = trained.predict_images(mixed, test)
    pd.testing.assert_frame_equal(
        trained.predict_images(trained.load(tmp_path / "model"), test), answers, check_exact=True
    )
    plain = fit(recipe).model
    assert {layer.compute_dtype for layer in plain.network.layers} == {"float32"}
    assert np.abs(trained.predict_images(plain, test) - answers).to_numpy().max() < 0.05


# -- clear errors ----------------------------------------------------------------------------------


def test_a_class_without_training_rows_is_named_with_hospitals_and_way_out():
    """The class, the hospitals that were asked, and what to change."""
    with pytest.raises(
        ModelError, match=r"class 'platelet' has no image.*hospitals: munich.*split"
    ):
        fit(make_frozen(), classes=[*CLASSES, "platelet"])
    train = make_pixels(3)
    with pytest.raises(ModelError, match=r"class 'basophil' has no image.*hospitals: none"):
        fit(make_frozen(), (no_rows(train[0]), []))


def test_a_label_that_is_no_class_is_named():
    """Split and harmonise out of step are found before anything is learnt."""
    with pytest.raises(ModelError, match=r"no class: monocyte. Classes: basophil, eosinophil"):
        fit(make_frozen(), classes=CLASSES[:2])


@pytest.mark.parametrize("recipe", [make_frozen(), GREY], ids=["network", "classifier"])
def test_one_class_is_nothing_to_learn(recipe):
    """A classifier of one class is always right and of no use."""
    rows, _ = make_pixels(9)
    with pytest.raises(ModelError, match=r"nothing to tell apart.*\[basophil\]"):
        fit(recipe, (rows, np.zeros(9, int)), (no_rows(rows), []), classes=["basophil"])


def test_a_layer_that_is_not_there_is_named(small_base):
    with pytest.raises(ModelError, match=r"no layer or block 'block3'\. Did you mean 'block"):
        fit(make_network(Step(train="block3")))

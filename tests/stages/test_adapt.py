"""adapt: an unseen hospital by its own images and a few labels; null with a reason elsewhere."""

import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from stages import adapt
from stages.core import backend
from stages.core.errors import ModelError, TableError
from stages.core.params import InputsParams
from stages.core.tables import ADAPTED, IMAGES, PREDICTIONS, QUALITY, SPLIT, TRAINING
from stages.inputs import reading
from stages.models import classifiers, networks, rows, trained
from stages.models.recipes import ClassifierRecipe, EnsembleRecipe, NetworkRecipe, Step
from stages.splits import few_labels
from stages.training import batches, tuning
from tests.made import small_backbone
from tests.stages.cohort import ROOT, picture_rows, quality_rows, write_project, write_split

pytestmark = pytest.mark.filterwarnings("ignore:Even though the `tf.config:UserWarning")
CLASSES = ["basophil", "eosinophil", "monocyte"]
INPUTS = InputsParams(
    crop="centre", scale="hospital", half_side=1.5, white_balance=["none"], hide="nothing"
)
RECIPE = NetworkRecipe(
    kind="network", network="vgg19", size=32, weights="imagenet", steps=[Step(train="all")]
)
SIDE = 32


def encode(code, number, tint):
    """Noise in which a bright channel tells the class; `tint` brightens one more, everywhere."""
    pixels = np.random.default_rng([number, tint]).integers(0, 60, (SIDE, SIDE, 3), np.uint8)
    pixels[..., code] += 60
    pixels[..., tint] += 36
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def write_away(parts=("unseen",) * 12, labels=lambda number: number % 3):
    """Twelve patients with two images of each class, all with one channel too bright."""
    images = picture_rows("away", n_patients=len(parts), per_patient=6)
    numbers = range(len(images))
    images["bytes"] = [encode(number % 3, number, tint=1) for number in numbers]
    IMAGES.write(images, "away")
    QUALITY.write(quality_rows(images["image_id"]), "away")
    split = images.assign(
        group="away/" + images["patient"], part=np.repeat(parts, 6), left_out_reason=None,
        label=[CLASSES[labels(number)] for number in numbers],
    )  # fmt: skip
    write_split(split)


def write_home():
    """Thirty images of each class to learn from; their other bright channel is another one."""
    ids = [f"{'home' if number < 60 else 'other'}/{number:02d}.png" for number in range(90)]
    frame = pd.DataFrame({"image_id": ids, "hospital": "home", "group": ids, "twin_group": ids})
    frame["label"] = [CLASSES[number % 3] for number in range(90)]
    frame["part"] = "train"
    frame["bytes"] = [encode(number % 3, number, tint=0) for number in range(90)]
    whole = {"centre_x": None, "centre_y": None, "radius": None, "cell_mask": None}
    TRAINING.write(frame.assign(white_r=255.0, white_g=255.0, white_b=255.0, **whole))


def write_predictions(probabilities):
    split = SPLIT.read("away")
    table = split.loc[split["part"] == "unseen", ["image_id", "hospital", "part"]]
    p = np.broadcast_to(probabilities, (len(table), 3))
    table = table.assign(predicted=np.array(CLASSES)[p.argmax(axis=1)])
    PREDICTIONS.write(table.assign(**{f"p_{n}": p[:, i] for i, n in enumerate(CLASSES)}), "away")


def save_network():
    """A network that is right at home, by levels of channels that are wrong at away."""
    network = networks.build(RECIPE, (SIDE, SIDE, 3), 3, None, pretrained=True)
    head = network.layers[-1]
    features = backend.load_keras().Model(network.inputs[0], head.input)
    pixels = reading.read_pixels(reading.stream_training("train"), INPUTS, SIDE).x
    levels = trained.answer(features, pixels).mean(axis=0)
    kernel = np.zeros(head.kernel.shape)
    kernel[:3] = 10 * np.eye(3)  # the first three features are the channels
    head.set_weights([kernel, -levels @ kernel])
    model = trained.SingleModel(CLASSES, RECIPE, INPUTS, (SIDE, SIDE, 3), network)
    trained.save(model, adapt.MODEL)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the stages before leave, adapt run once with one and five labels a class."""
    folder = tmp_path_factory.mktemp("adapt")
    tf = backend.load_tensorflow()[1]
    tf.config.run_functions_eagerly(True)  # to compile tiny networks takes most of the time
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("SMEARFLOW_WORKERS", "1")
        small_backbone.put_in_place(patch.setattr)
        write_project(folder, ("home", "away"))
        set_rule()
        write_home()
        write_away()
        write_predictions([0.1, 0.8, 0.1])
        save_network()
        adapt.main("away")
    yield folder
    tf.config.run_functions_eagerly(False)


def set_rule(labels=(1, 5)):
    path = Path("params.yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["on_site"] = {"labels": list(labels), "views": 300, "learning_rate": 0.03}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


@pytest.fixture
def project(made, tmp_path, monkeypatch):
    """A copy, to be run again."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    small_backbone.put_in_place(monkeypatch.setattr)
    return tmp_path


def told(hospital="away"):
    return json.loads(Path(f"metrics/adapt/{hospital}.json").read_text())


def read_outputs(hospital="away"):
    files = [ADAPTED.at(hospital), Path(f"metrics/adapt/{hospital}.json")]
    files += sorted((adapt.TUNED_MODELS / hospital).iterdir())
    return {str(path): path.read_bytes() for path in files}


def answer(folder, method):
    """The class that a saved network calls each image that a method is tested on."""
    wanted = set(ADAPTED.read("away").query("method == @method")["image_id"])
    pictures = reading.read_pixels(reading.stream_pictures("away", INPUTS, wanted), INPUTS, SIDE)
    return trained.predict_images(trained.load(folder), pictures).idxmax(axis=1)


def share_right(called):
    return (called == SPLIT.read("away").set_index("image_id")["label"].loc[called.index]).mean()


def test_a_few_labels_mend_a_shifted_hospital(project):
    """A third is called wrongly before; five labels a class teach the network the other level."""
    found = ADAPTED.read("away").query("method == 'labels_5'").set_index("image_id")["predicted"]
    assert share_right(answer(adapt.MODEL, "labels_5")) < 0.7
    assert share_right(found) > 0.9
    methods = told()["methods"]
    assert list(methods) == ["calibrated", "labels_1", "labels_5"]
    assert methods["labels_5"] == {"n_labelled": dict.fromkeys(CLASSES, 5)}
    assert methods["calibrated"] == {}


def test_labelled_patients_are_not_tested_and_nobody_else_is_left_out(project):
    """Two images of each class a patient: three of twelve give five; calibrated tests all."""
    split = SPLIT.read("away").set_index("image_id")
    tested = ADAPTED.read("away").groupby("method")["image_id"].apply(set)
    assert tested["calibrated"] == set(split.index)
    assert len(tested["labels_1"]) == 66
    assert len(tested["labels_5"]) == 54
    assert tested["labels_5"] < tested["labels_1"]
    assert not ADAPTED.read("away")["image_id"].str.startswith("home").any()
    for method in ("labels_1", "labels_5"):
        assert (split.loc[sorted(tested[method]), "group"].value_counts() == 6).all()


def test_the_network_of_most_labels_is_kept_and_answers_as_the_table_says(project):
    folder = adapt.TUNED_MODELS / "away"
    assert trained.read_card(folder).recipe.sampling == "balanced_by_hospital"
    found = ADAPTED.read("away").query("method == 'labels_5'")["predicted"]
    assert answer(folder, "labels_5").tolist() == found.tolist()


def test_the_same_input_gives_the_same_bytes_and_other_labels_are_of_no_account(project):
    """Labels of tested images are turned round: what the network learnt, and says, is the same."""
    before = read_outputs()
    split = SPLIT.read("away")
    first = trained.load(adapt.TUNED_MODELS / "away")
    drawn = few_labels.draw(split, [1, 5], adapt.seed_for(demo_seed(), "adapt", "away"))[5]
    assert first.classes == CLASSES
    rest = split["image_id"].isin(drawn.tested)
    turned = split["label"].map(dict(zip(CLASSES, np.roll(CLASSES, 1), strict=True)))
    SPLIT.write(split.assign(label=turned.where(rest, split["label"])), "away")
    adapt.main("away")
    assert read_outputs() == before


def demo_seed():
    return yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["seed"]


def test_half_of_the_views_are_of_the_new_hospital(project, monkeypatch):
    """However many hospitals trained: of two old ones and a new one, a half and not a third."""
    drawn = []
    real = batches.draw_order

    def listen(targets, image_ids, *others):
        order = real(targets, image_ids, *others)
        drawn.append([image_ids[row].split("/")[0] for row in order])
        return order

    monkeypatch.setattr(batches, "draw_order", listen)
    monkeypatch.setattr(trained, "predict_images", stop)
    set_rule([5])
    with pytest.raises(InterruptedError):
        adapt.main("away")
    chosen, *epochs = drawn
    assert set(chosen) == {"home", "other"}
    for epoch in epochs:
        assert epoch.count("away") == pytest.approx(len(epoch) / 2, abs=3)


def test_pixels_are_prepared_before_the_model_is_loaded(project, monkeypatch):
    """A process that is forked while TensorFlow runs may wait for ever."""
    order = []

    def note(module, name):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: order.append(name) or real(*a, **k))

    set_rule([1])
    note(reading, "read_pixels")
    note(trained, "load")
    monkeypatch.setattr(tuning, "_tune", stop)
    with pytest.raises(InterruptedError):
        adapt.main("away")
    assert order == ["read_pixels", "read_pixels", "load"]


def stop(*_):
    raise InterruptedError


CODE = """
import sys
from stages import adapt
adapt.main("away")
print(sorted({"tensorflow", "keras"} & set(sys.modules)))
"""


def run_alone():
    """In a Python of its own, which must not load TensorFlow."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def kept():
    return json.loads((adapt.TUNED_MODELS / "away" / "none.json").read_text())["reason"]


def test_without_labels_only_the_calibration_is_written_and_no_network_is_loaded(project):
    set_rule([])
    (adapt.MODEL / trained.WEIGHTS).unlink()
    run_alone()
    assert told() == {"methods": {"calibrated": {}}}
    assert set(ADAPTED.read("away")["method"]) == {"calibrated"}
    assert kept() == adapt.NO_LABELS


@pytest.mark.parametrize(
    ("parts", "labels", "reason"),
    [
        (("unseen",), lambda number: number % 3, few_labels.NOTHING_LEFT),
        (("unseen",) * 4, lambda _: 0, few_labels.ONE_CLASS),
    ],
)
def test_where_nothing_can_be_tuned_there_is_a_reason(project, parts, labels, reason):
    """One patient, one class: a reason for each number, and the calibration all the same."""
    write_away(parts, labels)
    write_predictions([0.1, 0.8, 0.1])
    adapt.main("away")
    assert told()["methods"] == {
        "calibrated": {}, "labels_1": {"reason": reason}, "labels_5": {"reason": reason},
    }  # fmt: skip
    assert set(ADAPTED.read("away")["method"]) == {"calibrated"}
    assert kept() == reason


def test_one_image_is_no_crash(project):
    write_away(("unseen",))
    SPLIT.write(SPLIT.read("away").iloc[:1], "away")
    write_predictions([0.1, 0.8, 0.1])
    adapt.main("away")
    assert told()["methods"]["labels_5"] == {"reason": few_labels.ONE_CLASS}
    assert len(ADAPTED.read("away")) == 1


def test_a_hospital_that_trains_or_has_no_label_has_a_reason(project):
    """No image of it is unseen; its table is there, and empty."""
    write_away(("train", "test") * 6)
    write_predictions([0.1, 0.8, 0.1])
    run_alone()
    assert told() == {"reason": adapt.NOT_UNSEEN}
    assert ADAPTED.read("away").empty
    assert kept() == adapt.NOT_UNSEEN


def test_a_model_that_is_no_network_is_calibrated_alone(project):
    recipe = ClassifierRecipe(kind="classifier", vectors="grey", size=32, classifier="knn")
    card = trained.read_card(adapt.MODEL).model_copy(update={"recipe": recipe})
    (adapt.MODEL / trained.CARD).write_text(card.model_dump_json(), encoding="utf-8")
    adapt.main("away")
    assert told()["methods"]["labels_5"]["reason"].startswith("only a network is tuned")
    assert set(ADAPTED.read("away")["method"]) == {"calibrated"}


def test_of_an_ensemble_the_network_goes_on_learning_and_the_rest_stays(project):
    """What is kept is an ensemble again, and it answers as the table says."""
    network = trained.load(adapt.MODEL)
    grey = ClassifierRecipe(kind="classifier", vectors="grey", size=SIDE, classifier="knn")
    home = reading.read_pixels(reading.stream_training("train"), INPUTS, SIDE)
    labels = TRAINING.read().set_index("image_id")["label"].loc[home.image_ids].tolist()
    known = classifiers.fit(grey, classifiers.vectorise(grey, home.x), labels, CLASSES, 0)
    recipe = EnsembleRecipe(kind="ensemble", members={"net": RECIPE, "grey": grey})
    members = {
        "net": network,
        "grey": trained.SingleModel(CLASSES, grey, INPUTS, (SIDE, SIDE, 3), None, known),
    }
    trained.save(trained.CompositeModel(CLASSES, recipe, INPUTS, members), adapt.MODEL)
    set_rule([5])
    adapt.main("away")
    folder = adapt.TUNED_MODELS / "away"
    same = [
        (folder / path).read_bytes() == (adapt.MODEL / path).read_bytes()
        for path in ("grey/classifier.npz", "net/weights.npz")
    ]
    assert same == [True, False]
    tested = ADAPTED.read("away").query("method == 'labels_5'")["image_id"]
    rows_of = rows.read(
        recipe, partial(reading.stream_pictures, "away", INPUTS, set(tested)), INPUTS, True
    )
    found = trained.predict_images(trained.load(folder), rows_of).idxmax(axis=1)
    table = ADAPTED.read("away").query("method == 'labels_5'").set_index("image_id")["predicted"]
    assert found.to_dict() == table.to_dict()
    moved = trained.predict_images(trained.load(folder / "net"), rows_of["net"]).idxmax(axis=1)
    assert share_right(moved) > 0.9


def test_the_calibration_moves_the_means_towards_even_shares(project):
    """Two thirds are called eosinophil by a hair, the rest too: three tenths of the way tell."""
    split = SPLIT.read("away")
    p = np.where(np.arange(len(split))[:, None] % 2, [0.41, 0.44, 0.15], [0.05, 0.9, 0.05])
    write_predictions(p)
    set_rule([])
    adapt.main("away")
    called = ADAPTED.read("away")["predicted"]
    assert called.tolist() == ["eosinophil", "basophil"] * 36


@pytest.mark.parametrize("table", [IMAGES, QUALITY])
def test_a_picture_that_is_gone_is_named(project, table):
    table.write(table.read("away").iloc[:-30], "away")
    before = ADAPTED.at("away").read_bytes()
    with pytest.raises(TableError, match=r"no row of \d+ pictures \(away/.*dvc repro"):
        adapt.main("away")
    assert ADAPTED.at("away").read_bytes() == before


def test_answers_of_another_model_stop(project):
    PREDICTIONS.write(PREDICTIONS.read("away").rename(columns={"p_monocyte": "p_blast"}), "away")
    with pytest.raises(TableError, match=r"other classes than data/model.*dvc repro"):
        adapt.main("away")
    (adapt.MODEL / trained.CARD).unlink()
    with pytest.raises(ModelError, match=r"card.json is missing.*dvc repro"):
        adapt.main("away")

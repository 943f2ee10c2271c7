"""predict: a model's answers for one hospital's test images; no label is read."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from stages import predict
from stages.core.errors import ModelError, TableError
from stages.core.params import InputsParams
from stages.core.tables import IMAGES, PREDICTIONS, QUALITY, SPLIT
from stages.inputs import reading
from stages.models import rows, trained
from stages.models.recipes import ClassifierRecipe, NetworkRecipe, Step
from stages.training import fitting
from tests.stages.cohort import KNN_RECIPE, ROOT, picture_rows, quality_rows, write_split

CLASSES = ["basophil", "monocyte"]
INPUTS = InputsParams(
    crop="centre", scale="hospital", half_side=1.5, white_balance=["none", "white_point"],
    hide="nothing",
)  # fmt: skip
# Patient by patient; half of `here` learns, `home` validates, `only` learns, `away` is unseen.
PARTS = {
    "here": ("train", "train", "test", "left_out"),
    "home": ("train", "valid", "train", "train"),
    "only": ("train", "train", "left_out", "train"),
    "away": ("unseen",) * 4,
}


def write_hospital(hospital):
    """Sixteen pictures; an odd number is bright, and bright ones are monocytes."""
    images = picture_rows(hospital, n_patients=4, per_patient=4)
    numbers = range(len(images))
    images["bytes"] = [encode(number) for number in numbers]
    IMAGES.write(images, hospital)
    QUALITY.write(quality_rows(images["image_id"]), hospital)
    split = images.assign(
        group=images["patient"], label=[CLASSES[number % 2] for number in numbers],
        part=[PARTS[hospital][number // 4] for number in numbers], left_out_reason=None,
    )  # fmt: skip
    write_split(split)


def encode(number):
    rng = np.random.default_rng(number)
    grey = 60 + 120 * (number % 2) + rng.integers(0, 20, (32, 32, 3))
    return cv2.imencode(".png", grey.astype(np.uint8))[1].tobytes()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Three hospitals' tables, and neighbours that learnt from the training part of one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMEARFLOW_WORKERS", "1")
    for hospital in PARTS:
        write_hospital(hospital)
    recipe = ClassifierRecipe(**KNN_RECIPE)
    learnt = reading.read_split(["home"], ["train", "valid"], ["image_id", "label", "part"])
    read = {
        part: rows.read(
            recipe,
            partial(reading.stream_pictures, "home", INPUTS, set(own["image_id"])),
            INPUTS,
            plain_only=False,
        )
        for part, own in learnt.groupby("part")
    }
    labels = learnt.set_index("image_id")["label"]
    task = fitting.Task(CLASSES, INPUTS, 1)
    found = fitting.fit(recipe, read["train"], read["valid"], labels, task)
    trained.save(found.model, predict.MODEL)
    return tmp_path


def run(hospital):
    predict.main(hospital)
    return PREDICTIONS.at(hospital).read_bytes()


@pytest.mark.parametrize("hospital", ["here", "home", "away"])
def test_images_that_taught_nothing_are_called(project, hospital):
    """One row each with its part, the likeliest class and the probabilities of all; no label."""
    run(hospital)
    found = PREDICTIONS.read(hospital).set_index("image_id")
    split = SPLIT.read(hospital).set_index("image_id")
    scored = split[split["part"].isin(["valid", "test", "unseen"])]
    assert found.index.tolist() == scored.index.tolist()
    assert found["part"].tolist() == scored["part"].tolist()
    assert found["predicted"].tolist() == scored["label"].tolist()
    assert list(found.columns) == ["hospital", "part", "predicted", "p_basophil", "p_monocyte"]
    p = found[["p_basophil", "p_monocyte"]]
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert (p.idxmax(axis=1) == "p_" + found["predicted"]).all()


def test_no_label_is_read(project):
    """The same bytes where the split has no column of labels at all, and no other table has one."""
    before = run("here")
    split = SPLIT.read("here").drop(columns=["label", "group", "twin_group"])
    split.to_parquet(SPLIT.at("here"))
    images = IMAGES.read("here")
    IMAGES.write(images.assign(published_label=None, expert_1=None, diagnosis="of nobody"), "here")
    assert not Path("data/labels.parquet").exists()
    assert run("here") == before


def test_the_tables_of_other_hospitals_are_not_opened(project):
    """What is added elsewhere makes nothing here run again."""
    before = run("away")
    for table in (IMAGES, QUALITY, SPLIT):
        for other in ("here", "home", "only"):
            table.at(other).write_bytes(b"no parquet")
    assert run("away") == before


def test_a_hospital_without_test_images_gets_an_empty_table_without_tensorflow(project):
    """Of the model's classes in their order; the weights of the network need not be there."""
    recipe = NetworkRecipe(kind="network", network="lenet", size=32, steps=[Step()])
    card = {"classes": ["y", "x"], "input_shape": [32, 32, 3], "inputs": INPUTS.model_dump()}
    (predict.MODEL / trained.CARD).write_text(json.dumps(card | {"recipe": recipe.model_dump()}))
    code = """
import sys
from stages import predict
predict.main("only")
print(sorted({"tensorflow", "keras"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    found = PREDICTIONS.read("only")
    assert found.empty
    assert list(found.columns) == [*PREDICTIONS.schema.names, "p_y", "p_x"]


def test_pixels_are_prepared_before_the_model_is_loaded(project, monkeypatch):
    """A process that is forked while TensorFlow runs may wait for ever."""
    order = []
    for module, name in ((reading, "read_pixels"), (trained, "load")):
        monkeypatch.setattr(module, name, remember(order, name, getattr(module, name)))
    run("away")
    assert order == ["read_pixels", "load"]


def remember(order, name, function):
    def call(*arguments):
        order.append(name)
        return function(*arguments)

    return call


def test_the_inputs_are_those_that_the_model_learnt_from(project, monkeypatch):
    """Not those of params.yaml, which is not there."""
    asked = []
    real = reading.stream_pictures

    def listen(hospital, rule, wanted):
        asked.append(rule)
        return real(hospital, rule, wanted)

    monkeypatch.setattr(reading, "stream_pictures", listen)
    run("here")
    assert asked == [INPUTS]
    assert not Path("params.yaml").exists()


@pytest.mark.parametrize("table", [IMAGES, QUALITY])
def test_a_picture_that_is_gone_is_named(project, table):
    """And nothing is written."""
    table.write(table.read("away").iloc[:-1], "away")
    with pytest.raises(TableError, match=r"no row of 1 pictures \(away/p03/3.jpg\).*dvc repro"):
        predict.main("away")
    assert not PREDICTIONS.at("away").exists()


def test_a_model_that_is_gone_is_named(project):
    (predict.MODEL / "classifier.npz").unlink()
    with pytest.raises(ModelError, match=r"classifier.npz is missing.*dvc repro"):
        predict.main("away")
    (predict.MODEL / trained.CARD).unlink()
    with pytest.raises(ModelError, match=r"card.json is missing.*dvc repro"):
        predict.main("away")
    assert not PREDICTIONS.at("away").exists()


def test_probabilities_are_the_mean_over_the_colour_corrections(project):
    """Each image is one row, whatever the number of its views."""
    run("away")
    found = PREDICTIONS.read("away").set_index("image_id")["p_monocyte"]
    model = trained.load(predict.MODEL)
    wanted = set(found.index)
    examples = reading.read_pixels(reading.stream_pictures("away", INPUTS, wanted), INPUTS, 32)
    each = pd.Series(model.predict(examples.x)[:, 1], examples.image_ids)
    assert len(each) == 2 * len(found)
    expected = each.groupby(level=0).mean()
    np.testing.assert_allclose(found, expected[found.index])
